"""One attempt at one target: what is noted of it, and how long it may take."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from contextlib import aclosing

from msgspec import Struct

from llm_server.contract import (
    Answer,
    Attempt,
    Call,
    Chunk,
    Context,
    ErrorKind,
    Events,
    Provider,
    Route,
    ServerError,
    Target,
    failed,
)
from llm_server.contract.answers import CONTENT
from llm_server.pipeline.trip import Trip

MAX_HELD = 10_000
"""Chunks of an answer before its first content. Vendors send a handful; what sends more will send none."""


class Timing(Struct, frozen=True):
    """Where time and chance come from; tests give their own."""

    clock: Callable[[], float] = time.perf_counter
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    random: Callable[[], float] = random.random


class Request(Struct):
    """A call on its way: which targets can answer it, and which is asked now."""

    call: Call
    ctx: Context
    route: Route
    targets: tuple[Target, ...]
    target: Target
    trip: Trip | None = None
    """Only after a failure, or where the route hedges."""


def has_content(answer: Answer) -> bool:
    """Whether ``answer`` commits the caller's answer to the attempt that gave it."""
    if type(answer) is not Chunk:
        return True
    return any(isinstance(event, CONTENT) for event in answer.events)


def is_held(answer: Answer, held: list[Answer]) -> bool:
    """Keep an ``answer`` without content among ``held``; return false for one with content.

    Raises:
        ServerError: ``UPSTREAM_INVALID`` if these never end.
    """
    if has_content(answer):
        return False
    if len(held) >= MAX_HELD:
        raise ServerError(ErrorKind.UPSTREAM_INVALID, "The provider's stream does not come to its content.")
    held.append(answer)
    return True


def noted(target: Target, now_s: float) -> Attempt:
    """Return the note of an attempt that begins now; until it is told otherwise, it was abandoned."""
    return Attempt(
        provider=target.provider, model=target.model, started_s=now_s, error=ErrorKind.CLIENT_CLOSED
    )


def begun(provider: Provider, target: Target, call: Call, ctx: Context, now_s: float) -> Events:
    """Note an attempt in ``ctx`` and return its answers."""
    ctx.attempts.append(noted(target, now_s))
    try:
        return provider(call.addressed(target.model), ctx)
    except ServerError as error:
        return failed(error)  # some handlers refuse before anybody iterates


class Limits(Struct, frozen=True):
    """How long answers may take from now on: to the first content, and to the end."""

    content_s: float | None
    end_s: float | None


async def limited(answers: Events, limits: Limits, clock: Callable[[], float]) -> Events:
    """Pass ``answers`` on while they come in time.

    Raises:
        ServerError: ``UPSTREAM_TIMEOUT`` without content in time, ``DEADLINE`` without an end in time.
    """
    start_s = clock()
    content_s = limits.content_s
    async with aclosing(answers):
        while True:
            ends = [at for at in (content_s, limits.end_s) if at is not None]
            try:
                async with asyncio.timeout(start_s + min(ends) - clock() if ends else None):
                    answer = await anext(answers)
            except StopAsyncIteration:
                return
            except TimeoutError:
                raise _late(content_s, limits.end_s) from None
            if content_s is not None and has_content(answer):
                content_s = None
            yield answer


def _late(content_s: float | None, end_s: float | None) -> ServerError:
    if content_s is not None and (end_s is None or content_s < end_s):
        detail = f"no content in {content_s:g} s (attempt_timeout_s)"
        return ServerError(ErrorKind.UPSTREAM_TIMEOUT, "The provider took too long to answer.", detail=detail)
    return ServerError(ErrorKind.DEADLINE, f"No complete answer within {round(end_s or 0, 3):g} seconds.")
