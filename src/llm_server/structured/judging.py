"""Is this the answer? What was said is read, unwrapped and checked, or named as what it is."""

from typing import Any, Literal, Protocol

import msgspec
from msgspec import Raw, Struct

from llm_server.contract import Choice, FinishReason, Problem, Refusal, Text, Thinking, Tool, ToolCall
from llm_server.structured import parsing
from llm_server.structured.demand import Demand
from llm_server.structured.methods.port import Method
from llm_server.structured.problems import shortened
from llm_server.structured.rules import Rules

Outcome = Literal["pending", "valid", "repaired", "refused", "filtered", "truncated", "invalid"]

_NOTHING = Raw(b"")
_ENDS: dict[FinishReason, Outcome] = {
    FinishReason.REFUSAL: "refused",
    FinishReason.CONTENT_FILTER: "filtered",
    FinishReason.PAUSE: "pending",
}
"""Ends that are no answers, and are the caller's to see as what they are."""


_CUT = Problem("", "length", "an answer that ended", "one that the limit of tokens cut off")


class Verdict(Struct, frozen=True, kw_only=True):
    """What a choice is.

    ``choice`` is as the caller gets it: the very same object where nothing was changed. ``problems`` and
    ``raw_text`` say why it is ``invalid``, or ``truncated`` by the limit of tokens. ``pending`` is not an
    answer yet: a call of another tool, a pause.
    """

    outcome: Outcome
    choice: Choice
    problems: tuple[Problem, ...] = ()
    raw_text: str = ""

    @property
    def valid(self) -> bool:
        """Whether the answer has the form."""
        return self.outcome in {"valid", "repaired"}


class Judging(Protocol):
    """Says what answers are; shared by requests."""

    @property
    def method(self) -> Method:
        """How the answers were asked for."""
        ...

    @property
    def free(self) -> bool:
        """Whether only calls of tools are judged, and anything else may be said."""
        ...

    @property
    def checks_calls(self) -> bool:
        """Whether calls are judged that a model is free to make."""
        ...

    @property
    def as_said(self) -> bool:
        """Whether the caller gets a valid answer as the model says it."""
        ...

    def verdict(self, choice: Choice, *, lenient: bool = True) -> Verdict:
        """Return what ``choice`` is; ``lenient``: whether slips are forgiven models held to nothing."""
        ...


