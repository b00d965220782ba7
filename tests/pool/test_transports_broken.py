"""How every transport fails: by which kind, without a secret, leaving no connection that could mislead."""

import asyncio
import gzip
import logging
import socket
import traceback
from contextlib import aclosing

import pytest

from llm_server.contract import ErrorKind, HttpRequest, Secret, ServerError
from llm_server.pool.config import PoolConfig
from llm_server.pool.transports import TRANSPORTS, transport
from tests.pool.peers import (
    KEY,
    OK,
    POST,
    Talk,
    answering,
    echo,
    every_transport,
    fetch,
    on_every_loop,
    peer,
    to,
)

pytestmark = every_transport


async def failure(transport, request: HttpRequest = POST, within_s: float | None = None) -> ServerError:
    with pytest.raises(ServerError) as caught:
        await fetch(transport, request, within_s)
    return caught.value


@on_every_loop
async def test_leaving_early_closes_the_connection(kind: str) -> None:
    async def talk(it: Talk) -> None:
        await it.request()
        it.send(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\npart")
        await it.gone()

    async with peer(talk) as up, to(up.url, kind) as wire:
        async with wire.exchange(POST) as response, aclosing(response.chunks()) as coming:
            assert await anext(coming) == b"part"
        await up.until(lambda up: up.open == 0)
        assert wire.stats()["open"] == 0


@on_every_loop
@pytest.mark.parametrize(
    "sent", [b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nx"]
)
async def test_cancelling_closes_the_connection(kind: str, sent: bytes) -> None:
    async def talk(it: Talk) -> None:
        await it.request()
        it.send(sent)
        await it.gone()

    async with peer(talk) as up, to(up.url, kind) as wire:
        task = asyncio.create_task(fetch(wire))
        await up.until(lambda up: len(up.asked) == 1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await up.until(lambda up: up.open == 0)
        assert wire.stats()["open"] == 0


@on_every_loop
@pytest.mark.parametrize(
    ("sent", "config", "phase"),
    [
        (b"", {"first_byte_timeout_s": 0.05}, "waiting for the first byte"),
        (b"HTTP/1.1 200 OK\r\nx: ", {"first_byte_timeout_s": 0.05}, "waiting for the first byte"),
        (b"HTTP/1.1 100 Go\r\n\r\n", {"first_byte_timeout_s": 0.05}, "waiting for the first byte"),
        (OK[:-1], {"idle_timeout_s": 0.05}, "waiting for more of its answer"),
        (OK[:-1], {"total_timeout_s": 0.1}, "answering"),
        (b"", {"total_timeout_s": 0.1}, "answering"),
    ],
)
async def test_silence_is_a_timeout_that_names_its_phase(
    kind: str, sent: bytes, config: dict[str, float], phase: str
) -> None:
    async def talk(it: Talk) -> None:
        await it.request()
        it.send(sent)
        await it.gone()

    async with peer(talk) as up, to(up.url, kind, **config) as wire:
        error = await failure(wire)
        assert (error.kind, phase in error.message) == (ErrorKind.UPSTREAM_TIMEOUT, True)
        assert f"{next(iter(config.values())):g} s" in error.detail
        await up.until(lambda up: up.open == 0)


async def test_a_caller_may_have_less_time_than_is_configured_and_never_more(kind: str) -> None:
    async with peer(answering(b"")) as up, to(up.url, kind, total_timeout_s=0.1) as wire:
        for within_s, expected in ((0.05, "0.05 s"), (60.0, "0.1 s")):
            error = await failure(wire, within_s=within_s)
            assert (error.kind, expected in error.detail) == (ErrorKind.UPSTREAM_TIMEOUT, True)


async def test_connecting_has_its_own_timeout(kind: str) -> None:
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
            url = f"http://127.0.0.1:{listener.getsockname()[1]}"
            async with to(url, kind, connect_timeout_s=0.05) as wire:
                error = await failure(wire)
        finally:
            for one in filler:
                one.close()
    assert (error.kind, "connecting" in error.message) == (ErrorKind.UPSTREAM_TIMEOUT, True)


async def test_nobody_listening_is_unreachable(kind: str) -> None:
    async with peer(answering(OK)) as up:
        url = up.url
    async with to(url, kind) as wire:
        error = await failure(wire)
    assert error.kind is ErrorKind.UPSTREAM_UNREACHABLE


UNREACHABLE, TRUNCATED, INVALID = (
    ErrorKind.UPSTREAM_UNREACHABLE,
    ErrorKind.UPSTREAM_TRUNCATED,
    ErrorKind.UPSTREAM_INVALID,
)
BROKEN = {
    "closed": (b"", "end", {UNREACHABLE}),
    "reset": (b"", "reset", {UNREACHABLE}),
    "head cut": (b"HTTP/1.1 200 OK\r\nconte", "end", {TRUNCATED, UNREACHABLE}),
    "not http": (b"\x16\x03\x01 not http\r\n\r\n", "stay", {INVALID}),
    "another protocol": (b"HTTP/1.1 101 Go\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n", "stay", {INVALID}),
    "chunked cut": (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n9\r\npart", "end", {TRUNCATED}),
    "length cut": (b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\npart", "end", {TRUNCATED}),
    "length cut by a reset": (b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\npart", "reset", {TRUNCATED}),
    "bad gzip": (
        b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 8\r\n\r\nnot gzip",
        "stay",
        {INVALID},
    ),
    "length and chunks": (
        b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n5\r\nabcde\r\n0\r\n\r\n",
        "stay",
        {INVALID},
    ),
    "two lengths": (
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nabc",
        "stay",
        {INVALID},
    ),
    "a NUL": (b"HTTP/1.1 200 OK\r\nx: a\0b\r\ncontent-length: 2\r\n\r\nok", "stay", {INVALID}),
}


@on_every_loop
@pytest.mark.parametrize("form", BROKEN)
async def test_broken_answers_have_kinds_and_no_secret_anywhere(
    kind: str, form: str, caplog: pytest.LogCaptureFixture
) -> None:
    answer, then, kinds = BROKEN[form]
    caplog.set_level(logging.DEBUG)
    async with peer(answering(answer, then=then)) as up, to(up.url, kind) as wire:
        error = await failure(wire)
        assert error.kind in kinds
        told = (
            "".join(traceback.format_exception(error)) + repr(error) + error.detail + caplog.text + repr(wire)
        )
        assert KEY not in told
        # Exceptions of libraries hold the request's headers: none comes along.
        assert error.__cause__ is None
        assert error.__context__ is None
        if form != "bad gzip":  # whose message was whole
            await up.until(lambda up: up.open == 0)
            assert wire.stats()["open"] == 0


async def test_answer_larger_than_the_bound_is_refused_and_its_connection_closed(kind: str) -> None:
    async def talk(it: Talk) -> None:
        await it.request()
        it.send(b"HTTP/1.1 200 OK\r\ncontent-length: 10000\r\n\r\n" + b"x" * 5000)
        await it.gone()

    async with peer(talk) as up, to(up.url, kind, max_response_bytes=4096) as wire:
        error = await failure(wire)
        assert (error.kind, "4096" in error.detail) == (INVALID, True)
        await up.until(lambda up: up.open == 0)


async def test_more_headers_than_the_bound_are_refused(kind: str) -> None:
    answer = b"HTTP/1.1 200 OK\r\nx: " + b"a" * 5000 + b"\r\ncontent-length: 2\r\n\r\nok"
    async with peer(answering(answer)) as up, to(up.url, kind, max_header_bytes=4096) as wire:
        assert (await failure(wire)).kind is INVALID
        await up.until(lambda up: up.open == 0)


async def test_small_answer_that_is_large_inside_is_refused(kind: str) -> None:
    bomb = gzip.compress(b"\0" * 10_000_000)
    head = b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: %d\r\n\r\n" % len(bomb)
    async with peer(answering(head + bomb)) as up, to(up.url, kind, max_response_bytes=1_000_000) as wire:
        assert (await failure(wire)).kind is INVALID


@on_every_loop
@pytest.mark.parametrize("how", ["end", "reset", "408"])
async def test_request_on_a_connection_that_was_closing_is_sent_again_once(kind: str, how: str) -> None:
    async def talk(it: Talk) -> None:
        asked = await it.request()
        assert asked is not None
        it.send(echo(asked))
        if it.number > 1:
            await it.gone()
            return
        await it.request()
        if how == "reset":
            it.reset()
        elif how == "408":
            it.send(b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n")

    async with peer(talk) as up, to(up.url, kind) as wire:
        for tag in (b"1", b"2"):
            assert await fetch(wire, HttpRequest(path="t", body=tag)) == (200, b"/v1/t|" + tag)
        assert [asked.body for asked in up.asked] == [b"1", b"2", b"2"]
        assert wire.stats()["resent"] == 1


async def test_408_that_keeps_the_connection_is_an_answer(kind: str) -> None:
    late = b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 4\r\n\r\nslow"
    async with peer(answering(OK, late)) as up, to(up.url, kind) as wire:
        await fetch(wire)
        assert await fetch(wire) == (408, b"slow")
        assert wire.stats()["resent"] == 0
        assert len(up.asked) == 2


async def test_request_on_a_new_connection_is_sent_once(kind: str) -> None:
    async with peer(answering(b"", then="end")) as up, to(up.url, kind) as wire:
        assert (await failure(wire)).kind is UNREACHABLE
        assert len(up.asked) == 1
        assert wire.stats()["resent"] == 0


async def test_request_that_fails_again_on_a_new_connection_fails(kind: str) -> None:
    async def talk(it: Talk) -> None:
        await it.request()
        if it.number == 1:
            it.send(OK)
            await it.request()

    async with peer(talk) as up, to(up.url, kind) as wire:
        await fetch(wire)
        assert (await failure(wire)).kind is UNREACHABLE
        assert len(up.asked) == 3


async def test_request_of_which_a_part_was_answered_is_not_sent_again(kind: str) -> None:
    async with (
        peer(answering(OK, b"HTTP/1.1 200 OK\r\ncontent-le", then="end")) as up,
        to(up.url, kind) as wire,
    ):
        await fetch(wire)
        assert (await failure(wire)).kind in {TRUNCATED, UNREACHABLE}
        assert len(up.asked) == 2


UNSENDABLE = [
    HttpRequest(path="a b"),
    HttpRequest(path="a\r\nx: y"),
    HttpRequest(path="a#b"),
    HttpRequest(path="caf\xe9"),
    HttpRequest(path="a", method="GE T"),
    HttpRequest(path="a", headers=(("x", f"{KEY}\r\nevil: 1"),)),
    HttpRequest(path="a", headers=(("x", f"{KEY}\nevil: 1"),)),
    HttpRequest(path="a", headers=(("x", f"{KEY}\0"),)),
    HttpRequest(path="a", headers=(("x", f"{KEY}\ud800"),)),
    HttpRequest(path="a", headers=(("x y", "1"),)),
    HttpRequest(path="a", headers=(("", "1"),)),
    HttpRequest(path="a", headers=(("Content-Length", "7"),)),
    HttpRequest(path="a", headers=(("transfer-encoding", "chunked"),)),
]


@pytest.mark.parametrize("request_", UNSENDABLE, ids=repr)
async def test_what_would_not_be_one_request_is_refused_unsent(kind: str, request_: HttpRequest) -> None:
    async with peer(answering(OK)) as up, to(up.url, kind) as wire:
        error = await failure(wire, request_)
        assert error.kind is ErrorKind.INVALID_REQUEST
        assert KEY not in "".join(traceback.format_exception(error)) + repr(error) + error.detail
        assert (up.connections, up.asked) == (0, [])


def test_credential_with_a_line_break_is_refused_by_name(kind: str) -> None:
    with pytest.raises(ServerError, match="x-api-key") as caught:
        TRANSPORTS[kind]("http://h", PoolConfig(), {"x-api-key": Secret(f"{KEY}\n")})
    assert KEY not in repr(caught.value)


def test_configuration_chooses_and_proxies_need_aiohttp(kind: str) -> None:
    chosen = transport("http://h", PoolConfig.model_validate({"transport": kind}), {})
    assert type(chosen) is TRANSPORTS[kind]
    assert PoolConfig().transport == "direct"
    assert PoolConfig(proxy_from_env=True).transport == "aiohttp"
    with pytest.raises(ValueError, match="proxy_from_env"):
        PoolConfig(proxy_from_env=True, transport="direct")
