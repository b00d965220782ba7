"""What every transport must do, whichever carries it: see ``llm_server.pool.transport.Transport``."""

import asyncio
import gzip
import zlib
from contextlib import aclosing

import pytest

from llm_server.contract import HttpRequest, Secret
from llm_server.pool.config import PoolConfig
from llm_server.pool.transports import TRANSPORTS
from tests.pool.peers import (
    KEY,
    OK,
    POST,
    Talk,
    answering,
    every_transport,
    fetch,
    on_every_loop,
    peer,
    pieces,
    to,
)

pytestmark = every_transport


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


async def test_a_proxy_of_the_environment_is_obeyed_where_that_is_configured(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with peer(answering(OK, OK)) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        if kind == "direct":
            async with peer(answering(OK)) as up, to(up.url, kind) as wire:
                await fetch(wire)
                assert (len(up.asked), proxy.asked) == (1, [])
            return
        async with to("http://elsewhere.test", kind, proxy_from_env=True) as wire:
            assert await fetch(wire) == (200, b"ok")
            assert proxy.asked[0].target == "http://elsewhere.test/v1/chat"
