"""Requests that are begun: what is heard of them, and that whoever enters finds what a sender finds."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from llm_server.contract import Attempt, Context, HttpRequest, Sending, ServerError
from llm_server.pool import PoolConfig
from llm_server.pool.pool import UpstreamPool, open_pool
from llm_server.pool.quota import Allowance, QuotaRules
from tests.pool.peers import OK, POST, Talk, Up, on_every_loop, peer

HEAD = b"HTTP/1.1 %b\r\ncontent-type: %b\r\nx-left: 0\r\nx-reset: 5\r\n"
CUT = b"content-length: 100\r\n\r\n"
JSON, SSE = b"application/json", b"text/event-stream"
Talking = Callable[[Talk], Any]


def parts(*pieces: bytes, then: str = "stay") -> Talking:
    """Send these pieces, each read by itself, and then stay, end or reset."""

    async def talk(it: Talk) -> None:
        for piece in pieces:
            it.send(piece)
            await it.writer.drain()
            await asyncio.sleep(0.01)  # what comes in one read is one piece
        if then == "end":
            await it.end()
        elif then == "reset":
            it.reset()
        else:
            await it.gone()

    return talk


def served(status: bytes = b"200 OK", kind: bytes = JSON, framing: bytes = CUT) -> bytes:
    """Return a head."""
    return HEAD % (status, kind) + framing


ANSWERS: dict[str, Talking] = {
    "whole": parts(served(framing=b"content-length: 4\r\n\r\nabcd")),
    "in many reads": parts(served(framing=b"content-length: 4\r\n\r\n"), *(b"a", b"b", b"c", b"d")),
    "empty": parts(served(framing=b"content-length: 0\r\n\r\n")),
    "no content": parts(b"HTTP/1.1 204 No Content\r\n\r\n"),
    "elsewhere": parts(served(b"302 Found", framing=b"location: /x\r\ncontent-length: 0\r\n\r\n")),
    "until the end": parts(served(framing=b"\r\nabc"), b"def", then="end"),
    "and closing": parts(served(framing=b"connection: close\r\ncontent-length: 3\r\n\r\nabc")),
    "garbage behind": parts(served(framing=b"content-length: 3\r\n\r\nabcGARBAGE")),
    "cut short": parts(served(), b"abc", then="end"),
    "cut short at once": parts(served(), then="end"),
    "reset": parts(served(), b"abc", then="reset"),
    "nothing": parts(then="end"),
    "a fault in its first read": parts(served(framing=b"transfer-encoding: chunked\r\n\r\nzz\r\n")),
    "a fault later": parts(served(framing=b"transfer-encoding: chunked\r\n\r\n"), b"3\r\nabc\r\n", b"zz\r\n"),
    "a fault behind a piece": parts(
        served(framing=b"transfer-encoding: chunked\r\n\r\n"), b"3\r\nabc\r\nzz\r\n"
    ),
    "limited, cut short": parts(served(b"429 Too Many"), b"abc", then="end"),
    "refused, cut short": parts(served(b"400 Bad"), then="end"),
    "failing, cut short": parts(served(b"500 Failed"), b"abc", then="reset"),
    "failing without end": parts(served(b"500 Failed", framing=b"\r\n"), b"abc"),
    "overloaded": parts(served(b"503 No", framing=b"content-length: 2\r\n\r\nno")),
    "too large": parts(served(framing=b"content-length: 9000\r\n\r\n"), b"x" * 5000, b"x" * 4000),
    "of odd framing": parts(served(b"500 Failed", framing=b"transfer-encoding: gzip\r\n\r\nabc")),
    "compressed with garbage": parts(
        served(framing=b"content-encoding: gzip\r\ncontent-length: 3\r\n\r\nabc")
    ),
    "after an interim one": parts(
        b"HTTP/1.1 103 Hints\r\nlink: x\r\n\r\n", served(framing=b"content-length: 1\r\n\r\na")
    ),
}


def context() -> Context:
    """Return a call with a deadline."""
    now_s = time.perf_counter()
    return Context(
        request_id="r", started_s=now_s, deadline_s=now_s + 30, attempts=[Attempt(provider="p", model="m")]
    )


@asynccontextmanager
async def warm(answer: Talking) -> AsyncIterator[tuple[UpstreamPool, Up]]:
    """Give a pool with an idle connection, on which the next request gets ``answer`` and others are fine."""

    async def talk(it: Talk) -> None:
        if await it.request() is None:
            return
        it.send(OK)
        while await it.request() is not None:
            if len(it.up.asked) == 2:
                await answer(it)
                return
            it.send(OK)

    rules = QuotaRules(
        allowances=(Allowance(name="requests", remaining="x-left", reset="x-reset", until=float),)
    )
    config = PoolConfig.model_validate({"max_response_bytes": 8192, "breaker": {"consecutive_failures": 50}})
    async with peer(talk) as up:
        pool = open_pool(up.url, config, {}, rules)
        try:
            async with pool.send(POST, context()) as response:
                await response.read()
            yield pool, up
        finally:
            await pool.close()


async def entered(sending: Sending, *, whole: bool) -> list[Any]:
    """Return what whoever enters finds: status, headers, what was read, what went wrong."""
    found: list[Any] = []
    try:
        async with sending as response:
            found += [response.status, dict(response.headers)]
            if whole and response.status == 200:
                found.append(await response.read())
            else:
                body = b""
                async for piece in response.chunks():
                    body += piece
                    found[2:] = [body]
                    if response.status >= 400:
                        break
    except ServerError as error:
        found += [error.kind, error.message]
    return found


async def begun(pool: UpstreamPool, *, whole: bool) -> list[Any]:
    """Return the same of a request that is begun, and entered when its listener cannot go on."""
    sending, ctx = pool.send(POST, context()), context()
    assert pool.ready(ctx)
    heard = asyncio.Event()
    assert sending.begin(heard.set, whole=whole)
    taken = b""
    while True:
        await heard.wait()
        heard.clear()
        headers = sending.answered()
        if whole:
            body = sending.body()
            if body is None or headers is None:
                return await entered(sending, whole=True)
            sending.finish()
            return [200, dict(headers), body]
        if headers is None and not taken:
            return await entered(sending, whole=False)
        taken += sending.taken()
        over = sending.over()
        if over:
            assert headers is not None
            sending.finish()
            return [200, dict(headers), taken] if taken else [200, dict(headers)]
        if over is None:
            rest = await entered(sending, whole=False)
            assert isinstance(rest[0], int), rest
            body = taken + (rest[2] if len(rest) > 2 and isinstance(rest[2], bytes) else b"")
            return [
                rest[0],
                rest[1],
                *([body] if body else []),
                *[each for each in rest[2:] if not isinstance(each, bytes)],
            ]


def told(pool: UpstreamPool) -> dict[str, Any]:
    """Return what the pool has to say, without times."""
    report, stats = pool.report(), pool.stats()
    assert (stats["busy"], stats["waiting"]) == (0, 0)
    return {
        "stats": stats,
        "breaker": report.breaker,
        "failures": (report.consecutive_failures, report.requests, report.error_rate),
        "held": set(report.held),
        "quotas": [(quota.name, quota.remaining) for quota in report.quotas],
        "limit": report.limit,
    }


@pytest.mark.parametrize("form", ["whole", "stream"])
@pytest.mark.parametrize("name", ANSWERS)
@on_every_loop
async def test_who_begins_finds_what_who_sends_finds(name: str, form: str) -> None:
    whole, results = form == "whole", []
    for begins in (False, True):
        async with warm(ANSWERS[name]) as (pool, _):
            if begins:
                found = await begun(pool, whole=whole)
            else:
                found = await entered(pool.send(POST, context()), whole=whole)
            results.append((found, told(pool)))
    assert results[0] == results[1]


@on_every_loop
async def test_what_came_before_the_failure_is_read_by_who_enters_late() -> None:
    """Between the turn and the entering there is a turn of the loop, in which all of this may happen."""
    talk = parts(
        served(kind=SSE, framing=b"transfer-encoding: chunked\r\n\r\n"), b"3\r\nabc\r\n", then="reset"
    )
    async with warm(talk) as (pool, _):
        sending, heard = pool.send(POST, context()), asyncio.Event()
        assert sending.begin(heard.set, whole=False)
        while sending.over() is not None or sending.answered() is not None or not heard.is_set():
            await heard.wait()
            heard.clear()
            if sending.over() is None and sending.answered() is None:
                break
        found = await entered(sending, whole=False)
        assert found[2] == b"abc"
        assert found[3] == "upstream_truncated"


@on_every_loop
async def test_what_cannot_be_sent_leaves_no_place_taken() -> None:
    async with warm(parts()) as (pool, up):
        sending = pool.send(HttpRequest(path="a b"), context())
        assert not sending.begin(lambda: None, whole=True)
        assert pool.stats()["busy"] == 0
        with pytest.raises(ServerError):
            await sending.__aenter__()
        assert (pool.stats()["busy"], len(up.asked)) == (0, 1)


@on_every_loop
async def test_without_a_free_place_or_a_deadline_nothing_is_begun() -> None:
    async with warm(parts()) as (pool, up):
        ctx = context()
        ctx.deadline_s = None
        assert not pool.ready(ctx)
        assert not pool.send(POST, ctx).begin(lambda: None, whole=True)
        assert not pool.send(POST).begin(lambda: None, whole=True)
        first = pool.send(POST, context())
        assert first.begin(lambda: None, whole=True)
        assert not pool.ready(context())  # no connection is idle
        assert not pool.send(POST, context()).begin(lambda: None, whole=True)
        assert pool.stats()["busy"] == 1
        await up.until(lambda it: len(it.asked) == 2)
        entering = asyncio.create_task(first.__aenter__())
        await asyncio.sleep(0)
        entering.cancel()
        with pytest.raises(asyncio.CancelledError):
            await entering
        assert pool.stats()["busy"] == 0
        await up.until(lambda it: it.open == 0)
