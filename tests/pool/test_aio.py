"""The transport over aiohttp: reuse, every timeout, every way to break, and no secrets."""

import asyncio
import gzip
import logging
import socket
import traceback
from contextlib import aclosing

import pytest

from llm_server.contract import ErrorKind, HttpRequest, Secret, ServerError
from llm_server.pool.aio import AiohttpTransport
from llm_server.pool.config import PoolConfig
from tests.upstreams.script import Close, Head, Idle, Raw, Reset, Script
from tests.upstreams.server import scripted
from tests.upstreams.upstream import Upstream

KEY = "sk-canary-0123456789"
POST = HttpRequest(path="chat", body=b"{}")
JSON = {"content-type": "application/json"}


def pool_for(up: Upstream, **config: object) -> AiohttpTransport:
    return AiohttpTransport(
        f"{up.url}/v1/", PoolConfig.model_validate(config), {"authorization": Secret(f"Bearer {KEY}")}
    )


def whole(body: bytes = b"{}", status: int = 200, **headers: str) -> Script:
    return Script((Head(status, JSON | headers, len(body)), body))


async def fetch(pool: AiohttpTransport, request: HttpRequest = POST) -> tuple[int, bytes]:
    async with pool.exchange(request) as response:
        return response.status, await response.read()


async def failure(pool: AiohttpTransport) -> ServerError:
    with pytest.raises(ServerError) as caught:
        await fetch(pool)
    return caught.value


async def test_request_arrives_as_given_with_the_pools_headers_and_none_of_a_browser() -> None:
    async with scripted(whole()) as up:
        pool = pool_for(up)
        request = HttpRequest(path="/a%2Fb:do?x=1", body=b'{"a":1}', headers=(("x-one", "1"), ("x-one", "2")))
        assert await fetch(pool, request) == (200, b"{}")
        await pool.close()
        got = up.requests[0]
        assert (got.method, got.target, got.body) == ("POST", "/v1/a%2Fb:do?x=1", b'{"a":1}')
        assert [value for name, value in got.raw_headers if name == "x-one"] == ["1", "2"]
        assert got.headers["authorization"] == f"Bearer {KEY}"
        assert got.headers["user-agent"] == "llm-server"
        assert "cookie" not in got.headers


async def test_headers_of_an_answer_have_lower_case_names() -> None:
    async with scripted(whole(**{"X-Request-ID": "r1"})) as up:
        pool = pool_for(up)
        async with pool.exchange(POST) as response:
            assert response.headers["x-request-id"] == "r1"
        await pool.close()


async def test_connection_is_reused_after_a_whole_body_and_cookies_are_forgotten() -> None:
    async with scripted(whole(**{"set-cookie": "a=b"})) as up:
        pool = pool_for(up)
        for _ in range(3):
            await fetch(pool)
        assert up.total_connections == 1
        assert all("cookie" not in request.headers for request in up.requests)
        assert pool.stats() == {"open": 1, "idle": 1, "opened": 1, "reused": 2, "resent": 0}
        await pool.close()
        await up.wait_closed()
        assert pool.stats()["open"] == 0


async def test_closed_pool_opens_again() -> None:
    async with scripted(whole()) as up:
        pool = pool_for(up)
        await fetch(pool)
        await pool.close()
        assert await fetch(pool) == (200, b"{}")
        await pool.close()
        await pool.close()


async def test_large_bodies_go_whole() -> None:
    async with scripted(whole()) as up:
        pool = pool_for(up)
        body = b"x" * (3 * 1024 * 1024)
        await fetch(pool, HttpRequest(path="chat", body=body))
        await pool.close()
        assert up.requests[0].body == body
        assert up.requests[0].headers["content-length"] == str(len(body))


async def test_gzip_is_decoded() -> None:
    async with scripted(whole(gzip.compress(b'{"a":1}'), **{"content-encoding": "gzip"})) as up:
        pool = pool_for(up)
        assert await fetch(pool) == (200, b'{"a":1}')
        await pool.close()


async def test_redirect_is_an_answer_and_is_not_followed() -> None:
    async with scripted(whole(status=307, location="http://127.0.0.1:1/elsewhere")) as up:
        pool = pool_for(up)
        assert (await fetch(pool))[0] == 307
        await pool.close()
        assert len(up.requests) == 1


async def test_leaving_early_closes_the_connection() -> None:
    async with scripted(Script((Head(), b"data: 1\n\n", Idle()))) as up:
        pool = pool_for(up)
        async with pool.exchange(POST) as response, aclosing(response.chunks()) as pieces:
            assert await anext(pieces) == b"data: 1\n\n"
        await up.wait_abandoned()
        await up.wait_closed()
        assert pool.stats()["open"] == 0
        await pool.close()


