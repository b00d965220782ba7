"""Asking again: what the model is told, and when there is no point in it any more."""

import time
from collections.abc import Iterable

import msgspec
from msgspec import Struct

from llm_server.contract import ChatCall, Context, Opaque, Problem, Usage
from llm_server.structured.config import StructuredConfig
from llm_server.structured.judging import Verdict
from llm_server.structured.methods.port import Method

MAX_TOLD = 10
"""Problems that a model is told at once."""


def complaint(problems: Iterable[Problem], method: Method) -> str:
    """Return what a model is told about its answer."""
    told = "\n".join(f"- {problem}" for problem in list(problems)[:MAX_TOLD])
    if method.calls:
        return f"That cannot be used:\n{told}\nCall again with the corrected arguments, whole."
    form = "the corrected JSON" if method.json else "the corrected answer"
    return f"That answer cannot be used:\n{told}\nGive {form}, whole, and nothing else."


def repairing(call: ChatCall, method: Method, verdict: Verdict) -> ChatCall:
    """Return the call that asks again for one answer: with what was said and what is wrong with it.

    A conversation that only its own dialect understands cannot be continued here: it is asked again as it
    was.
    """
    once = msgspec.structs.replace(call.sampling, n=1)
    more = {} if call.sampling.n == 1 else {"sampling": once}
    if any(isinstance(part, Opaque) for message in call.messages for part in message.parts):
        return call.amend(**more) if more else call
    turns = method.again(verdict.choice, complaint(verdict.problems, method))
    return call.amend(messages=(*call.messages, *turns), **more)


class Allowance(Struct):
    """What one answer may still cost: attempts, tokens and time."""

    config: StructuredConfig
    ctx: Context
    attempts: int = 0
    spent: Usage = Usage()
    slowest_s: float = 0.0

    def begun(self) -> float:
        """Count an attempt; returns when it began."""
        self.attempts += 1
        return time.perf_counter()

    def ended(self, began_s: float, usage: Usage) -> None:
        """Note what the attempt took."""
        self.spent = usage if self.attempts == 1 else self.spent + usage
        self.slowest_s = max(self.slowest_s, time.perf_counter() - began_s)

    def allows(self, attempts: int) -> bool:
        """Whether after ``attempts`` at one answer there may be another: it must be likely to end in time."""
        if attempts >= (self.ctx.max_attempts or self.config.max_attempts):
            return False
        limit = self.config.max_tokens
        if limit is not None and self.spent.input_tokens + self.spent.output_tokens >= limit:
            return False
        deadline_s = self.ctx.deadline_s
        return deadline_s is None or time.perf_counter() + self.slowest_s < deadline_s
