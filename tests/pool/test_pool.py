"""The pool before real sockets: limits, queue, breaker and quotas over loopback, and nothing left behind."""

import asyncio
import time
from contextlib import aclosing

import pytest

from llm_server.contract import Context, ErrorKind, HttpRequest, Priority, Secret, ServerError
from llm_server.pool import Allowance, QuotaRules, UpstreamPool, open_pool
from llm_server.pool.config import PoolConfig
from tests.pool.virtual import context
from tests.upstreams.script import Close, Head, Hold, Idle, Reset, Script
from tests.upstreams.server import scripted
from tests.upstreams.upstream import Upstream

POST = HttpRequest(path="chat", body=b"{}")
JSON = {"content-type": "application/json"}
SSE = {"content-type": "text/event-stream"}
TRANSPORTS = ("direct", "aiohttp")


def pool_for(up: Upstream, rules: QuotaRules | None = None, **config: object) -> UpstreamPool:
    return open_pool(f"{up.url}/v1", PoolConfig.model_validate(config), {"x-key": Secret("k")}, rules)


def whole(body: bytes = b"{}", status: int = 200, **headers: str) -> Script:
    return Script((Head(status, JSON | headers, len(body)), body))


async def fetch(pool: UpstreamPool, ctx: Context | None = None) -> tuple[int, bytes]:
    async with pool.send(POST, ctx) as response:
        return response.status, await response.read()


async def failure(pool: UpstreamPool, ctx: Context | None = None) -> ServerError:
    with pytest.raises(ServerError) as caught:
        await fetch(pool, ctx)
    return caught.value


def background(pool: UpstreamPool, ctx: Context | None = None) -> asyncio.Task[tuple[int, bytes]]:
    return asyncio.create_task(fetch(pool, ctx))


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_requests_go_below_the_origin_or_a_base_path(transport: str) -> None:
    async with scripted(whole()) as up:
        pool = pool_for(up, transport=transport)
        assert pool.below("") is pool
        below = pool.below("/v1/")
        async with below.send(POST) as response:
            assert await response.read() == b"{}"
        await fetch(pool)
        assert [request.path for request in up.requests] == ["/v1/chat", "/chat"]
        assert {request.headers["x-key"] for request in up.requests} == {"k"}
        assert below.stats() == pool.stats()
        assert below.report().origin == pool.report().origin == up.url
        await below.close()
        await up.wait_closed()


async def test_requests_beyond_the_limit_wait_and_those_beyond_the_queue_are_refused() -> None:
    hold = Hold()
    async with scripted(whole().before(hold)) as up:
        pool = pool_for(up, max_connections=1, max_waiting=1)
        first = background(pool)
        await up.wait_requests()
        second = background(pool, ctx := context())
        refused = await asyncio.create_task(failure(pool))  # tasks begin in order: the second waits by now
        stats = pool.stats()
        assert (stats["busy"], stats["waiting"], stats["limit"], stats["shed_default"]) == (1, 1, 1, 1)
        assert (refused.kind, refused.retry_after_s) == (ErrorKind.OVERLOADED, 1.0)
        hold.until.set()
        assert await first == await second == (200, b"{}")
        assert ctx.attempts[0].queued_s > 0
        assert up.total_connections == 1
        await pool.close()


async def test_waiting_ends_with_the_acquire_timeout_and_frees_its_place() -> None:
    hold = Hold()
    async with scripted(whole().before(hold)) as up:
        pool = pool_for(up, max_connections=1, acquire_timeout_s=0.01)
        first = background(pool)
        await up.wait_requests()
        assert (await failure(pool)).kind is ErrorKind.OVERLOADED
        assert pool.stats()["waiting"] == 0
        hold.until.set()
        await first
        assert await fetch(pool) == (200, b"{}")
        await pool.close()


async def test_a_client_that_leaves_while_it_waits_costs_no_call_and_gives_its_place_on() -> None:
    hold = Hold()
    async with scripted(whole().before(hold)) as up:
        pool = pool_for(up, max_connections=1)
        first = background(pool)
        await up.wait_requests()
        second, third = background(pool), background(pool)
        await asyncio.sleep(0)
        second.cancel()
        hold.until.set()
        assert await first == await third == (200, b"{}")
        assert len(up.requests) == 2
        assert pool.stats()["busy"] == 0
        await pool.close()


