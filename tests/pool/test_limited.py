"""The pool's places against a scripted upstream: how many requests at once, how many wait."""

import asyncio

import pytest

from llm_server.contract import ErrorKind, HttpRequest, Secret, ServerError
from llm_server.pool import AiohttpPool, PoolConfig
from tests.upstreams.script import Head, Hold, Script
from tests.upstreams.server import scripted
from tests.upstreams.upstream import Upstream

KEY = "sk-canary-0123456789"
POST = HttpRequest(path="chat", body=b"{}")
JSON = {"content-type": "application/json"}


def pool_for(up: Upstream, **config: object) -> AiohttpPool:
    return AiohttpPool(
        f"{up.url}/v1/", PoolConfig.model_validate(config), {"authorization": Secret(f"Bearer {KEY}")}
    )


def whole(body: bytes = b"{}", status: int = 200, **headers: str) -> Script:
    return Script((Head(status, JSON | headers, len(body)), body))


async def fetch(pool: AiohttpPool, request: HttpRequest = POST) -> tuple[int, bytes]:
    async with pool.send(request) as response:
        return response.status, await response.read()


async def failure(pool: AiohttpPool) -> ServerError:
    with pytest.raises(ServerError) as caught:
        await fetch(pool)
    return caught.value


async def test_requests_beyond_the_limit_wait_and_those_beyond_the_queue_are_refused() -> None:
    hold = Hold()
    async with scripted(whole().before(hold)) as up:
        pool = pool_for(up, max_connections=1, max_waiting=1)
        first = asyncio.create_task(fetch(pool))
        await up.wait_requests()
        second = asyncio.create_task(fetch(pool))
        refused = await asyncio.create_task(
            failure(pool)
        )  # tasks begin in order: the second one waits by now
        assert pool.stats() == {"open": 1, "busy": 1, "waiting": 1, "limit": 1}
        assert (refused.kind, refused.retry_after_s) == (ErrorKind.OVERLOADED, 1.0)
        hold.until.set()
        assert await first == await second == (200, b"{}")
        assert up.total_connections == 1
        await pool.close()


async def test_waiting_ends_with_the_acquire_timeout_and_frees_its_place() -> None:
    hold = Hold()
    async with scripted(whole().before(hold)) as up:
        pool = pool_for(up, max_connections=1, acquire_timeout_s=0.01)
        first = asyncio.create_task(fetch(pool))
        await up.wait_requests()
        assert (await failure(pool)).kind is ErrorKind.OVERLOADED
        assert pool.stats()["waiting"] == 0
        hold.until.set()
        await first
        assert await fetch(pool) == (200, b"{}")
        await pool.close()


async def test_cancelled_waiter_gives_its_place_on() -> None:
    hold = Hold()
    async with scripted(whole().before(hold)) as up:
        pool = pool_for(up, max_connections=1, max_waiting=2)
        first = asyncio.create_task(fetch(pool))
        await up.wait_requests()
        second, third = (asyncio.create_task(fetch(pool)) for _ in range(2))
        await asyncio.create_task(failure(pool))  # tasks begin in order: both wait by now
        second.cancel()
        hold.until.set()
        assert await first == await third == (200, b"{}")
        assert pool.stats()["busy"] == 0
        await pool.close()
