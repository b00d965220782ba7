"""Clients that begin and do not go on, that do not read, or that are many: they cost nobody else anything."""

import asyncio
import json
import time
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack
from typing import Any

import aiohttp
import pytest

from llm_server.api.connection import Connection
from llm_server.cli.limits import raise_open_files
from llm_server.contract import Chunk, Finish, FinishReason, TextDelta, fold
from llm_server.testing import FakeObserver, FakeProvider
from tests.api.conftest import Serve
from tests.end_to_end.raw import Wire, connected

ASK: dict[str, Any] = {"model": "fake/echo", "messages": [{"role": "user", "content": "hello there"}]}
CHAT = json.dumps(ASK).encode()
LONG_S = 3600.0
HEAD = b"POST %b HTTP/1.1\r\nhost: test\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
PATHS = [b"/v1/chat/completions", b"/v1/structured-completions"]


class Turns:
    """A gate that lets everybody else go first, as a network does."""

    async def wait(self) -> None:
        await asyncio.sleep(0)


async def ended(wire: Wire) -> bytes:
    """Return what comes until the server has closed the connection."""
    try:
        return await wire.reader.read()
    except ConnectionError:
        return b""


def address(client: aiohttp.ClientSession) -> str:
    return str(client._base_url)


@pytest.fixture
async def connect(serve: Serve) -> AsyncGenerator[Any, None]:
    """Return a function that serves with these limits and opens a connection."""
    async with AsyncExitStack() as stack:

        async def open_one(**limits: float) -> Wire:
            return await stack.enter_async_context(connected(address(await serve(**limits))))

        yield open_one


async def test_a_connection_without_a_request_is_closed(connect: Any) -> None:
    wire = await connect(header_timeout_s=0.01)
    assert await wire.reader.read() == b""


async def test_line_ends_are_no_request(connect: Any) -> None:
    wire = await connect(header_timeout_s=0.01)
    end = asyncio.create_task(ended(wire))
    while not end.done():
        wire.writer.write(b"\r\n")
        await asyncio.sleep(0)
    assert end.result() == b""


@pytest.mark.parametrize(
    "begun", [b"P", b"POST /v1/chat/completions HTTP/1.1\r\n", HEAD[:-2] % (PATHS[0], 9)]
)
@pytest.mark.parametrize("used", [False, True], ids=["new", "used"])
async def test_headers_that_do_not_come_to_their_end_are_a_408(
    connect: Any, begun: bytes, used: bool
) -> None:
    wire = await connect(header_timeout_s=0.05)
    if used:
        await wire.ask("/v1/chat/completions", CHAT)
        _, headers = await wire.head()
        await wire.reader.readexactly(int(headers["content-length"]))
    wire.writer.write(begun)
    status, headers = await wire.head()
    assert (status, headers["connection"]) == (408, "close")
    await wire.reader.readexactly(int(headers["content-length"]))
    assert await wire.reader.read() == b""


async def test_headers_that_drip_have_no_more_time(connect: Any) -> None:
    wire = await connect(header_timeout_s=0.05)
    wire.writer.write(b"POST /v1/chat/completions HTTP/1.1\r\nx: ")
    head = asyncio.create_task(wire.head())
    while not head.done():  # ends only if the server ends it
        wire.writer.write(b"a")
        await asyncio.sleep(0.001)
    assert head.result()[0] == 408


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("sent", [b"", CHAT[:10]], ids=["nothing", "a part"])
async def test_a_body_that_does_not_go_on_is_a_408(
    connect: Any, provider: FakeProvider, observer: FakeObserver, path: bytes, sent: bytes
) -> None:
    wire = await connect(body_idle_timeout_s=0.05)
    wire.writer.write(HEAD % (path, len(CHAT)) + sent)
    status, headers = await wire.head()
    assert (status, headers["connection"]) == (408, "close")
    await wire.reader.readexactly(int(headers["content-length"]))
    assert await wire.reader.read() == b""
    assert provider.calls == []
    if path == PATHS[0]:
        await observer.ended.wait()
        assert [error for what, _, error in observer.told if what == "finished"] == ["client_closed"]


async def test_a_body_that_goes_on_may_take_longer_than_it_may_rest(connect: Any) -> None:
    wire = await connect(body_idle_timeout_s=0.5)
    wire.writer.write(HEAD % (PATHS[0], len(CHAT)))
    for at in range(0, len(CHAT), 10):
        await asyncio.sleep(0.1)  # ten times and more: longer than the limit together
        wire.writer.write(CHAT[at : at + 10])
    assert (await wire.head())[0] == 200


