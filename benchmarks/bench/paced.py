"""An upstream that streams: a frame every so many milliseconds, each in a write of its own.

nginx cannot do this by itself: a whole body of its own arrives in one read and says nothing about streams.
Runs as a process of its own (``python -m bench.paced``); its CPU time is not counted. A request must have a
content length. The first frame goes out with the headers.
"""

import argparse
import asyncio
import os
import re
import sys
from contextlib import AbstractContextManager
from pathlib import Path
from typing import cast

import uvloop

from bench import bodies
from bench.processes import Running, free_port, started

HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
    b"cache-control: no-cache\r\ntransfer-encoding: chunked\r\n\r\n"
)
LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)\r\n", re.IGNORECASE)


def chunked(data: bytes) -> bytes:
    """Return ``data`` as one chunk: RFC 9112, section 7.1."""
    return b"%x\r\n%b\r\n" % (len(data), data)


class Script:
    """The writes of each path's stream."""

    def __init__(self, frames: int) -> None:
        told = {bodies.CHAT: bodies.openai_frames(frames), bodies.MESSAGES: bodies.anthropic_frames(frames)}
        self.writes: dict[bytes, list[bytes]] = {}
        told[bodies.CHAT][-2:] = [b"".join(told[bodies.CHAT][-2:])]  # the API sends its last frames together
        for path, parts in told.items():
            writes = [chunked(part) for part in parts]
            self.writes[path.encode()] = [HEAD + writes[0], *writes[1:-1], writes[-1] + b"0\r\n\r\n"]


class Upstream(asyncio.Protocol):
    """A connection: requests one after another, a stream for each."""

    def __init__(self, script: Script, interval_s: float) -> None:
        self.loop = asyncio.get_running_loop()
        self.script, self.interval_s = script, interval_s
        self.heard = b""
        self.writes: list[bytes] = []
        self.place = 0
        self.timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's own is no subclass

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  # the name is asyncio's
        if self.timer is not None:
            self.timer.cancel()

    def data_received(self, data: bytes) -> None:
        self.heard += data
        head, mark, rest = self.heard.partition(b"\r\n\r\n")
        length = LENGTH.search(head + b"\r\n")
        if not mark or len(rest) < (int(length[1]) if length else 0):
            return
        self.heard = b""
        path = head.split(b" ", 2)[1].partition(b"?")[0]
        self.writes, self.place = self.script.writes.get(path, []), 0
        if self.writes:
            self.step()
        else:
            self.transport.write(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n")

    def step(self) -> None:
        self.transport.write(self.writes[self.place])
        self.place += 1
        more = self.place < len(self.writes)
        self.timer = self.loop.call_later(self.interval_s, self.step) if more else None


async def serve(port: int, frames: int, interval_s: float) -> None:
    """Serve until the process is ended."""
    script = Script(frames)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Upstream(script, interval_s), "127.0.0.1", port, backlog=4096)
    await server.serve_forever()


def paced(folder: Path, *, core: int, frames: int, interval_s: float) -> AbstractContextManager[Running]:
    """Start it on a free port of loopback."""
    port = free_port()
    command = [sys.executable, "-m", "bench.paced", str(port), str(frames), str(interval_s)]
    here = str(Path(__file__).resolve().parent.parent)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((here, os.environ.get("PYTHONPATH", "")))}
    url = f"http://127.0.0.1:{port}"
    return started(command, url, core=core, log=folder / f"paced-{port}.log", environment=environment)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("port", type=int)
    parser.add_argument("frames", type=int)
    parser.add_argument("interval_s", type=float)
    uvloop.run(serve(**vars(parser.parse_args())))
