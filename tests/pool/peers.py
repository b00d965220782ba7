"""A peer that writes any bytes it likes: what HTTP libraries would not let a server do.

``async with peer(talk) as up`` runs ``talk`` for every connection, with a :class:`Talk` to read requests and
to write, end or reset whatever the test wants. :func:`on_every_loop` runs a test under asyncio's event loop
and under uvloop's.
"""

import asyncio
import inspect
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
import uvloop

from llm_server.contract import HttpRequest, HttpResponse, Secret
from llm_server.pool.config import PoolConfig
from llm_server.pool.transport import Transport
from llm_server.pool.transports import TRANSPORTS

KEY = "sk-canary-0123456789"
POST = HttpRequest(path="chat", body=b"{}")
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"

LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.new_event_loop,
    "uvloop": uvloop.new_event_loop,
}

every_transport = pytest.mark.parametrize("kind", TRANSPORTS)
"""For what each transport must do; one joins by its row."""


def on_every_loop(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Run an async test under every event loop that the server runs under."""

    def run(loop: str, **given: Any) -> None:
        with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
            runner.run(test(**given))  # type: ignore[arg-type]  # tests are coroutine functions

    signature = inspect.signature(test)
    first = inspect.Parameter("loop", inspect.Parameter.KEYWORD_ONLY)
    given = [part.replace(kind=inspect.Parameter.KEYWORD_ONLY) for part in signature.parameters.values()]
    run.__signature__ = signature.replace(parameters=[first, *given])  # type: ignore[attr-defined]  # for pytest
    run.__name__, run.__doc__, run.__module__ = test.__name__, test.__doc__, test.__module__
    run.pytestmark = getattr(test, "pytestmark", [])  # type: ignore[attr-defined]  # marks below the decorator
    return pytest.mark.parametrize("loop", LOOPS)(run)


@dataclass
class Asked:
    """A request as it arrived."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Up:
    """What a peer has seen."""

    url: str = ""
    asked: list[Asked] = field(default_factory=list)
    connections: int = 0
    open: int = 0
    tasks: set["asyncio.Task[None]"] = field(default_factory=set)
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def notify(self) -> None:
        self.changed.set()
        self.changed = asyncio.Event()

    async def until(self, condition: Callable[["Up"], bool]) -> None:
        while not condition(self):
            await self.changed.wait()


class Talk:
    """One connection of a peer. ``number`` counts the connections from 1."""

    def __init__(self, up: Up, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.up, self.reader, self.writer = up, reader, writer
        self.number = up.connections

    async def request(self) -> Asked | None:
        """Return the next request, or nothing when the client has left."""
        try:
            head = await self.reader.readuntil(b"\r\n\r\n")
            lines = head.decode("latin-1").split("\r\n")
            method, target, _ = lines[0].split(" ")
            pairs = (line.partition(": ") for line in lines[1:] if line)
            headers = {name.lower(): value for name, _, value in pairs}
            body = await self.reader.readexactly(int(headers.get("content-length", "0")))
        except (asyncio.IncompleteReadError, ConnectionError):
            return None
        asked = Asked(method, target, headers, body)
        self.up.asked.append(asked)
        self.up.notify()
        return asked

    def send(self, data: bytes) -> None:
        if self.writer.is_closing():  # uvloop raises RuntimeError where asyncio says nothing
            raise ConnectionResetError
        self.writer.write(data)

    async def gone(self) -> None:
        """Wait until the client has closed."""
        try:
            while await self.reader.read(65536):
                pass
        except ConnectionError:
            pass

    async def end(self) -> None:
        """Send FIN and read no more."""
        self.writer.close()

    def reset(self) -> None:
        """Send RST."""
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


Talking = Callable[[Talk], Awaitable[None]]


@asynccontextmanager
async def peer(
    talk: Talking, *, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1"
) -> AsyncIterator[Up]:
    """Run ``talk`` for each connection; whatever goes wrong in it is raised at the end."""
    up = Up()
    failures: list[BaseException] = []

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        up.tasks.add(task)
        up.connections += 1
        up.open += 1
        up.notify()
        try:
            await talk(Talk(up, reader, writer))
        except asyncio.CancelledError:
            pass  # the end of the test
        except ConnectionError:
            pass  # the client may leave at any time
        except BaseException as error:
            failures.append(error)
        finally:
            writer.close()
            up.open -= 1
            up.tasks.discard(task)
            up.notify()

    server = await asyncio.start_server(connected, host, 0, ssl=tls)
    port = server.sockets[0].getsockname()[1]
    shown = f"[{host}]" if ":" in host else host
    up.url = f"{'https' if tls else 'http'}://{shown}:{port}"
    try:
        yield up
    finally:
        server.close()
        for task in tuple(up.tasks):
            task.cancel()
        await asyncio.gather(*up.tasks, return_exceptions=True)
    if failures:
        raise BaseExceptionGroup("the peer failed", failures)


@asynccontextmanager
async def to(url: str, kind: str = "direct", **config: object) -> AsyncIterator[Transport]:
    """Give a transport of a kind that carries a credential."""
    settings = PoolConfig.model_validate({"transport": kind, **config})
    made = TRANSPORTS[kind](f"{url}/v1/", settings, {"authorization": Secret(f"Bearer {KEY}")})
    try:
        yield made
    finally:
        await made.close()


async def fetch(
    transport: Transport, request: HttpRequest = POST, within_s: float | None = None
) -> tuple[int, bytes]:
    """Return status and whole body."""
    async with transport.exchange(request, within_s) as response:
        return response.status, await response.read()


async def pieces(response: HttpResponse) -> list[bytes]:
    """Return the body as it was streamed."""
    return [piece async for piece in response.chunks()]


def answering(*answers: bytes, then: str = "stay") -> Talking:
    """Answer each connection's requests with these bytes in turn; ``then`` ``stay``, ``end`` or ``reset``."""

    async def talk(it: Talk) -> None:
        for answer in answers:
            if await it.request() is None:
                return
            it.send(answer)
        if then == "stay":
            await it.gone()
        elif then == "reset":
            await it.writer.drain()
            it.reset()

    return talk


def echo(asked: Asked) -> bytes:
    """Answer with what was asked: nobody else's answer looks like it."""
    body = asked.target.encode() + b"|" + asked.body
    return b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)
