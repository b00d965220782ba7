"""Many streams at once over raw connections: frames, time to the first, gaps between reads, errors."""

import asyncio
import time
from array import array
from collections.abc import Callable
from typing import NamedTuple, cast
from urllib.parse import urlsplit

import uvloop

from bench.processes import address

END = b"\r\n0\r\n\r\n"
"""The last chunk: RFC 9112, section 7.1. A frame never ends so."""
GOOD = b"HTTP/1.1 200"
GRACE_S = 30.0
"""How long the streams that are open at the end may take to finish."""


class Streams(NamedTuple):
    """What a load of streams saw. Times in milliseconds; a gap is the time between two reads of a stream."""

    streams: int
    failed: int
    frames: int
    wall_s: float
    first_ms: tuple[float, ...]
    gaps_ms: tuple[float, ...]
    whole_ms: tuple[float, ...]


class Tally:
    """Everything that the connections of one load have seen."""

    def __init__(self) -> None:
        self.streams = self.failed = self.frames = 0
        self.first_ms, self.gaps_ms, self.whole_ms = array("d"), array("d"), array("d")
        self.reasons: list[str] = []

    def fail(self, reason: str) -> None:
        self.failed += 1
        if len(self.reasons) < 5:
            self.reasons.append(reason)


class Caller(asyncio.Protocol):
    """A connection that asks for one stream after another until ``going`` says no more."""

    def __init__(self, request: bytes, frames: int, tally: Tally, going: Callable[[], bool]) -> None:
        self.request, self.expected, self.tally, self.going = request, frames, tally, going
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.tail, self.checked, self.frames, self.began, self.read_at = b"", False, 0, 0.0, 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's own is no subclass
        self.ask()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.done.done():
            self.tally.fail(f"the connection was lost after {self.frames} frames: {exc}")
            self.done.set_result(None)

    def ask(self) -> None:
        self.tail, self.checked, self.frames = b"", False, 0
        self.began = self.read_at = time.perf_counter()
        self.transport.write(self.request)

    def data_received(self, data: bytes) -> None:
        now, tally = time.perf_counter(), self.tally
        heard = self.tail + data
        if not self.checked:
            if len(heard) < len(GOOD):
                self.tail = heard
                return
            if not heard.startswith(GOOD):
                tally.fail(heard[:300].decode(errors="replace"))
                self.finish()
                return
            self.checked = True
        count = heard.count(b"\n\n") - self.tail.count(b"\n\n")
        if self.frames:
            tally.gaps_ms.append((now - self.read_at) * 1000)
        elif count:
            tally.first_ms.append((now - self.began) * 1000)
        if count:
            self.read_at = now
        self.frames += count
        self.tail = heard[-6:]
        if heard.endswith(END):
            self.ended(now)

    def ended(self, now: float) -> None:
        tally = self.tally
        tally.streams += 1
        tally.frames += self.frames
        tally.whole_ms.append((now - self.began) * 1000)
        if self.frames < self.expected:
            tally.fail(f"{self.frames} frames of {self.expected}")
        if self.going():
            self.ask()
        else:
            self.finish()

    def finish(self) -> None:
        if not self.done.done():
            self.done.set_result(None)
        self.transport.close()


def compose(url: str, path: str, body: bytes, headers: dict[str, str]) -> bytes:
    """Return the bytes of one request."""
    lines = {"host": urlsplit(url).netloc, **headers, "content-length": str(len(body))}
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return f"POST {path} HTTP/1.1\r\n{head}\r\n".encode() + body


async def _load(url: str, request: bytes, *, connections: int, seconds: float, frames: int) -> Streams:
    loop = asyncio.get_running_loop()
    host, port = address(url)
    tally, began = Tally(), time.perf_counter()
    until = began + seconds
    callers = []
    for _ in range(connections):
        _, caller = await loop.create_connection(
            lambda: Caller(request, frames, tally, lambda: time.perf_counter() < until),
            host,
            port,
        )
        callers.append(caller)
        await asyncio.sleep(min(0.002, 0.2 / connections))  # streams of one moment would share every wake-up
    _, late = await asyncio.wait([caller.done for caller in callers], timeout=seconds + GRACE_S)
    if late:
        tally.fail(f"{len(late)} streams did not end")
    for caller in callers:
        caller.finish()
    for reason in tally.reasons:
        print(f"    failed: {reason}")
    return Streams(
        tally.streams,
        tally.failed,
        tally.frames,
        time.perf_counter() - began,
        tuple(tally.first_ms),
        tuple(tally.gaps_ms),
        tuple(tally.whole_ms),
    )


def load(url: str, request: bytes, *, connections: int, seconds: float, frames: int) -> Streams:
    """Keep ``connections`` streams open for ``seconds``; each must bring at least ``frames`` frames."""
    return uvloop.run(_load(url, request, connections=connections, seconds=seconds, frames=frames))
