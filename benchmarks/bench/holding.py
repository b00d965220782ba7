"""Thousands of streams that are open at once, and how evenly they get on."""

import asyncio
import time
from collections.abc import Callable
from statistics import median
from typing import Any, NamedTuple, cast

import uvloop

from bench.processes import address
from bench.streams import END

TOGETHER, PAUSE_S = 100, 0.2
"""Connections opened at once, and the time between two such batches: users do not all come in one moment."""


class Holder(asyncio.Protocol):
    """One stream: when each of its reads came and how many frames it brought."""

    def __init__(self, request: bytes) -> None:
        self.request = request
        self.began = time.perf_counter()
        self.reads: list[tuple[float, int]] = []
        self.tail = b""
        self.status = b""
        self.ended: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's own is no subclass
        self.transport.write(self.request)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  # the name is asyncio's
        if not self.ended.done():
            self.ended.set_result(False)

    def data_received(self, data: bytes) -> None:
        if not self.status:
            self.status = data[:12]
        heard = self.tail + data
        count = heard.count(b"\n\n") - self.tail.count(b"\n\n")
        self.tail = heard[-6:]
        if count:
            self.reads.append((time.perf_counter(), count))
        if heard.endswith(END) and not self.ended.done():
            self.ended.set_result(self.status == b"HTTP/1.1 200")
            self.transport.close()

    def frames(self, begin: float, end: float) -> int:
        """Return how many frames came between two moments."""
        return sum(count for at, count in self.reads if begin <= at < end)


class Held(NamedTuple):
    """What was seen of all streams; ``progress`` is of the frames that came while every stream was open."""

    streams: int
    errors: int
    frames: int
    open_at_once_s: float
    slowest_share: float
    fastest_share: float
    first_p50_ms: float
    rss_mb: float


async def _hold(url: str, request: bytes, count: int, frames: int, rss: Callable[[], float]) -> Held:
    loop, (host, port) = asyncio.get_running_loop(), address(url)
    holders: list[Holder] = []

    async def connect() -> None:
        _, holder = await loop.create_connection(lambda: Holder(request), host, port)
        holders.append(holder)

    for done in range(0, count, TOGETHER):
        await asyncio.gather(*(connect() for _ in range(min(TOGETHER, count - done))))
        await asyncio.sleep(PAUSE_S)
    watching = asyncio.create_task(_watch(rss))
    ends = await asyncio.gather(*(holder.ended for holder in holders))
    watching.cancel()
    peak = max(await asyncio.gather(watching), default=0.0)
    return summary(holders, ends, frames, peak)


async def _watch(rss: Callable[[], float]) -> float:
    """Return the highest value that ``rss`` gave, a look a second, when it is cancelled."""
    peak = rss()
    try:
        while True:
            await asyncio.sleep(1)
            peak = max(peak, rss())
    except asyncio.CancelledError:
        return max(peak, rss())


def summary(holders: list[Holder], ends: list[bool], frames: int, rss_mb: float) -> Held:
    """Judge the streams; an error is one that did not end well or brought too few frames."""
    brought = [sum(count for _, count in holder.reads) for holder in holders]
    errors = sum(not end or got < frames for end, got in zip(ends, brought, strict=True))
    begun = [holder.reads[0][0] for holder in holders if holder.reads]
    finished = [holder.reads[-1][0] for holder in holders if holder.reads]
    begin, end = max(begun, default=0.0), min(finished, default=0.0)
    progress = [holder.frames(begin, end) for holder in holders]
    middle = median(progress) or 1
    firsts = [1000 * (holder.reads[0][0] - holder.began) for holder in holders if holder.reads]
    return Held(
        len(holders), errors, sum(brought), round(max(0.0, end - begin), 2),
        round(min(progress) / middle, 3), round(max(progress) / middle, 3),
        round(median(firsts or [0.0]), 3), round(rss_mb, 1),
    )  # fmt: skip


def hold(url: str, request: bytes, count: int, frames: int, rss: Callable[[], float]) -> dict[str, Any]:
    """Open ``count`` streams and read all of them to their ends."""
    return uvloop.run(_hold(url, request, count, frames, rss))._asdict()
