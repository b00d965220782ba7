"""What every transport must do, whichever carries it: see ``llm_server.pool.transport.Transport``."""

import asyncio
import gzip
import logging
import socket
import traceback
import zlib
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
    pieces,
    to,
)

pytestmark = every_transport


async def failure(transport, request: HttpRequest = POST, within_s: float | None = None) -> ServerError:
    with pytest.raises(ServerError) as caught:
        await fetch(transport, request, within_s)
    return caught.value


@on_every_loop
async def test_request_arrives_as_given_with_the_configured_headers_and_none_of_a_browser(kind: str) -> None:
    async with peer(answering(OK)) as up, to(up.url, kind) as wire:
        headers = (("x-one", "1"), ("content-type", "application/json"))
        request = HttpRequest(path="/a%2Fb:do?x=1&y=%20", body=b'{"a":1}', headers=headers)
        assert await fetch(wire, request) == (200, b"ok")
        (got,) = up.asked
        assert (got.method, got.target, got.body) == ("POST", "/v1/a%2Fb:do?x=1&y=%20", b'{"a":1}')
        assert {
            name: got.headers.get(name) for name in ("x-one", "authorization", "user-agent", "accept")
        } == {
            "x-one": "1",
            "authorization": f"Bearer {KEY}",
            "user-agent": "llm-server",
            "accept": "application/json, text/event-stream",
        }
        assert got.headers["host"] == up.url.removeprefix("http://")
        assert got.headers["accept-encoding"] == "gzip, deflate"
        assert "cookie" not in got.headers


async def test_configured_and_given_headers_come_before_the_usual_ones(kind: str) -> None:
    async with peer(answering(OK)) as up:
        wire = TRANSPORTS[kind](
            up.url, PoolConfig(), {"User-Agent": Secret("mine"), "Host": Secret("virtual")}
        )
        await fetch(wire, HttpRequest(path="chat", headers=(("accept", "text/plain"),)))
        await wire.close()
        got = up.asked[0].headers
        assert (got["user-agent"], got["host"], got["accept"]) == ("mine", "virtual", "text/plain")


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_no_body_is_announced_only_where_there_could_be_one(kind: str, method: str) -> None:
    async with peer(answering(OK)) as up, to(up.url, kind) as wire:
        await fetch(wire, HttpRequest(path="models", method=method))
        assert up.asked[0].headers.get("content-length") == ("0" if method == "POST" else None)


async def test_headers_of_an_answer_have_lower_case_names_and_the_first_of_each(kind: str) -> None:
    answer = (
        b"HTTP/1.1 200 OK\r\nX-Request-ID: r1\r\nX-request-id: r2\r\nX: \xe9\r\nContent-Length: 0\r\n\r\n"
    )
    async with peer(answering(answer)) as up, to(up.url, kind) as wire, wire.exchange(POST) as response:
        assert response.headers["x-request-id"] == response.headers.get("x-request-id") == "r1"
        assert response.headers.get("absent") is None
        assert response.headers.get("absent", "") == ""
        assert "x-request-id" in response.headers
        assert "absent" not in response.headers
        assert {"x-request-id", "content-length"} <= set(response.headers)
        assert len(response.headers) == len(dict(response.headers))


@on_every_loop
async def test_connection_is_reused_after_a_whole_body_and_cookies_are_forgotten(kind: str) -> None:
    answer = b"HTTP/1.1 200 OK\r\nset-cookie: a=b\r\ncontent-length: 2\r\n\r\nok"
    async with peer(answering(answer, answer, answer)) as up, to(up.url, kind) as wire:
        for _ in range(3):
            await fetch(wire)
        assert up.connections == 1
        assert all("cookie" not in asked.headers for asked in up.asked)
        assert wire.stats() == {"open": 1, "idle": 1, "opened": 1, "reused": 2, "resent": 0}
        await wire.close()
        await up.until(lambda up: up.open == 0)
        assert wire.stats()["open"] == 0


@on_every_loop
async def test_closed_transport_opens_again(kind: str) -> None:
    async with peer(answering(OK)) as up, to(up.url, kind) as wire:
        await fetch(wire)
        await wire.close()
        assert await fetch(wire) == (200, b"ok")
        await wire.close()
        await wire.close()


@on_every_loop
async def test_large_bodies_go_whole(kind: str) -> None:
    async with peer(answering(OK, OK)) as up, to(up.url, kind) as wire:
        body = bytes(range(256)) * 4096 * 12
        for _ in range(2):
            assert await fetch(wire, HttpRequest(path="chat", body=body)) == (200, b"ok")
        assert [asked.body == body for asked in up.asked] == [True, True]
        assert up.connections == 1


