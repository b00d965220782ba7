"""A structured answer that is passed on while it comes, and judged when it is whole."""

from collections.abc import Callable, Sequence
from functools import partial

from llm_server.contract import (
    Answer,
    Choice,
    Chunk,
    ErrorKind,
    Event,
    Finish,
    ReasoningDelta,
    RefusalDelta,
    ServerError,
    Text,
    TextDelta,
    ToolDelta,
    Usage,
    fold,
)
from llm_server.contract.answers import CONTENT
from llm_server.structured.growing import Growing, Verbatim
from llm_server.structured.judging import Judge, Judging, Verdict, new_call_id
from llm_server.structured.problems import Problem

_Content = TextDelta | ToolDelta | ReasoningDelta | RefusalDelta

_END: frozenset[type] = frozenset({Finish})
_SAYING: frozenset[type] = frozenset({*CONTENT, Finish})


class Broken(Exception):  # noqa: N818 - it carries a verdict; the error is made of it
    """The stream ended in an answer without the form."""

    def __init__(self, verdict: Verdict) -> None:
        super().__init__("the streamed answer is not valid")
        self.verdict = verdict


class Passing:
    """Passes one stream on. A choice is judged before its end is told: nothing invalid ever ends well.

    Where the caller gets what the model says as it is said, chunks go on untouched, frames included.
    Otherwise the answer is said again as far as it is certain.

    What comes before the first content is held back with it: an answer that turns out to be wrong before
    anything of it was said can still be replaced by another.

    Args:
        judge: who judges.
        hold_calls: whether calls of tools are held until they are judged; text goes on as it comes.

    Attributes:
        usage: the tokens told so far.
        broken: the verdict on an answer that is not valid; no more goes on.
        said: whether something went on already, which cannot be taken back.
        verdicts: those on all other choices that are complete.
    """

    def __init__(self, judge: Judging, *, hold_calls: bool = False) -> None:
        self.verdicts: list[Verdict] = []
        self._straight = judge.as_said
        self._new_line: Callable[[], _Line] = (
            partial(_Retold, judge, self.verdicts)
            if isinstance(judge, Judge) and not self._straight
            else partial(_Line, judge, self.verdicts)
        )
        self._lines: dict[int, _Line] = {}
        self._held: list[Chunk] = []
        self._until = _SAYING
        self._hold_calls = hold_calls
        self.said = False
        self.usage = self._told = Usage()
        self.broken: Verdict | None = None

    def feed(self, answer: Answer) -> Sequence[Chunk]:
        """Return what the caller is told at ``answer``."""
        if not isinstance(answer, Chunk):
            raise ServerError(ErrorKind.INTERNAL, "Internal error.", detail="not a chunk")
        for event in answer.events:
            if type(event) is Usage:
                self.usage = event
        if self.broken is not None:
            return ()
        try:
            chunk = self._passed(answer)
        except Broken as broken:
            self.broken = broken.verdict
            return ()
        kinds = {type(event) for event in chunk.events}
        if self._hold_calls and ToolDelta in kinds:
            self._until = _END
        elif self.said and self._until is _SAYING:
            self._told = self.usage
            return (chunk,)
        self._held.append(chunk)
        if self._until.isdisjoint(kinds):
            return ()
        told, self._held, self._until, self.said = self._held, [], _SAYING, True
        self._told = self.usage
        return told

    @property
    def untold(self) -> Usage:
        """The tokens that the caller has not been told of."""
        return self.usage - self._told

    def _passed(self, chunk: Chunk) -> Chunk:
        told: list[Event] = []
        for event in chunk.events:
            if isinstance(event, Finish):
                told += self._line(event.index).finish(event)
            elif isinstance(event, CONTENT):
                told += self._line(event.index).add(event)
            else:
                told.append(event)
        return chunk if self._straight else Chunk(tuple(told))

    def _line(self, index: int) -> "_Line":
        if index not in self._lines:
            self._lines[index] = self._new_line()
        return self._lines[index]