@pytest.mark.parametrize("path", PATHS)
async def test_a_body_that_drips_has_an_end(connect: Any, path: bytes) -> None:
    wire = await connect(request_timeout_s=0.05)
    wire.writer.write(HEAD % (path, 1_000_000))
    head = asyncio.create_task(wire.head())
    while not head.done():  # ends only if the server ends it
        wire.writer.write(b" ")
        await asyncio.sleep(0.02)  # fifty bytes a second, a tenth of what prolongs its time
    assert head.result()[0] == 408


async def test_leaving_while_sending_is_noted(
    connect: Any, provider: FakeProvider, observer: FakeObserver
) -> None:
    wire = await connect()
    wire.writer.write(HEAD % (PATHS[0], len(CHAT)) + CHAT[:10])
    await wire.writer.drain()
    wire.writer.close()
    await observer.ended.wait()
    assert [error for what, _, error in observer.told if what == "finished"] == ["client_closed"]
    assert provider.calls == []


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/health"])
async def test_an_idle_connection_is_closed(connect: Any, path: str) -> None:
    wire = await connect(idle_s=0.05)
    if path == "/health":
        wire.writer.write(b"GET /health HTTP/1.1\r\nhost: test\r\n\r\n")
    else:
        await wire.ask(path, CHAT)
    status, headers = await wire.head()
    await wire.reader.readexactly(int(headers["content-length"]))
    assert status == 200
    assert await wire.reader.read() == b""


async def test_an_answer_may_take_longer_than_all_of_these(connect: Any, provider: FakeProvider) -> None:
    provider.gate = asyncio.Event()
    wire = await connect(header_timeout_s=0.02, body_idle_timeout_s=0.02, send_timeout_s=0.02, idle_s=0.02)
    await wire.ask("/v1/chat/completions", CHAT)
    await provider.asked.wait()
    await asyncio.sleep(0.1)  # five times the limits
    provider.gate.set()
    assert (await wire.head())[0] == 200


async def test_what_follows_a_refused_body_has_an_end_too(connect: Any) -> None:
    wire = await connect(max_body_bytes=1024, body_idle_timeout_s=0.05)
    wire.writer.write(HEAD % (PATHS[0], 100_000_000))
    status, headers = await wire.head()
    assert status == 413
    await wire.reader.readexactly(int(headers["content-length"]))
    end = asyncio.create_task(ended(wire))
    while not end.done():
        wire.writer.write(b" " * 10)
        await asyncio.sleep(0.001)
    assert end.result() == b""


PIECE = "y" * 65_536


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages"])
async def test_a_client_that_does_not_read_holds_up_the_upstream_and_is_left(
    connect: Any, provider: FakeProvider, observer: FakeObserver, path: str
) -> None:
    made = 0

    def endless(_: Any) -> Any:
        nonlocal made
        while True:
            made += 1
            yield Chunk((TextDelta(PIECE),))

    provider.script = endless
    provider.gate = Turns()  # type: ignore[assignment]  # waits as an event does
    wire = await connect(send_timeout_s=0.2)
    wire.writer.transport.pause_reading()
    await wire.ask(path, {**ASK, "stream": True, "max_tokens": 9})
    await observer.ended.wait()
    assert observer.told[-1][2] == "client_closed"
    assert provider.open == 0
    assert made * len(PIECE) < 64 * 1024 * 1024  # what sockets hold, and no more


async def test_a_client_that_reads_slowly_gets_all(connect: Any, provider: FakeProvider) -> None:
    provider.script = lambda _: [*[Chunk((TextDelta(PIECE),))] * 200, Chunk((Finish(FinishReason.STOP),))]
    wire = await connect()
    wire.writer.transport.pause_reading()
    await wire.ask("/v1/chat/completions", {**ASK, "stream": True})
    await provider.asked.wait()
    wire.writer.transport.resume_reading()
    assert (await wire.head())[0] == 200
    count = 0
    while piece := await wire.piece():
        count += piece.count(PIECE.encode())
    assert count == 200


