"""Are these the right calls? Of tools that their caller made strict, and of any where one must be called."""

from collections.abc import Mapping

import msgspec

from llm_server.contract import Choice, FinishReason, Problem, Refusal, Text, Thinking, ToolCall
from llm_server.structured.judging import Judge, Verdict, ended
from llm_server.structured.methods import Method

_Part = Text | Thinking | ToolCall | Refusal


class CallJudge:
    """Judges the calls in answers of models that may choose between tools, each by its tool's own schema.

    Text beside the calls, and calls of tools that are nobody's to judge, are left as they are.

    Args:
        method: how the tools are offered.
        judges: the judges of the arguments, by the tools' names.
        must: whether an answer without a call is wrong, and a call of any other tool.
    """

    as_said = True
    checks_calls = True

    def __init__(self, method: Method, judges: Mapping[str, Judge], *, must: bool) -> None:
        self.method = method
        self.free = not must
        self._judges = judges

    def verdict(self, choice: Choice, *, lenient: bool = True) -> Verdict:
        """Return what ``choice`` is; ``lenient``: whether slips are forgiven."""
        outcome = ended(choice)
        if outcome is not None:
            return Verdict(outcome=outcome, choice=choice)
        cut = choice.finish is FinishReason.LENGTH
        calls = [part for part in choice.parts if type(part) is ToolCall]
        raw_text = "\n".join([call.arguments for call in calls]) or choice.text
        judged = [self._judged(part, lenient=lenient and not cut) for part in choice.parts]
        problems = tuple([problem for _, found in judged for problem in found])
        if not calls and not self.free:
            problems = (Problem("", "tool_choice", f"a call of {self._named()}", "none"),)
        if problems:
            outcome = "truncated" if cut else "invalid"
            return Verdict(outcome=outcome, choice=choice, problems=problems, raw_text=raw_text)
        parts = tuple([part for part, _ in judged])
        if all(new is old for new, old in zip(parts, choice.parts, strict=True)):
            return Verdict(outcome="valid", choice=choice, raw_text=raw_text)
        mended = msgspec.structs.replace(choice, parts=parts)
        return Verdict(outcome="repaired", choice=mended, raw_text=raw_text)

    def _judged(self, part: _Part, *, lenient: bool) -> tuple[_Part, tuple[Problem, ...]]:
        if type(part) is not ToolCall:
            return part, ()
        judge = self._judges.get(part.name)
        if judge is None:
            unknown = Problem("", "name", f"a call of {self._named()}", f"a call of '{part.name}'")
            return part, () if self.free else (unknown,)
        answer = judge.answer(part.arguments or "{}", lenient=lenient)
        if answer.problems or not answer.repaired:
            return part, answer.problems
        return ToolCall(part.id, part.name, answer.text), ()

    def _named(self) -> str:
        return " or ".join(f"'{name}'" for name in self._judges)
