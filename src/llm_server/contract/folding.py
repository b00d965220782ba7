"""The one meaning of a stream: ``fold`` makes the whole answer of it, ``unfold`` is its inverse."""

from collections import defaultdict
from collections.abc import Iterable

from msgspec import Raw, json

from llm_server.contract.answers import (
    CONTENT,
    Choice,
    Chunk,
    Completion,
    Event,
    Finish,
    ReasoningDelta,
    RefusalDelta,
    Started,
    TextDelta,
    ToolDelta,
    Usage,
)
from llm_server.contract.errors import ErrorKind, ServerError
from llm_server.contract.messages import Refusal, Text, Thinking, ToolCall

_Delta = TextDelta | ReasoningDelta | ToolDelta | RefusalDelta
_Part = Text | Thinking | ToolCall | Refusal
_NOTHING = Raw(b"")


class _Growing:
    """A choice while its deltas arrive: deltas by part, in order of first appearance."""

    def __init__(self) -> None:
        self.parts: defaultdict[int, list[_Delta]] = defaultdict(list)
        self.finish: Finish | None = None

    def whole(self, index: int) -> Choice:
        finish = self.finish
        if finish is None:
            message = "The stream ended before the answer was complete."
            raise ServerError(ErrorKind.UPSTREAM_TRUNCATED, message)
        return Choice(
            index=index,
            parts=tuple([_join(deltas) for deltas in self.parts.values()]),
            finish=finish.reason,
            stop_sequence=finish.stop_sequence,
            logprobs=self._logprobs(),
        )

    def _logprobs(self) -> Raw:
        """Join OpenAI's logprobs objects: lists of tokens under the same names, one after the other."""
        told = [
            delta.logprobs
            for deltas in self.parts.values()
            for delta in deltas
            if type(delta) is TextDelta and delta.logprobs
        ]
        joined: dict[str, list[object] | None] = {}
        for each in told:
            for name, tokens in json.decode(each, type=dict[str, list[object] | None]).items():
                joined[name] = (joined.get(name) or []) + tokens if tokens else joined.get(name)
        return Raw(json.encode(joined)) if joined else _NOTHING


def _join(deltas: list[_Delta]) -> _Part:
    first = deltas[0]
    if type(first) is ToolDelta and len(deltas) == 1:
        return ToolCall(first.id, first.name, first.arguments)
    if isinstance(first, ToolDelta):
        calls = [delta for delta in deltas if isinstance(delta, ToolDelta)]
        name = "".join(call.name for call in calls)
        identity = next((call.id for call in calls if call.id), "")
        return ToolCall(identity, name, "".join(call.arguments for call in calls))
    text = "".join([delta.text for delta in deltas if not isinstance(delta, ToolDelta)])
    if isinstance(first, ReasoningDelta):
        thoughts = [delta for delta in deltas if isinstance(delta, ReasoningDelta)]
        signature = "".join(thought.signature for thought in thoughts)
        return Thinking(text=text, signature=signature, redacted=first.redacted)
    return Refusal(text) if isinstance(first, RefusalDelta) else Text(text)


def fold(chunks: Iterable[Chunk]) -> Completion:
    """Return the whole answer that a finished stream told.

    Raises:
        ServerError: ``UPSTREAM_TRUNCATED`` when a choice never finished.
    """
    started, usage = Started(), Usage()
    choices: defaultdict[int, _Growing] = defaultdict(_Growing)
    for chunk in chunks:
        for event in chunk.events:
            if isinstance(event, CONTENT):  # first: most are
                choices[event.index].parts[event.part].append(event)
            elif isinstance(event, Finish):
                choices[event.index].finish = event
            elif isinstance(event, Usage):
                usage = event
            else:
                started = event
    indices = sorted(choices) or [0]  # an answer without choices is not complete either
    whole = tuple([choices[index].whole(index) for index in indices])
    return Completion(id=started.id, model=started.model, created=started.created, choices=whole, usage=usage)


def unfold(completion: Completion) -> tuple[Chunk, ...]:
    """Return a whole answer as a stream, one event a chunk: ``fold(unfold(c)) == c`` without ``raw``."""
    started = Started(id=completion.id, model=completion.model, created=completion.created)
    events: list[Event] = [started]
    for choice in completion.choices:
        logprobs = choice.logprobs
        for at, part in enumerate(choice.parts):
            events.append(_delta(part, at, choice.index, logprobs))
            if isinstance(part, Text):
                logprobs = _NOTHING  # the first text has told them
        events.append(Finish(choice.finish, choice.index, choice.stop_sequence))
    events.append(completion.usage)
    return tuple([Chunk((event,)) for event in events])


def _delta(part: _Part, at: int, index: int, logprobs: Raw) -> _Delta:
    match part:
        case Text():
            return TextDelta(part.text, at, index, logprobs)
        case Thinking():
            return ReasoningDelta(part.text, at, index, part.signature, part.redacted)
        case ToolCall():
            return ToolDelta(at, part.id, part.name, part.arguments, index)
        case Refusal():
            return RefusalDelta(part.text, at, index)
