"""HTTP that proxies and servers read differently is refused, and so is what has no end. Byte by byte."""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass

import pytest
import pytest_asyncio

from llm_server.api.connection import MAX_HEADERS, MAX_PIPELINED
from llm_server.testing import FakeObserver, FakeProvider
from tests.api.conftest import Serve, build
from tests.end_to_end.raw import Wire, connected
from tests.serving import serving

CHAT = json.dumps({"model": "fake/echo", "messages": [{"role": "user", "content": "hello there"}]}).encode()
LENGTH = b"content-length: %d\r\n" % len(CHAT)
PATHS = ["/v1/chat/completions", "/v1/schemas"]
"""One that is served by the lane and one that never is."""

Connect = Callable[..., Awaitable[Wire]]


@pytest.fixture
async def connect(serve: Serve) -> AsyncGenerator[Connect, None]:
    """Return a function that serves once and opens another connection each time."""
    async with AsyncExitStack() as stack:
        urls: list[str] = []

        async def open_one(**limits: float) -> Wire:
            if not urls:
                urls.append(str((await serve(**limits))._base_url))
            return await stack.enter_async_context(connected(urls[0]))

        yield open_one


@dataclass(frozen=True)
class Shared:
    """One server for all tests that only send one request each."""

    url: str
    provider: FakeProvider


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(transport: str) -> AsyncIterator[Shared]:
    provider = FakeProvider()
    async with serving(build(provider, FakeObserver())) as url:
        yield Shared(url, provider)


in_one_loop = pytest.mark.asyncio(loop_scope="module")


async def answer(wire: Wire) -> tuple[int, dict[str, str], bytes]:
    status, headers = await wire.head()
    return status, headers, await wire.reader.readexactly(int(headers["content-length"]))


def chunked(*pieces: bytes, end: bytes = b"0\r\n\r\n", before: bytes = b"") -> bytes:
    coding = b"transfer-encoding: chunked\r\n"
    return before + coding + b"\r\n" + b"".join(b"%x\r\n%b\r\n" % (len(each), each) for each in pieces) + end