async def test_a_deadline_that_passes_while_it_waits_costs_no_call() -> None:
    hold = Hold()
    async with scripted(whole().before(hold)) as up:
        pool = pool_for(up, max_connections=1)
        first = background(pool)
        await up.wait_requests()
        now_s = time.perf_counter()
        assert (await failure(pool, context(deadline_s=now_s + 0.02))).kind is ErrorKind.DEADLINE
        assert (await failure(pool, context(deadline_s=now_s - 1.0))).kind is ErrorKind.DEADLINE
        hold.until.set()
        await first
        assert len(up.requests) == 1
        await pool.close()


async def test_the_urgent_go_first() -> None:
    hold = Hold()
    async with scripted(whole().before(hold)) as up:
        pool = pool_for(up, max_connections=1)
        order: list[Priority] = []

        async def ask(priority: Priority) -> None:
            await fetch(pool, context(priority))
            order.append(priority)

        first = background(pool)
        await up.wait_requests()
        tasks = [asyncio.create_task(ask(priority)) for priority in reversed(Priority)]
        await asyncio.sleep(0)
        assert pool.stats()["waiting_batch"] == pool.stats()["waiting_interactive"] == 1
        hold.until.set()
        await asyncio.gather(first, *tasks)
        assert order == list(Priority)
        await pool.close()


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize(
    ("script", "kind"),
    [
        (Script((Reset(),)), ErrorKind.UPSTREAM_UNREACHABLE),
        (Script((Head(headers=JSON, length=100), b"part", Close())), ErrorKind.UPSTREAM_TRUNCATED),
        (Script((Head(headers=SSE), b"data: 1\n\n", Close())), ErrorKind.UPSTREAM_TRUNCATED),
        (Script((Head(headers=SSE), b"data: 1\n\n", Idle())), ErrorKind.UPSTREAM_TIMEOUT),
        (whole(b"no", 500), None),
        (whole(b"no", 529), None),
    ],
    ids=["reset", "cut", "cut stream", "silent stream", "500", "529"],
)
async def test_every_way_to_fail_opens_the_breaker_and_leaves_no_place_taken(
    script: Script, kind: ErrorKind | None, transport: str
) -> None:
    async with scripted(script) as up:
        pool = pool_for(up, transport=transport, idle_timeout_s=0.05, breaker={"open_s": 60})
        for _ in range(5):
            if kind is None:
                assert (await fetch(pool))[0] >= 500
            else:
                assert (await failure(pool)).kind is kind
        assert (await failure(pool)).kind is ErrorKind.UNAVAILABLE
        assert len(up.requests) == 5
        assert pool.stats()["busy"] == 0
        report = pool.report()
        assert (report.breaker, report.requests, report.consecutive_failures) == ("open", 0, 5)
        await pool.close()


async def test_an_error_of_the_reader_about_the_answer_counts_too() -> None:
    async with scripted(whole(b"not what was promised")) as up:
        pool = pool_for(up)

        async def read_as_garbage() -> None:
            async with pool.send(POST):
                raise ServerError(ErrorKind.UPSTREAM_INVALID, "garbage")

        async def read_as_wrong() -> None:
            async with pool.send(POST):
                raise ServerError(ErrorKind.OUTPUT_INVALID, "not the form")

        for _ in range(10):
            with pytest.raises(ServerError):
                await read_as_wrong()
        assert pool.report().consecutive_failures == 0
        for _ in range(5):
            with pytest.raises(ServerError):
                await read_as_garbage()
        assert (await failure(pool)).kind is ErrorKind.UNAVAILABLE
        await pool.close()


async def test_leaving_a_stream_early_is_nobodys_failure() -> None:
    async with scripted(Script((Head(headers=SSE), b"data: 1\n\n", Idle()))) as up:
        pool = pool_for(up)
        for _ in range(6):
            async with pool.send(POST) as response, aclosing(response.chunks()) as pieces:
                assert await anext(pieces) == b"data: 1\n\n"
        report = pool.report()
        assert (report.breaker, report.consecutive_failures) == ("closed", 0)
        assert report.first_byte_s > 0
        await pool.close()
        await up.wait_closed()