@pytest.mark.parametrize("steps", [(Idle(),), (Head(), b"x", Idle())], ids=["before headers", "in the body"])
async def test_cancelling_closes_the_connection(steps: tuple[object, ...]) -> None:
    async with scripted(Script(steps)) as up:  # type: ignore[arg-type]  # parametrize loses the union
        pool = pool_for(up)
        task = asyncio.create_task(fetch(pool))
        await up.wait_requests()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await up.wait_closed()
        assert pool.stats()["open"] == 0
        await pool.close()


@pytest.mark.parametrize(
    ("steps", "config", "phase"),
    [
        ((Idle(),), {"first_byte_timeout_s": 0.05}, "waiting for the first byte"),
        ((Head(), b"x", Idle()), {"idle_timeout_s": 0.05}, "waiting for more of its answer"),
        ((Head(), b"x", Idle()), {"total_timeout_s": 0.2}, "answering"),
    ],
    ids=["first byte", "idle", "total"],
)
async def test_silence_is_a_timeout_that_names_its_phase(
    steps: tuple[object, ...], config: dict[str, float], phase: str
) -> None:
    async with scripted(Script(steps)) as up:  # type: ignore[arg-type]  # parametrize loses the union
        pool = pool_for(up, **config)
        error = await failure(pool)
        assert error.kind is ErrorKind.UPSTREAM_TIMEOUT
        assert phase in error.message
        await up.wait_closed()
        await pool.close()


async def test_connecting_has_its_own_timeout() -> None:
    # A listener whose queue is full completes no handshake.
    listener = socket.socket()
    with listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        filler = [socket.socket() for _ in range(3)]
        try:
            for one in filler:
                one.setblocking(False)
                one.connect_ex(listener.getsockname())
            pool = AiohttpTransport(
                f"http://127.0.0.1:{listener.getsockname()[1]}", PoolConfig(connect_timeout_s=0.05), {}
            )
            error = await failure(pool)
            await pool.close()
        finally:
            for one in filler:
                one.close()
    assert (error.kind, "connecting" in error.message) == (ErrorKind.UPSTREAM_TIMEOUT, True)


async def test_nobody_listening_is_unreachable() -> None:
    async with scripted(whole()) as up:
        url = up.url
    pool = AiohttpTransport(url, PoolConfig(), {"x-api-key": Secret(KEY)})
    assert (await failure(pool)).kind is ErrorKind.UPSTREAM_UNREACHABLE
    await pool.close()


@pytest.mark.parametrize(
    ("script", "kind"),
    [
        (Script((Reset(),)), ErrorKind.UPSTREAM_UNREACHABLE),
        (Script((Close(),)), ErrorKind.UPSTREAM_UNREACHABLE),
        (Script((Raw(b"\x16\x03\x01 not http\r\n\r\n"),)), ErrorKind.UPSTREAM_INVALID),
        (Script((Head(), b"part", Close())), ErrorKind.UPSTREAM_TRUNCATED),
        (Script((Head(length=100), b"part", Close())), ErrorKind.UPSTREAM_TRUNCATED),
        (Script((Head(headers={"content-encoding": "gzip"}), b"not gzip")), ErrorKind.UPSTREAM_TRUNCATED),
    ],
    ids=["reset", "closed", "not http", "chunked cut", "length cut", "bad gzip"],
)
async def test_broken_answers_have_kinds_and_no_secret_anywhere(
    script: Script, kind: ErrorKind, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    async with scripted(script) as up:
        pool = pool_for(up)
        error = await failure(pool)
        assert error.kind is kind
        told = (
            "".join(traceback.format_exception(error)) + repr(error) + error.detail + caplog.text + repr(pool)
        )
        assert KEY not in told
        # aiohttp's own exceptions hold the request's headers: none comes along.
        assert error.__cause__ is None
        assert error.__context__ is None
        await pool.close()


async def test_answer_larger_than_the_bound_is_refused_and_its_connection_closed() -> None:
    async with scripted(Script((Head(length=10_000), b"x" * 5000, Idle()))) as up:
        pool = pool_for(up, max_response_bytes=4096)
        error = await failure(pool)
        assert (error.kind, "4096" in error.detail) == (ErrorKind.UPSTREAM_INVALID, True)
        await up.wait_closed()
        await pool.close()


async def test_small_gzip_that_is_large_inside_is_refused() -> None:
    bomb = gzip.compress(b"\0" * 10_000_000)
    async with scripted(whole(bomb, **{"content-encoding": "gzip"})) as up:
        pool = pool_for(up, max_response_bytes=1_000_000)
        assert (await failure(pool)).kind is ErrorKind.UPSTREAM_INVALID
        await pool.close()