HOST = b"host: test\r\n"
BAD: dict[str, bytes] = {
    # the body's length
    "length and coding": chunked(CHAT, before=HOST + LENGTH),
    "coding and length": HOST + b"transfer-encoding: chunked\r\n" + LENGTH + b"\r\n0\r\n\r\n",
    "coding identity": HOST + b"transfer-encoding: identity\r\n" + b"\r\n" + CHAT,
    "coding gzip": HOST + b"transfer-encoding: gzip, chunked\r\n" + b"\r\n0\r\n\r\n",
    "coding not last": HOST + b"transfer-encoding: chunked, gzip\r\n" + b"\r\n0\r\n\r\n",
    "coding twice": chunked(CHAT, before=HOST + b"transfer-encoding: chunked\r\n"),
    "coding misspelt": HOST + b"transfer-encoding: xchunked\r\n\r\n0\r\n\r\n",
    "length negative": HOST + b"content-length: -1\r\n\r\n",
    "length with a sign": HOST + b"content-length: +1\r\n\r\n1",
    "length in hex": HOST + b"content-length: 0x1\r\n\r\n1",
    "length empty": HOST + b"content-length: \r\n\r\n1",
    "length a list": HOST + b"content-length: 1, 1\r\n\r\n1",
    "length twice": HOST + LENGTH + LENGTH + b"\r\n" + CHAT,
    "lengths that differ": HOST + LENGTH + b"content-length: 1\r\n\r\n" + CHAT,
    "length beyond all": HOST + b"content-length: 99999999999999999999999\r\n\r\n",
    # lines
    "folded line": HOST + LENGTH + b"x: a\r\n b\r\n\r\n" + CHAT,
    "folded by a tab": HOST + LENGTH + b"x: a\r\n\tb\r\n\r\n" + CHAT,
    "space before the first": b" x: a\r\n" + HOST + LENGTH + b"\r\n" + CHAT,
    "bare LF after a field": HOST + b"x: a\n" + LENGTH + b"\r\n" + CHAT,
    "bare LF at the end": HOST + LENGTH + b"\n" + CHAT,
    "bare CR": HOST + LENGTH + b"x: a\rb\r\n\r\n" + CHAT,
    "space before the colon": HOST + LENGTH + b"x : a\r\n\r\n" + CHAT,
    "no colon": HOST + LENGTH + b"x\r\n\r\n" + CHAT,
    "no name": HOST + LENGTH + b": x\r\n\r\n" + CHAT,
    "NUL in a value": HOST + LENGTH + b"x: a\0b\r\n\r\n" + CHAT,
    "NUL in a name": HOST + LENGTH + b"x\0: a\r\n\r\n" + CHAT,
    "control character": HOST + LENGTH + b"x: a\x01\r\n\r\n" + CHAT,
    # the host
    "no host": LENGTH + b"\r\n" + CHAT,
    "two hosts": HOST + HOST + LENGTH + b"\r\n" + CHAT,
    "two empty hosts": b"host:\r\nhost:\r\n" + LENGTH + b"\r\n" + CHAT,
    "a path in the host": b"host: a/health?x=\r\n" + LENGTH + b"\r\n" + CHAT,
    "a fragment in the host": b"host: a#b\r\n" + LENGTH + b"\r\n" + CHAT,
    "a user in the host": b"host: u@a\r\n" + LENGTH + b"\r\n" + CHAT,
    "a space in the host": b"host: a b\r\n" + LENGTH + b"\r\n" + CHAT,
    "a port in letters": b"host: a:b\r\n" + LENGTH + b"\r\n" + CHAT,
    "letters beyond ASCII in the host": b"host: \xe4\r\n" + LENGTH + b"\r\n" + CHAT,
    # chunks
    "chunk extension with LF": chunked(end=b"3;a\nabc\r\n0\r\n\r\n", before=HOST),
    "chunk extension with a control": chunked(end=b"3;a\x01\r\nabc\r\n0\r\n\r\n", before=HOST),
    "chunk extension without a name": chunked(end=b"3;\r\nabc\r\n0\r\n\r\n", before=HOST),
    "chunk extension with a space": chunked(end=b"3;a b\r\nabc\r\n0\r\n\r\n", before=HOST),
    "chunk extension with a quoted LF": chunked(end=b'3;a="x\ny"\r\nabc\r\n0\r\n\r\n', before=HOST),
    "chunk size and a space": chunked(end=b"3 \r\nabc\r\n0\r\n\r\n", before=HOST),
    "chunk size with 0x": chunked(end=b"0x3\r\nabc\r\n0\r\n\r\n", before=HOST),
    "chunk size with a sign": chunked(end=b"+3\r\nabc\r\n0\r\n\r\n", before=HOST),
    "chunk size and LF": chunked(end=b"3\nabc\r\n0\r\n\r\n", before=HOST),
    "chunk size beyond all": chunked(end=b"fffffffffffffffff\r\nabc\r\n0\r\n\r\n", before=HOST),
    "chunk longer than it says": chunked(end=b"3\r\nabcd\r\n0\r\n\r\n", before=HOST),
    "chunk that ends with LF": chunked(end=b"3\r\nabc\n0\r\n\r\n", before=HOST),
    "extensions without end": chunked(end=b"1;" + b"a" * 70_000, before=HOST),
    "trailers without end": chunked(CHAT, end=b"0\r\nx: " + b"a" * 70_000, before=HOST),
}


@in_one_loop
@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("path", PATHS)
async def test_it_is_a_400_and_the_end_of_the_connection(shared: Shared, path: str, name: str) -> None:
    async with connected(shared.url) as wire:
        wire.writer.write(b"POST %b HTTP/1.1\r\n%b" % (path.encode(), BAD[name]))
        status, headers, body = await answer(wire)
        assert (status, headers["connection"]) == (400, "close")
        assert json.loads(body)["error"]["type"] == "invalid_request_error"
        assert await wire.reader.read() == b""
    assert shared.provider.calls == []