async def test_a_stream_passes_whole_through_the_watching() -> None:
    pieces = tuple(f"data: {number}\n\n".encode() for number in range(20))
    async with scripted(Script((Head(headers=SSE), *pieces))) as up:
        pool = pool_for(up)
        assert await fetch(pool) == (200, b"".join(pieces))
        async with pool.send(POST) as response:
            assert response.headers["content-type"] == SSE["content-type"]
            assert b"".join([piece async for piece in response.chunks()]) == b"".join(pieces)
        assert pool.report().requests == 2
        await pool.close()


async def test_pieces_can_be_asked_thrown_at_and_closed_as_a_generator_can() -> None:
    async with scripted(Script((Head(headers=SSE), b"data: 1\n\n", b"data: 2\n\n", Idle()))) as up:
        pool = pool_for(up)
        async with pool.send(POST) as response:
            pieces = response.chunks()
            assert aiter(pieces) is pieces
            assert (await pieces.asend(None)).startswith(b"data: 1")
            with pytest.raises(KeyError):
                await pieces.athrow(KeyError("x"))
            await pieces.aclose()
        await pool.close()


async def test_quotas_are_read_where_the_rules_say() -> None:
    allowance = Allowance(name="requests", remaining="x-left", reset="x-reset", until=float, refills=False)
    rules = QuotaRules(allowances=(allowance,))
    async with scripted(whole(**{"x-left": "0", "x-reset": "60"})) as up:
        pool = pool_for(up, rules)
        await fetch(pool, context())
        refused = await failure(pool, context())
        assert refused.kind is ErrorKind.UPSTREAM_RATE_LIMITED
        assert refused.retry_after_s is not None
        assert 50 < refused.retry_after_s <= 60
        assert len(up.requests) == 1
        (quota,) = pool.report().quotas
        assert (quota.name, quota.remaining, quota.reset_s) == ("requests", "0", 60.0)
        await pool.close()


async def test_the_probe_is_asked_below_the_base_path() -> None:
    async with scripted(*[whole(b"no", 503)] * 5, whole()) as up:
        pool = pool_for(up, breaker={"probe_path": "/health", "open_s": 0.01})
        for _ in range(5):
            await fetch(pool)
        await up.wait_requests(6)
        assert (up.requests[5].method, up.requests[5].path) == ("GET", "/v1/health")
        assert pool._asking is not None
        await pool._asking
        assert pool.report().breaker == "closed"
        assert await fetch(pool) == (200, b"{}")
        await pool.close()


async def test_closing_ends_a_probe_under_way() -> None:
    async with scripted(*[whole(b"no", 503)] * 5, Script((Idle(),))) as up:
        pool = pool_for(up, breaker={"probe_path": "health", "open_s": 0.01})
        for _ in range(5):
            await fetch(pool)
        await up.wait_requests(6)
        await pool.close()
        await up.wait_closed()


@pytest.mark.parametrize("steps", [(Idle(),), (Head(), b"x", Idle())], ids=["before headers", "in the body"])
async def test_cancelling_gives_the_place_back(steps: tuple[object, ...]) -> None:
    async with scripted(Script(steps)) as up:  # type: ignore[arg-type]  # parametrize loses the union
        pool = pool_for(up)
        task = background(pool)
        await up.wait_requests()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await up.wait_closed()
        assert pool.stats()["busy"] == 0
        assert pool.report().consecutive_failures == 0
        await pool.close()


async def test_without_adapting_the_limit_is_what_is_configured() -> None:
    async with scripted(whole(b"no", 429)) as up:
        pool = pool_for(up, adaptive={"enabled": False}, max_connections=9)
        for _ in range(5):
            await fetch(pool)
        assert pool.stats()["limit"] == 9
        await pool.close()
        pool = pool_for(up, adaptive={"initial": 8, "floor": 2})
        await fetch(pool)
        assert pool.stats()["limit"] == 5
        await pool.close()