CODINGS = {
    "gzip": gzip.compress(b'{"a":1}'),
    "GZIP": gzip.compress(b'{"a":1}'),
    "deflate": zlib.compress(b'{"a":1}'),
    "identity": b'{"a":1}',
}


@pytest.mark.parametrize("coding", CODINGS)
@pytest.mark.parametrize("way", ["read", "chunks"])
async def test_codings_that_are_asked_for_are_decoded(kind: str, coding: str, way: str) -> None:
    body = CODINGS[coding]
    head = b"HTTP/1.1 200 OK\r\ncontent-encoding: %b\r\ncontent-length: %d\r\n\r\n" % (
        coding.encode(),
        len(body),
    )
    async with peer(answering(head + body)) as up, to(up.url, kind) as wire, wire.exchange(POST) as response:
        got = await response.read() if way == "read" else b"".join(await pieces(response))
        assert got == b'{"a":1}'


async def test_redirect_is_an_answer_and_is_not_followed(kind: str) -> None:
    answer = b"HTTP/1.1 307 Go\r\nlocation: http://127.0.0.1:1/elsewhere\r\ncontent-length: 0\r\n\r\n"
    async with peer(answering(answer)) as up, to(up.url, kind) as wire:
        assert (await fetch(wire))[0] == 307
        assert len(up.asked) == 1


@pytest.mark.parametrize("status", [b"100 Continue", b"102 Processing", b"103 Early Hints"])
async def test_interim_answers_are_passed_over(kind: str, status: bytes) -> None:
    interim = b"HTTP/1.1 %b\r\nlink: </a>\r\n\r\n" % status
    async with peer(answering(interim * 5 + OK, OK)) as up, to(up.url, kind) as wire:
        assert await fetch(wire) == (200, b"ok")
        assert await fetch(wire) == (200, b"ok")
        assert up.connections == 1


@pytest.mark.parametrize("status", [204, 304])
async def test_bodiless_statuses_have_no_body_whatever_is_announced(kind: str, status: int) -> None:
    answer = b"HTTP/1.1 %d X\r\ncontent-length: 5\r\n\r\n" % status
    async with peer(answering(answer, OK)) as up, to(up.url, kind) as wire:
        assert await fetch(wire) == (status, b"")
        assert await fetch(wire) == (200, b"ok")
        assert up.connections == 1


async def test_answer_to_head_has_no_body(kind: str) -> None:
    async with (
        peer(answering(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n")) as up,
        to(up.url, kind) as wire,
    ):
        assert await fetch(wire, HttpRequest(path="x", method="HEAD")) == (200, b"")


FRAMED = {
    "length": (b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nabcdef", "stay", True),
    "chunks": (
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2;x=y\r\nab\r\n4\r\ncdef\r\n0\r\n\r\n",
        "stay",
        True,
    ),
    "trailers": (
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n6\r\nabcdef\r\n0\r\nx-t: 1\r\n\r\n",
        "stay",
        True,
    ),
    "close": (b"HTTP/1.1 200 OK\r\n\r\nabcdef", "end", False),
    "HTTP/1.0": (b"HTTP/1.0 200 OK\r\ncontent-length: 6\r\n\r\nabcdef", "end", False),
    "HTTP/1.0 kept": (
        b"HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 6\r\n\r\nabcdef",
        "stay",
        True,
    ),
    "connection: close": (
        b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 6\r\n\r\nabcdef",
        "end",
        False,
    ),
}


@on_every_loop
@pytest.mark.parametrize("form", FRAMED)
async def test_body_ends_where_its_framing_says_and_the_connection_is_kept_or_not(
    kind: str, form: str
) -> None:
    answer, then, kept = FRAMED[form]
    async with peer(answering(answer, then=then)) as up, to(up.url, kind) as wire:
        async with wire.exchange(POST) as response:
            assert b"".join(await pieces(response)) == b"abcdef"
            assert "x-t" not in response.headers
        assert wire.stats()["idle"] == kept


@on_every_loop
async def test_stream_gives_each_piece_when_it_comes(kind: str) -> None:
    gate = asyncio.Event()

    async def talk(it: Talk) -> None:
        await it.request()
        it.send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nfirst\r\n")
        await gate.wait()
        it.send(b"6\r\nsecond\r\n0\r\n\r\n")
        await it.gone()

    async with peer(talk) as up, to(up.url, kind) as wire:
        async with wire.exchange(POST) as response, aclosing(response.chunks()) as coming:
            assert await anext(coming) == b"first"
            gate.set()
            assert [piece async for piece in coming] == [b"second"]
        assert wire.stats()["idle"] == 1


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
