"""The hot lane: who takes it, what it costs, and that everything about a connection is as without it."""

import asyncio
import gc
import http.client
import io
import json
import weakref
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from llm_server.api import lane
from llm_server.api.connection import Connection
from llm_server.testing import FakeObserver, FakeProvider
from tests.api.conftest import Serve
from tests.end_to_end.raw import connected

ASK: dict[str, Any] = {"model": "fake/echo", "messages": [{"role": "user", "content": "hello there"}]}
CHAT = json.dumps(ASK).encode()
LINE = b"POST %b HTTP/1.1\r\nhost: test\r\n"
LENGTH = b"content-length: %d\r\n\r\n" % len(CHAT) + CHAT


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> list[lane.Exchange]:
    """Every request that takes the lane."""
    made: list[lane.Exchange] = []

    class Noted(lane.Exchange):
        def begin(self, headers: dict[str, str]) -> None:
            made.append(self)
            super().begin(headers)

    monkeypatch.setattr(lane, "Exchange", Noted)
    return made


WHO = {
    "a chat": (LINE % b"/v1/chat/completions" + LENGTH, True),
    "with a query": (LINE % b"/v1/chat/completions?key=x" + LENGTH, True),
    "a client that leaves": (LINE % b"/v1/chat/completions" + b"connection: close\r\n" + LENGTH, True),
    "a wish to upgrade": (
        LINE % b"/v1/chat/completions" + b"connection: upgrade\r\nupgrade: h2c\r\n" + LENGTH,
        True,
    ),
    "a client that waits": (LINE % b"/v1/chat/completions" + b"expect: 100-continue\r\n" + LENGTH, False),
    "an old one": (b"POST /v1/chat/completions HTTP/1.0\r\n" + LENGTH, False),
    "a path that is escaped": (LINE % b"/v1/chat%2Fcompletions" + LENGTH, False),
    "a whole URL": (LINE % b"http://test/v1/chat/completions" + LENGTH, False),
    "another method": (b"PUT /v1/chat/completions HTTP/1.1\r\nhost: test\r\n" + LENGTH, False),
    "another path": (LINE % b"/v1/structured-completions" + LENGTH, False),
}


@pytest.mark.parametrize("name", WHO)
async def test_who_takes_the_lane(
    client: aiohttp.ClientSession, taken: list[lane.Exchange], transport: str, name: str
) -> None:
    sent, takes = WHO[name]
    async with connected(str(client._base_url)) as wire:
        wire.writer.write(sent)
        status, headers = await wire.head()
        while status == 100:
            status, headers = await wire.head()
    assert headers["x-request-id"]
    assert len(taken) == (1 if takes and transport == "lane" else 0)


async def test_a_request_takes_one_task(
    client: aiohttp.ClientSession, provider: FakeProvider, transport: str
) -> None:
    provider.gate = asyncio.Event()
    async with connected(str(client._base_url)) as wire:
        before = asyncio.all_tasks()
        await wire.ask("/v1/chat/completions", CHAT)
        await provider.asked.wait()
        assert len(asyncio.all_tasks() - before) == 1
        provider.gate.set()
        assert (await wire.head())[0] == 200
    assert asyncio.all_tasks() <= before


async def test_both_transports_say_the_same(client: aiohttp.ClientSession) -> None:
    """The headers that uvicorn adds, and no others; one run of this test has the lane and one has not."""
    async with client.post("/v1/chat/completions", json=ASK) as response:
        assert [name.lower() for name in response.headers] == [
            "date",
            "content-type",
            "x-request-id",
            "request-id",
            "x-llm-server-provider",
            "x-llm-server-model",
            "x-llm-server-attempts",
            "x-llm-server-upstream-ms",
            "x-llm-server-overhead-ms",
            "content-length",
        ]
    async with client.post("/v1/chat/completions", json={**ASK, "stream": True}) as response:
        names = {name.lower() for name in response.headers}
        assert {"date", "cache-control", "x-accel-buffering", "transfer-encoding"} <= names
        assert "content-length" not in names


