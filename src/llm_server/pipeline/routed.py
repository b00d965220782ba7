"""Send a call to the first target of the plan that answers."""

import time
from collections.abc import Mapping
from contextlib import aclosing

from llm_server.contract import (
    Answer,
    Attempt,
    Call,
    Chunk,
    Context,
    ErrorKind,
    Events,
    Provider,
    RouterStrategy,
    ServerError,
    Target,
)
from llm_server.contract.answers import CONTENT


class Routed:
    """Tries the targets in order until one gives content: the commit point.

    What comes before the first content is held back, so that a failure up to there moves on to the next
    target unseen by the caller. After it a failure is the caller's: it is raised and nothing is tried again.
    Only failures whose kind is retryable move on.
    """

    def __init__(self, strategy: RouterStrategy, providers: Mapping[str, Provider]) -> None:
        self._strategy = strategy
        self._providers = providers

    async def __call__(self, call: Call, ctx: Context) -> Events:
        """Answer ``call``; raises the last target's ``ServerError`` when none could."""
        candidates = self._strategy.candidates(call.model)
        facts = {target: self._providers[target.provider].facts(target.model) for target in candidates}
        plan = self._strategy.plan(call, candidates, facts)
        last = plan.attempts[-1]
        for target in plan.attempts:
            committed = False
            try:
                async with aclosing(_from_content(self._attempt(call, ctx, target))) as answers:
                    async for answer in answers:
                        committed = True
                        yield answer
                return
            except ServerError as error:
                if committed or not error.kind.retryable:
                    raise
                if target is last:
                    _sum_up(error, len(plan.attempts))
                    raise

    async def _attempt(self, call: Call, ctx: Context, target: Target) -> Events:
        attempt = Attempt(provider=target.provider, model=target.model, started_s=time.perf_counter())
        ctx.attempts.append(attempt)
        ctx.dropped.clear()
        attempt.error = ErrorKind.CLIENT_CLOSED
        try:
            provider = self._providers[target.provider]
            async with aclosing(provider(call.addressed(target.model), ctx)) as answers:
                async for answer in answers:
                    if attempt.first_byte_s is None:
                        attempt.first_byte_s = time.perf_counter()
                    yield answer
            attempt.error = None
        except ServerError as error:
            attempt.error = error.kind
            raise
        finally:
            attempt.ended_s = attempt.ended_s or time.perf_counter()


def _sum_up(error: ServerError, targets: int) -> None:
    """Say in the last target's ``error`` that the others failed before it."""
    if targets > 1:
        error.message += f" None of the {targets} targets tried could answer; this was the last."
        error.args = (f"{error.kind}: {error.message}",)


async def _from_content(answers: Events) -> Events:
    """Pass ``answers`` on, holding back those before the first content until it, or the end, comes."""
    held: list[Answer] | None = []
    async with aclosing(answers):
        async for answer in answers:
            if held is None:
                yield answer
                continue
            held.append(answer)
            if _has_content(answer):
                for early in held:
                    yield early
                held = None
    for late in held or ():
        yield late


def _has_content(answer: Answer) -> bool:
    return not isinstance(answer, Chunk) or any(isinstance(event, CONTENT) for event in answer.events)
