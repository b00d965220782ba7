"""What the clients of a server that ends hear: an answer to what it took, a refusal of what it did not."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest

from llm_server.api.connection import Connection
from llm_server.testing import FakeObserver, FakeProvider
from tests.api.conftest import build
from tests.end_to_end.raw import Wire, connected
from tests.serving import serving

CHAT = json.dumps({"model": "fake/echo", "messages": [{"role": "user", "content": "hello there"}]}).encode()
HEAD = b"POST %b HTTP/1.1\r\nhost: test\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
PATHS = [b"/v1/chat/completions", b"/v1/schemas/infer"]
BODIES = {PATHS[0]: CHAT, PATHS[1]: b'{"examples": [1]}'}


@pytest.fixture
def open_ones(monkeypatch: pytest.MonkeyPatch) -> list[Connection]:
    """Every connection that the server has had."""
    made: list[Connection] = []
    original = Connection.connection_made

    def noting(self: Connection, transport: Any) -> None:
        original(self, transport)
        made.append(self)

    monkeypatch.setattr(Connection, "connection_made", noting)
    return made


async def until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110 - nobody sets an event for it
        await asyncio.sleep(0)


async def answer(wire: Wire) -> tuple[int, dict[str, str], bytes]:
    status, headers = await wire.head()
    return status, headers, await wire.reader.readexactly(int(headers["content-length"]))


class Ending:
    """A connection to a server, and a function that lets the server begin to end."""

    def __init__(self, provider: FakeProvider) -> None:
        self._serving = serving(build(provider, FakeObserver()))
        self._ending: asyncio.Task[Any] | None = None

    async def __aenter__(self) -> tuple[Wire, Any]:
        self._connected = connected(await self._serving.__aenter__())
        return await self._connected.__aenter__(), self._stop

    async def _stop(self) -> None:
        """Begin to end; return when the connections have been told."""
        told = asyncio.Event()
        original = Connection.shutdown

        def noting(connection: Connection) -> None:
            original(connection)
            told.set()

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Connection, "shutdown", noting)
            self._ending = asyncio.create_task(self._serving.__aexit__(None, None, None))
            await told.wait()

    async def __aexit__(self, *_: object) -> None:
        await self._connected.__aexit__(None, None, None)
        if self._ending is not None:
            await self._ending


async def test_who_has_begun_to_ask_is_told(
    provider: FakeProvider, transport: str, open_ones: list[Connection]
) -> None:
    async with Ending(provider) as (wire, stop):
        wire.writer.write(b"POST /v1/chat/completions HTTP/1.1\r\nhost: te")
        await until(lambda: bool(open_ones) and open_ones[0]._receiving)
        await stop()
        status, headers, body = await answer(wire)
        assert (status, headers["connection"]) == (503, "close")
        assert "shutting down" in json.loads(body)["error"]["message"]
        assert await wire.reader.read() == b""


@pytest.mark.parametrize("used", [False, True])
async def test_who_asks_nothing_is_left(
    provider: FakeProvider, transport: str, open_ones: list[Connection], used: bool
) -> None:
    async with Ending(provider) as (wire, stop):
        if used:
            await wire.ask("/v1/chat/completions", CHAT)
            assert (await answer(wire))[0] == 200
        await until(lambda: bool(open_ones))
        await stop()
        assert await wire.reader.read() == b""


@pytest.mark.parametrize("path", PATHS)
async def test_who_still_sends_is_answered(
    provider: FakeProvider, transport: str, open_ones: list[Connection], path: bytes
) -> None:
    async with Ending(provider) as (wire, stop):
        body = BODIES[path]
        wire.writer.write(HEAD % (path, len(body)) + body[:5])
        await until(lambda: bool(open_ones) and open_ones[0].is_answering())
        await stop()
        wire.writer.write(body[5:])
        status, headers, _ = await answer(wire)
        assert (status, headers["connection"]) == (200, "close")
        assert await wire.reader.read() == b""


@pytest.mark.parametrize("path", PATHS)
async def test_who_still_sends_when_all_time_is_over_is_told(
    provider: FakeProvider, transport: str, open_ones: list[Connection], path: bytes
) -> None:
    async with Ending(provider) as (wire, stop):
        wire.writer.write(HEAD % (path, 500) + b" " * 100)
        await until(lambda: bool(open_ones) and open_ones[0].is_answering())
        await stop()
        open_ones[0].give_up()
        status, headers, body = await answer(wire)
        assert (status, headers["connection"]) == (503, "close")
        assert "shutting down" in json.loads(body)["error"]["message"]
        assert await wire.reader.read() == b""
    assert provider.calls == []


async def test_all_that_were_pipelined_are_answered(
    provider: FakeProvider, transport: str, open_ones: list[Connection]
) -> None:
    provider.gate = asyncio.Event()
    async with Ending(provider) as (wire, stop):
        wire.writer.write((HEAD % (PATHS[0], len(CHAT)) + CHAT) * 3)
        await until(lambda: bool(open_ones) and len(open_ones[0].pipeline) == 2)
        await stop()
        provider.gate.set()
        told = [await answer(wire) for _ in range(3)]
        assert [status for status, _, _ in told] == [200, 200, 200]
        assert "connection" not in told[0][1]
        assert told[2][1]["connection"] == "close"
        assert await wire.reader.read() == b""


async def test_those_that_wait_when_all_time_is_over_are_not_begun(
    provider: FakeProvider, transport: str, open_ones: list[Connection]
) -> None:
    provider.gate = asyncio.Event()
    async with Ending(provider) as (wire, stop):
        wire.writer.write((HEAD % (PATHS[0], len(CHAT)) + CHAT) * 3)
        await until(lambda: bool(open_ones) and len(open_ones[0].pipeline) == 2)
        await stop()
        open_ones[0].give_up()
        provider.gate.set()
        status, headers, _ = await answer(wire)
        assert (status, headers["connection"]) == (200, "close")
        assert await wire.reader.read() == b""
    assert len(provider.calls) == 1


async def test_a_refusal_is_heard_by_whoever_sends_on(
    provider: FakeProvider, transport: str, open_ones: list[Connection]
) -> None:
    async with Ending(provider) as (wire, stop):
        wire.writer.write(HEAD % (PATHS[0], 100_000_000))
        await until(lambda: bool(open_ones) and open_ones[0]._answered_early())
        await stop()
        wire.writer.write(b" " * 200_000)  # to a closed socket this would be answered with a reset
        assert (await answer(wire))[0] == 413
        assert await wire.reader.read() == b""