@pytest.fixture
def lost(monkeypatch: pytest.MonkeyPatch) -> asyncio.Event:
    """Set when the server has lost a connection."""
    event = asyncio.Event()
    original = Connection.connection_lost

    def noting(self: Connection, exc: Exception | None) -> None:
        original(self, exc)
        event.set()

    monkeypatch.setattr(Connection, "connection_lost", noting)
    return event


PIECES = 400


def large(call: Any) -> Any:
    """Answer with 25 MB: what the sockets of both sides hold, and much more."""
    told = [*[Chunk((TextDelta(PIECE),))] * PIECES, Chunk((Finish(FinishReason.STOP),))]
    return told if call.stream else [fold(told)]


@pytest.mark.parametrize("last", [b"", b"connection: close\r\n"], ids=["stays", "leaves"])
@pytest.mark.parametrize("stream", [False, True])
async def test_a_client_that_goes_on_reading_may_take_longer_than_it_may_rest(
    connect: Any, provider: FakeProvider, stream: bool, last: bytes
) -> None:
    rest_s = 0.2
    provider.script = large
    wire = await connect(send_timeout_s=rest_s)
    body = json.dumps({**ASK, "stream": stream}).encode()
    wire.writer.write(HEAD[:-2] % (PATHS[0], len(body)) + last + b"\r\n" + body)
    assert (await wire.head())[0] == 200
    until_s = time.perf_counter() + 4 * rest_s
    got = 0
    while time.perf_counter() < until_s:
        got += (await wire.reader.read(65_536)).count(b"y")
        await asyncio.sleep(rest_s / 20)
    while got < PIECES * len(PIECE):
        piece = await wire.reader.read(1_000_000)
        assert piece, "the server closed the connection"
        got += piece.count(b"y")
    assert got == PIECES * len(PIECE)


@pytest.mark.parametrize("last", [b"", b"connection: close\r\n"], ids=["stays", "leaves"])
@pytest.mark.parametrize("taken", [0, 3_000_000])
async def test_a_client_that_takes_nothing_more_is_left(
    connect: Any, provider: FakeProvider, lost: asyncio.Event, taken: int, last: bytes
) -> None:
    provider.script = large
    wire = await connect(send_timeout_s=0.1)
    wire.writer.write(HEAD[:-2] % (PATHS[0], len(CHAT)) + last + b"\r\n" + CHAT)
    if taken:
        await wire.reader.readexactly(taken)
    wire.writer.transport.pause_reading()
    await lost.wait()


STALLED = 500


async def test_many_that_stall_disturb_nobody_and_are_closed(serve: Serve) -> None:
    raise_open_files()
    client = await serve(header_timeout_s=6)
    async with AsyncExitStack() as stack:
        wires = [await stack.enter_async_context(connected(address(client))) for _ in range(STALLED)]
        for wire in wires:
            wire.writer.write(b"POST /v1/chat/completions HTTP/1.1\r\nhost:")
        for _ in range(20):
            async with client.get("/health") as response:
                assert response.status == 200
            async with client.post("/v1/chat/completions", json=ASK) as response:
                assert response.status == 200
        told = await asyncio.gather(*(wire.reader.read() for wire in wires))
    assert {each[:12] for each in told} == {b"HTTP/1.1 408"}


STREAMS = 300


async def test_many_streams_go_on_side_by_side(serve: Serve, provider: FakeProvider) -> None:
    """Each has its first piece before any gets its last: nobody waits for the others to end."""
    raise_open_files()
    made: list[int] = []

    def telling(_: Any) -> Any:
        for at in range(20):
            made.append(at)
            yield Chunk((TextDelta(f"piece {at}"),))
        yield Chunk((Finish(FinishReason.STOP),))

    provider.script = telling
    client = await serve()
    async with AsyncExitStack() as stack:
        wires = [await stack.enter_async_context(connected(address(client))) for _ in range(STREAMS)]

        async def ask(wire: Wire) -> bytes:
            await wire.ask("/v1/chat/completions", {**ASK, "stream": True})
            assert (await wire.head())[0] == 200
            body = b""
            while piece := await wire.piece():
                body += piece
            return body

        provider.gate = Turns()  # type: ignore[assignment]  # waits as an event does
        bodies = await asyncio.gather(*map(ask, wires))
    assert all(body.count(b"piece ") == 20 and body.endswith(b"data: [DONE]\n\n") for body in bodies)
    assert provider.open == 0
    assert made[:STREAMS].count(0) > 1
