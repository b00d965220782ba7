"""Callers that leave: streams asked for on new connections, and given up after some frames."""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import cast

import uvloop

from bench.processes import address

TOGETHER = 16


class Leaver(asyncio.Protocol):
    """Asks for a stream and closes the connection once ``frames`` frames came."""

    def __init__(self, request: bytes, frames: int) -> None:
        self.request, self.frames = request, frames
        self.seen, self.heard = 0, False
        self.gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's own is no subclass
        self.transport.write(self.request)

    def data_received(self, data: bytes) -> None:
        refused = not self.heard and not data.startswith(b"HTTP/1.1 200")
        self.heard = True
        self.seen += data.count(b"\n\n")
        if refused or self.seen >= self.frames:
            self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  # the name is asyncio's
        if not self.gone.done():
            self.gone.set_result(None)


class Tally:
    """How many left, and how many of them had got what they waited for."""

    def __init__(self) -> None:
        self.left = self.failed = 0


async def leave(url: str, request: bytes, tally: Tally, more: Callable[[], bool]) -> None:
    """Ask and leave, 16 at a time, while there is ``more`` to do; wait for 1, 2, 3 frames in turn."""
    loop, (host, port) = asyncio.get_running_loop(), address(url)

    async def caller(place: int) -> None:
        while more():
            wanted = 1 + (place + tally.left) % 3
            make = partial(Leaver, request, wanted)
            _, leaver = await loop.create_connection(make, host, port)
            await leaver.gone
            tally.left += 1
            tally.failed += leaver.seen < wanted

    await asyncio.gather(*(caller(place) for place in range(TOGETHER)))


def until(url: str, request: bytes, count: int) -> Tally:
    """Let about ``count`` callers leave."""
    tally = Tally()
    uvloop.run(leave(url, request, tally, lambda: tally.left < count))
    return tally