class Judge:
    """Judges answers to one demand that were asked for by one method.

    Args:
        demand: what an answer must be.
        method: how it was asked for.
        rules: what it must hold to beyond its schema.
        calls: judges calls of other tools, where any is to be judged.
    """

    free = False

    def __init__(self, demand: Demand, method: Method, rules: Rules, calls: Judging | None = None) -> None:
        self.demand = demand
        self.method = method
        direct = method.direct and method.calls == (demand.tool is not None)
        self.as_said = direct and method.name != "prompt"
        self._rules = rules.of(demand.name)
        self._calls = calls
        self.checks_calls = calls is not None

    def verdict(self, choice: Choice, *, lenient: bool = True) -> Verdict:
        """Return what ``choice`` is; ``lenient``: whether slips are forgiven models held to nothing."""
        outcome = ended(choice)
        if outcome is not None:
            refusal = "".join([part.text for part in choice.parts if type(part) is Refusal])
            return Verdict(outcome=outcome, choice=choice, raw_text=refusal)
        if not self.method.calls and any(type(part) is ToolCall for part in choice.parts):
            return self._pending(choice, lenient=lenient)
        cut = choice.finish is FinishReason.LENGTH
        lenient = lenient and not self.method.constrained and not cut
        words = self.method.said(choice)
        raw_text = "\n".join(words)
        if not words:
            nothing = Problem("", "answer", "an answer", "nothing")
            return Verdict(outcome="truncated" if cut else "invalid", choice=choice, problems=(nothing,))
        texts: list[str] = []
        problems: tuple[Problem, ...] = ()
        repaired = False
        for said in words:
            answer = self.answer(said, lenient=lenient)
            texts.append(answer.text)
            problems += answer.problems
            repaired = repaired or answer.repaired
        if cut and not problems and any(map(self._goes_on, words)):
            problems = (_CUT,)
        if problems:
            outcome = "truncated" if cut else "invalid"
            seen = self._shaped(choice, list(words)) if cut else choice
            return Verdict(outcome=outcome, choice=seen, problems=problems, raw_text=raw_text)
        shaped = self._shaped(choice, texts)
        return Verdict(outcome="repaired" if repaired else "valid", choice=shaped, raw_text=raw_text)

    def problems(self, value: Any, chars: int) -> tuple[Problem, ...]:
        """Return everything that is wrong with an answer that was read from so many ``chars``."""
        return self.demand.problems(value, chars) or self._rules.problems(value)

    def words(self, choice: Choice) -> str:
        """Return the answer in a choice that was judged valid, in the caller's form."""
        calls = [part.arguments for part in choice.parts if isinstance(part, ToolCall)]
        return calls[0] if self.demand.tool is not None and calls else choice.text

    def _goes_on(self, said: str) -> bool:
        """Whether ``said``, which has the form, might be the beginning of a longer answer that has it too."""
        return not self.method.json or said.rstrip()[-1:].isdigit()

    def _pending(self, choice: Choice, *, lenient: bool) -> Verdict:
        verdict = self._calls.verdict(choice, lenient=lenient) if self._calls else None
        if verdict is not None and not verdict.valid:
            return verdict
        return Verdict(outcome="pending", choice=verdict.choice if verdict else choice)

    def answer(self, said: str, *, lenient: bool) -> "Read":
        """Return what ``said`` is as the answer; one of too many characters is not read."""
        if len(said) > parsing.MAX_READ:
            return Read("", problems=(_too_long(said),))
        read = self._read_json if self.method.json else self._read_bare
        return read(said, lenient=lenient)

    def _read_json(self, said: str, *, lenient: bool) -> "Read":
        repaired = False
        try:
            # No grammar keeps a model from saying an undeclared name twice, and no stream can be taken back.
            value = parsing.strict(said, unique=not self.method.constrained)
        except ValueError as error:
            try:
                if not lenient:
                    raise
                value, repaired = parsing.lenient(said), True
            except ValueError:
                return Read("", problems=(_no_json(said, error),))
        found = self.method.unwrap(value)
        problems = self.problems(found, len(said))
        if problems or (self.method.direct and not repaired):
            return Read(said, problems=problems)
        return Read(found if self.demand.bare else parsing.written(found), repaired=repaired)

    def _read_bare(self, said: str, *, lenient: bool) -> "Read":
        problems = self.problems(said, len(said))
        if not problems or not lenient:
            return Read(said, problems=problems)
        inside = parsing.bare(said)
        return Read(inside, problems=self.problems(inside, len(said)), repaired=inside != said.strip())

    def _shaped(self, choice: Choice, texts: list[str]) -> Choice:
        """Return ``choice`` with ``texts`` as its answers, in the form that the caller expects."""
        tool = self.demand.tool
        if _as_told(choice, tool) == texts:
            return choice
        thoughts = [part for part in choice.parts if isinstance(part, Thinking)]
        if tool is None:
            parts: tuple[Any, ...] = (*thoughts, Text("".join(texts[:1])))
            before, after = FinishReason.TOOL_CALLS, FinishReason.STOP
        else:
            ids = [part.id for part in choice.parts if isinstance(part, ToolCall)]
            named = zip(ids or [new_call_id()], texts, strict=False)
            parts = (*thoughts, *(ToolCall(identity, tool.name, text) for identity, text in named))
            before, after = FinishReason.STOP, FinishReason.TOOL_CALLS
        finish = after if choice.finish is before else choice.finish
        return msgspec.structs.replace(choice, parts=parts, finish=finish, logprobs=_NOTHING)


def ended(choice: Choice) -> Outcome | None:
    """Return what ``choice`` is where it ended in a way that makes it no answer."""
    if any(type(part) is Refusal for part in choice.parts):
        return "refused"
    return _ENDS.get(choice.finish)


def _as_told(choice: Choice, tool: Tool | None) -> list[str]:
    """Return what the caller would read as the answers if it got ``choice`` as it is."""
    calls = [part for part in choice.parts if type(part) is ToolCall]
    if tool is None:
        return [] if calls else [part.text for part in choice.parts if type(part) is Text]
    return [call.arguments for call in calls] if all(call.name == tool.name for call in calls) else []


class Read(Struct, frozen=True):
    """One text that was said: as the caller gets it, or what is wrong with it."""

    text: str
    problems: tuple[Problem, ...] = ()
    repaired: bool = False


def _no_json(said: str, error: ValueError) -> Problem:
    return Problem(
        "", "json", f"one JSON value ({shortened(str(error))})", shortened(msgspec.json.encode(said).decode())
    )


def _too_long(said: str) -> Problem:
    return Problem("", "size", f"at most {parsing.MAX_READ} characters", f"{len(said)} characters")


def new_call_id() -> str:
    """Return an identifier for a tool call that was made here."""
    import uuid

    return f"call_{uuid.uuid4().hex[:24]}"