async def test_leaving_cancels_the_request_at_once(
    client: aiohttp.ClientSession, provider: FakeProvider, observer: FakeObserver
) -> None:
    """Also with a request behind it, of which uvicorn alone would tell instead."""
    provider.gate = asyncio.Event()
    async with connected(str(client._base_url)) as wire:
        wire.writer.write((LINE % b"/v1/chat/completions" + LENGTH) * 2)
        await provider.asked.wait()
        await wire.writer.drain()
    await observer.ended.wait()
    assert observer.told[-1][2] == "client_closed"
    assert len(provider.calls) == 1


async def test_a_bug_in_the_answer_closes_the_connection(
    client: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever goes wrong where nothing should, a client does not wait for ever."""
    from llm_server.api.reply import Reply

    async def broken(*_: object) -> None:
        raise SystemError("a bug")

    monkeypatch.setattr(Reply, "error", broken)
    monkeypatch.setattr(Reply, "whole", broken)
    async with connected(str(client._base_url)) as wire:
        await wire.ask("/v1/chat/completions", CHAT)
        assert b"hello" not in await wire.reader.read()


@pytest.mark.parametrize("size", [600_000, 3_000_000])
async def test_a_large_body_is_read_beside_the_loop(serve: Serve, provider: FakeProvider, size: int) -> None:
    client = await serve()
    text = "x" * size
    asked = {**ASK, "messages": [{"role": "user", "content": text}]}
    sent = json.dumps(asked).encode()
    async with client.post("/v1/chat/completions", data=io.BytesIO(sent)) as response:
        assert (await response.json())["choices"][0]["message"]["content"] == text
    async with client.post("/v1/chat/completions", data=io.BytesIO(b"{" + b" " * size)) as response:
        assert (response.status, "JSON" in await response.text()) == (400, True)
    assert len(provider.calls) == 1


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/schemas", "/v1/files"])
async def test_an_early_refusal_is_heard_by_whoever_sends_on(serve: Serve, path: str) -> None:
    """With ``Connection: close`` as well: a socket that is closed unread makes its peer lose the answer."""
    url = str((await serve(max_body_bytes=1024))._base_url)

    def ask() -> int:
        host = urlsplit(url)
        client = http.client.HTTPConnection(host.hostname or "", host.port or 0, timeout=20)
        try:
            body = b"x" * 20_000_000
            headers = {"Connection": "close", "Content-Length": str(len(body))}
            client.request("POST", path, body, headers)
            return client.getresponse().status
        finally:
            client.close()

    # Nothing takes files here.
    assert await asyncio.to_thread(ask) == (404 if path == "/v1/files" else 413)


async def test_nothing_is_kept_of_a_request_by_a_connection_that_idles_or_is_gone(
    client: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor by a ring of objects, which the collector would come to look at much later: a body is megabytes."""
    cycles: list[weakref.ref[RequestResponseCycle]] = []
    lost = asyncio.Event()
    complete, end = Connection.on_response_complete, Connection.connection_lost
    exchanged = lane.Lane.exchanged

    def noting(after: Callable[[Any], None]) -> Callable[[Any], None]:
        def completing(self: Connection) -> None:
            assert self.answering is not None
            cycles.append(weakref.ref(self.answering))
            after(self)

        return completing

    def losing(self: Connection, exc: Exception | None) -> None:
        end(self, exc)
        lost.set()

    monkeypatch.setattr(Connection, "on_response_complete", noting(complete))
    monkeypatch.setattr(lane.Lane, "exchanged", noting(exchanged))
    monkeypatch.setattr(Connection, "connection_lost", losing)
    gc.collect()
    gc.disable()
    try:
        async with connected(str(client._base_url)) as wire:
            await wire.ask("/v1/chat/completions", CHAT)
            _, headers = await wire.head()
            await wire.reader.readexactly(int(headers["content-length"]))
            kept = cycles[0]()
            assert not getattr(kept, "_parts", None)
            assert not getattr(kept, "body", None)
            del kept
        await lost.wait()
        for _ in range(100):  # its task has said all, and has yet to end
            await asyncio.sleep(0)
        assert cycles[0]() is None
    finally:
        gc.enable()