LINES = {
    "bare LF": (b"POST /v1/chat/completions HTTP/1.1\n" + HOST + b"\r\n", 400),
    "HTTP/2": (b"POST /v1/chat/completions HTTP/2.0\r\n" + HOST + LENGTH + b"\r\n" + CHAT, 505),
    "HTTP/1.2": (b"POST /v1/chat/completions HTTP/1.2\r\n" + HOST + b"\r\n", 400),
    "HTTP/0.9": (b"GET /health\r\n\r\n", 505),
    "the preface of HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00", 400),
    "an unknown method": (b"FOO / HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "a method in small letters": (b"post /v1/chat/completions HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "a space in the path": (b"POST /v1/chat completions HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "a tab for a space": (b"POST\t/v1/messages HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "letters beyond ASCII": (b"POST /v1/\xff HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "a tunnel": (b"CONNECT evil:443 HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "an endless path": (b"POST /" + b"a" * 40_000, 431),
    "an endless field": (b"POST / HTTP/1.1\r\nx: " + b"a" * 40_000, 431),
    "large headers": (b"POST / HTTP/1.1\r\n" + HOST + b"x: %b\r\n" % (b"a" * 8000) * 5 + b"\r\n", 431),
    "white space before a value": (b"POST / HTTP/1.1\r\n" + HOST + b"x:%ba\r\n\r\n" % (b" " * 40_000), 431),
    "white space after a value": (b"POST / HTTP/1.1\r\n" + HOST + b"x: a%b\r\n\r\n" % (b"\t" * 200_000), 431),
    "white space and an upgrade": (
        b"GET / HTTP/1.1\r\nconnection: upgrade\r\nupgrade: x\r\n" + HOST + b"x:%b\r\n\r\n" % (b" " * 40_000),
        431,
    ),
    "empty lines": (b"\r\n" * 20_000 + b"GET /health HTTP/1.1\r\n" + HOST + b"\r\n", 431),
    "a coding in HTTP/1.0": (b"POST /v1/messages HTTP/1.0\r\n" + chunked(CHAT, before=HOST), 400),
    "many headers": (b"POST / HTTP/1.1\r\n" + HOST + b"x: a\r\n" * MAX_HEADERS + b"\r\n", 431),
    "a megabyte": (b"POST / HTTP/1.1\r\n" + b"x: %b\r\n" % (b"a" * 1000) * 1000 + HOST + b"\r\n", 431),
}


@in_one_loop
@pytest.mark.parametrize("name", LINES)
async def test_other_beginnings_are_refused(shared: Shared, name: str) -> None:
    sent, expected = LINES[name]
    async with connected(shared.url) as wire:
        wire.writer.write(sent)
        status, headers, _ = await answer(wire)
    assert (status, headers["connection"]) == (expected, "close")
    assert shared.provider.calls == []


GOOD: dict[str, bytes] = {
    "plain": HOST + LENGTH + b"\r\n" + CHAT,
    "no space after the colon": b"host:test\r\n" + LENGTH + b"\r\n" + CHAT,
    "chunks": chunked(CHAT, before=HOST),
    "chunks of one byte": chunked(*(CHAT[at : at + 1] for at in range(len(CHAT))), before=HOST),
    "a chunk extension": chunked(end=b"%x;a=b\r\n%b\r\n0\r\n\r\n" % (len(CHAT), CHAT), before=HOST),
    "trailers": chunked(CHAT, end=b"0\r\ncontent-encoding: gzip\r\nhost: a/b\r\n\r\n", before=HOST),
    "chunked in capitals": HOST
    + b"Transfer-Encoding: Chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(CHAT), CHAT),
    "headers just below the limit": HOST + LENGTH + b"x: %b\r\n\r\n" % (b"a" * 32_000) + CHAT,
    "as many headers as may be": HOST + LENGTH + b"x: a\r\n" * (MAX_HEADERS - 2) + b"\r\n" + CHAT,
    "a wish to upgrade": HOST + LENGTH + b"connection: upgrade\r\nupgrade: h2c\r\n\r\n" + CHAT,
    "a wish for a web socket": HOST + LENGTH + b"connection: upgrade\r\nupgrade: websocket\r\n\r\n" + CHAT,
    "a host with a port": b"host: [::1]:8000\r\n" + LENGTH + b"\r\n" + CHAT,
    "an empty host": b"host:\r\n" + LENGTH + b"\r\n" + CHAT,
    "an underscore": HOST + LENGTH + b"content_length: 1\r\n\r\n" + CHAT,
}


@in_one_loop
@pytest.mark.parametrize("name", GOOD)
async def test_what_is_allowed_is_answered_and_the_connection_goes_on(shared: Shared, name: str) -> None:
    async with connected(shared.url) as wire:
        for _ in range(2):
            wire.writer.write(b"POST /v1/chat/completions HTTP/1.1\r\n%b" % GOOD[name])
            status, headers, body = await answer(wire)
            assert (status, "connection" in headers) == (200, False)
            assert json.loads(body)["choices"][0]["message"]["content"] == "hello there"
    shared.provider.calls.clear()


@pytest.mark.parametrize("more", [0, 1])
@pytest.mark.parametrize("body", [0, 500, 200_000])
async def test_the_size_of_headers_is_what_comes(connect: Connect, more: int, body: int) -> None:
    """Whatever of it the parser keeps, and whatever comes behind it at once."""
    wire = await connect(max_header_bytes=2048)
    head = b"POST /v1/chat/completions HTTP/1.1\r\n" + HOST + b"content-length: %d\r\nx:" % body
    head += b" " * (2048 - len(head) - 4 + more) + b"\r\n\r\n"
    wire.writer.write(head + b" " * body)
    assert (await answer(wire))[0] == (431 if more else 400)


@pytest.mark.parametrize("first", [b"GET /health HTTP/1.1\r\n" + HOST + b"\r\n", b"\r\n"])
@pytest.mark.parametrize("field", [b"x:" + b" " * 200_000 + b"\r\n", b"x: %b\r\n" % (b"a" * 33_000)])
async def test_the_headers_of_a_request_behind_another_have_a_size_too(
    connect: Connect, first: bytes, field: bytes
) -> None:
    wire = await connect()
    wire.writer.write(first + b"POST /v1/chat/completions HTTP/1.1\r\n" + HOST + field + b"\r\n")
    statuses = [(await answer(wire))[0] for _ in range(1 + (len(first) > 2))]
    assert statuses[-1] == 431


@pytest.mark.parametrize("size", [1, 7, 64])
async def test_it_does_not_matter_how_a_request_is_cut(connect: Connect, size: int) -> None:
    wire = await connect()
    sent = b"POST /v1/chat/completions HTTP/1.1\r\n%b" % GOOD["chunks"]
    for at in range(0, len(sent), size):
        wire.writer.write(sent[at : at + size])
        await wire.writer.drain()
        await asyncio.sleep(0)
    assert (await answer(wire))[0] == 200


async def test_a_host_once_good_does_not_excuse_the_next_request(connect: Connect) -> None:
    wire = await connect()
    for head, expected in ((b"HTTP/1.1", 200), (b"HTTP/2.0", 505)):
        wire.writer.write(b"POST /v1/chat/completions %b\r\n%b" % (head, GOOD["plain"]))
        assert (await answer(wire))[0] == expected


async def test_old_clients_are_answered_and_left(connect: Connect) -> None:
    for path in ("/v1/chat/completions", "/v1/chat/completions?a=b"):
        wire = await connect()
        wire.writer.write(b"POST %b HTTP/1.0\r\n%b\r\n%b" % (path.encode(), LENGTH, CHAT))
        status, headers, body = await answer(wire)
        assert (status, headers["connection"]) == (200, "close")
        assert b"hello there" in body
        assert await wire.reader.read() == b""


STREAM = json.dumps({**json.loads(CHAT), "stream": True}).encode()


async def test_old_clients_get_streams_that_end_with_the_connection(connect: Connect) -> None:
    wire = await connect()
    length = b"content-length: %d\r\n\r\n" % len(STREAM)
    wire.writer.write(b"POST /v1/chat/completions HTTP/1.0\r\nconnection: keep-alive\r\n" + length + STREAM)
    status, headers = await wire.head()
    assert (status, headers["connection"], headers["content-type"][:17]) == (
        200,
        "close",
        "text/event-stream",
    )
    assert not {"transfer-encoding", "content-length"} & headers.keys()
    events = (await wire.reader.read()).decode().strip().split("\n\n")
    assert events[-1] == "data: [DONE]"
    said = [json.loads(each.removeprefix("data: "))["choices"][0]["delta"] for each in events[:-1]]
    assert "".join(each.get("content") or "" for each in said) == "hello there"


UPGRADES = {
    "close": (b"HTTP/1.1", b"connection: close, upgrade\r\nupgrade: h2c\r\n"),
    "close in a field of its own": (
        b"HTTP/1.1",
        b"connection: upgrade\r\nupgrade: x\r\nconnection: Close\r\n",
    ),
    "an old client": (b"HTTP/1.0", b"connection: upgrade\r\nupgrade: websocket\r\n"),
    "an old client that would stay": (b"HTTP/1.0", b"connection: upgrade, keep-alive\r\nupgrade: x\r\n"),
}


@in_one_loop
@pytest.mark.parametrize("name", UPGRADES)
@pytest.mark.parametrize("cut", [False, True])
async def test_a_wish_to_upgrade_changes_nothing_else(shared: Shared, name: str, cut: bool) -> None:
    version, fields = UPGRADES[name]
    async with connected(shared.url) as wire:
        sent = b"POST /v1/chat/completions %b\r\n%b%b%b\r\n%b" % (version, HOST, fields, LENGTH, CHAT)
        for piece in [sent[:-20], sent[-20:]] if cut else [sent]:
            wire.writer.write(piece)
            await wire.writer.drain()
            await asyncio.sleep(0)
        status, headers, body = await answer(wire)
        assert (status, headers["connection"]) == (200, "close")
        assert b"hello there" in body
        assert await wire.reader.read() == b""
    shared.provider.calls.clear()


WAITING = b"POST %b %b\r\n" + HOST + b"content-type: application/json\r\nexpect: 100-Continue\r\n"


@pytest.mark.parametrize("path", [b"/v1/chat/completions", b"/v1/schemas/infer"])
async def test_a_client_that_waits_is_asked_for_the_body(connect: Connect, path: bytes) -> None:
    wire = await connect()
    body = CHAT if b"chat" in path else b'{"examples": [1]}'
    for _ in range(2):
        wire.writer.write(WAITING % (path, b"HTTP/1.1") + b"content-length: %d\r\n\r\n" % len(body))
        assert await wire.head() == (100, {})
        wire.writer.write(body)
        status, headers, _ = await answer(wire)
        assert (status, "connection" in headers) == (200, False)


async def test_a_client_that_does_not_wait_is_not_asked(connect: Connect) -> None:
    for version in (b"HTTP/1.1", b"HTTP/1.0"):
        wire = await connect()
        wire.writer.write(WAITING % (b"/v1/chat/completions", version) + LENGTH + b"\r\n" + CHAT)
        assert (await answer(wire))[0] == 200
    wire = await connect()
    wire.writer.write(WAITING % (b"/v1/chat/completions", b"HTTP/1.0") + LENGTH + b"\r\n")
    await wire.writer.drain()
    wire.writer.write(CHAT)
    assert (await answer(wire))[0] == 200


@pytest.mark.parametrize("path", [b"/v1/chat/completions", b"/nowhere"])
async def test_a_body_that_is_not_wanted_is_not_taken_for_a_request(connect: Connect, path: bytes) -> None:
    """Who is refused instead of asked may send the body or not: what comes next cannot be told apart."""
    wire = await connect(max_body_bytes=1024)
    inner = b"GET /health HTTP/1.1\r\n" + HOST + b"\r\n"
    wire.writer.write(WAITING % (path, b"HTTP/1.1") + b"content-length: %d\r\n\r\n" % 5000)
    status, headers, _ = await answer(wire)
    assert (status, headers["connection"]) == (404 if b"nowhere" in path else 413, "close")
    wire.writer.write(inner)
    assert await wire.reader.read() == b""


async def test_a_client_that_says_so_is_left(connect: Connect) -> None:
    wire = await connect()
    wire.writer.write(b"POST /v1/messages HTTP/1.1\r\nconnection: close\r\n" + GOOD["plain"])
    status, headers, _ = await answer(wire)
    assert (status, headers["connection"]) == (400, "close")  # no max_tokens
    assert await wire.reader.read() == b""


async def test_pipelined_requests_are_answered_in_order(connect: Connect) -> None:
    wire = await connect()
    texts = [f"number {at}" for at in range(20)]
    sent = b""
    for at, text in enumerate(texts):
        body = json.dumps({"model": "fake/echo", "messages": [{"role": "user", "content": text}]}).encode()
        sent += b"GET /health HTTP/1.1\r\n" + HOST + b"\r\n" if at % 3 == 0 else b""
        head = b"POST /v1/chat/completions HTTP/1.1\r\n" + HOST + b"content-length: %d\r\n\r\n"
        sent += head % len(body) + body
    wire.writer.write(sent)
    for at, text in enumerate(texts):
        if at % 3 == 0:
            assert b"ok" in (await answer(wire))[2]
        assert text.encode() in (await answer(wire))[2]


async def test_a_fault_behind_a_request_is_told_after_its_answer(
    connect: Connect, provider: FakeProvider
) -> None:
    provider.gate = asyncio.Event()
    wire = await connect()
    good = b"POST /v1/chat/completions HTTP/1.1\r\n" + GOOD["plain"]
    wire.writer.write(good + good)
    await provider.asked.wait()
    wire.writer.write(b"nonsense\r\n\r\n")
    await wire.writer.drain()
    provider.gate.set()
    told = [await answer(wire) for _ in range(3)]
    assert [status for status, _, _ in told] == [200, 200, 400]
    assert await wire.reader.read() == b""


async def test_pipelining_has_a_bound(connect: Connect, provider: FakeProvider) -> None:
    provider.gate = asyncio.Event()
    wire = await connect()
    good = b"POST /v1/chat/completions HTTP/1.1\r\n" + GOOD["plain"]
    wire.writer.write(good)
    await provider.asked.wait()
    wire.writer.write((b"GET /health HTTP/1.1\r\n" + HOST + b"\r\n") * 2 * MAX_PIPELINED)
    provider.gate.set()
    statuses = []
    while not wire.reader.at_eof():
        try:
            statuses.append((await answer(wire))[0])
        except asyncio.IncompleteReadError:
            break
    assert 1 < len(statuses) <= 2 * MAX_PIPELINED + 1
    assert set(statuses[:-1]) == {200}


@pytest.mark.parametrize("path", PATHS[:1])
async def test_a_body_that_is_refused_is_dropped_and_the_connection_goes_on(
    connect: Connect, provider: FakeProvider, observer: FakeObserver, path: str
) -> None:
    wire = await connect(max_body_bytes=2048)
    head = b"POST %b HTTP/1.1\r\n" % path.encode() + HOST
    wire.writer.write(head + b"content-length: 5000\r\n\r\n")
    assert (await answer(wire))[0] == 413
    wire.writer.write(b" " * 5000)
    for pieces in ([b" " * 1500] * 3, [CHAT]):
        wire.writer.write(head + chunked(*pieces))
        assert (await answer(wire))[0] == (413 if len(pieces) > 1 else 200)
    assert len(provider.calls) == 1
    assert [error for what, _, error in observer.told if what == "finished"] == [
        "too_large",
        "too_large",
        None,
    ]


async def test_delays_are_not_waited_for_together(connect: Connect) -> None:
    """Nagle's algorithm is off on the server's side: a stream's pieces do not wait for acknowledgements."""
    import socket

    from llm_server.api import connection

    seen: list[int] = []
    original = connection.Connection.connection_made

    def noting(self: connection.Connection, transport: asyncio.Transport) -> None:
        original(self, transport)
        sock = transport.get_extra_info("socket")
        seen.append(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(connection.Connection, "connection_made", noting)
        wire = await connect()
        wire.writer.write(b"GET /health HTTP/1.1\r\n" + HOST + b"\r\n")
        await answer(wire)
    assert seen == [1]