class _Line:
    """One choice that is passed on as it is."""

    lenient = False

    def __init__(self, judge: Judging, verdicts: list[Verdict]) -> None:
        self._judge = judge
        self._verdicts = verdicts
        self._events: list[Event] = []

    def add(self, event: _Content) -> list[Event]:
        """Note content; return what is told instead."""
        self._events.append(event)
        return []

    def finish(self, event: Finish) -> list[Event]:
        """Judge the whole choice; return what is told instead of its end."""
        choice = _choice(self._events, event)
        verdict = self._judge.verdict(choice, lenient=self.lenient)
        if verdict.valid and not self.lenient and verdict.choice is not choice:
            verdict = _misplaced(verdict)
        if verdict.outcome == "invalid":
            raise Broken(verdict)
        self._verdicts.append(verdict)
        return self._ended(event, verdict)

    def _ended(self, event: Finish, verdict: Verdict) -> list[Event]:
        del verdict
        return [event]


class _Retold(_Line):
    """One choice that is told in another form than the model's."""

    lenient = True

    def __init__(self, judge: Judge, verdicts: list[Verdict]) -> None:
        super().__init__(judge, verdicts)
        self._demand, self._words = judge.demand, judge.words
        self._method = judge.method
        held = judge.method.constrained and judge.method.direct and not judge.demand.bare
        self._growing = Verbatim() if held else Growing(judge.method, bare=judge.demand.bare)
        self._id = ""
        self._part = 0
        self._source: int | None = None

    def add(self, event: _Content) -> list[Event]:
        super().add(event)
        if self._source is None:
            self._part = event.part + isinstance(event, ReasoningDelta)
        if isinstance(event, TextDelta):
            return [] if self._method.calls else self._grown(event.text, event)
        if isinstance(event, ToolDelta) and self._method.calls:
            first = self._source in {None, event.part}
            return self._grown(event.arguments, event) if first else []
        return [event]

    def _grown(self, text: str, event: TextDelta | ToolDelta) -> list[Event]:
        self._source = self._part = event.part
        return self._said(self._growing.grow(text), event.index)

    def _said(self, text: str, index: int) -> list[Event]:
        if not text:
            return []
        tool = self._demand.tool
        if tool is None:
            return [TextDelta(text, self._part, index)]
        if self._id:
            return [ToolDelta(self._part, arguments=text, index=index)]
        self._id = new_call_id()
        return [ToolDelta(self._part, self._id, tool.name, text, index)]

    def _ended(self, event: Finish, verdict: Verdict) -> list[Event]:
        choice = verdict.choice
        end = Finish(choice.finish, event.index, event.stop_sequence)
        if not verdict.valid:
            unsaid = "" if self._growing.said or verdict.outcome == "truncated" else choice.text
            return [*([TextDelta(unsaid, self._part, event.index)] if unsaid else []), end]
        answers = self._words(choice)
        rest = self._growing.rest(answers)
        if rest is None:
            raise Broken(_misplaced(verdict))
        return [*self._said(rest, event.index), end]


def _choice(events: list[Event], end: Finish) -> Choice:
    """Return the choice that ``events`` told; the usual one, a text, without the work that others need."""
    if events and all(type(event) is TextDelta and not event.logprobs for event in events):
        text = "".join([event.text for event in events if type(event) is TextDelta])
        return Choice(
            index=end.index, parts=(Text(text),), finish=end.reason, stop_sequence=end.stop_sequence
        )
    return fold([Chunk((*events, end))]).choices[0]


def _misplaced(verdict: Verdict) -> Verdict:
    """Return the verdict on an answer that is valid but was not said where, or as, it could be passed on."""
    problem = Problem(
        "", "stream", "an answer in the form in which it is streamed", "one that had to be rewritten"
    )
    return Verdict(outcome="invalid", choice=verdict.choice, problems=(problem,), raw_text=verdict.raw_text)
