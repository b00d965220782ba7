"""A connection without a socket: what is read from it comes in exactly the pieces that a test decides."""

import asyncio
import re
from collections.abc import Iterable
from functools import cache
from typing import Any

import uvicorn
from uvicorn.server import ServerState

from llm_server.api.lane import Lane
from llm_server.api.server import Server

VARYING = re.compile(
    rb"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"
    rb"|date: [^\r]*|x-llm-server-(?:upstream|overhead)-ms: [^\r]*"
    rb'|"created":[0-9]+'
)
"""What no two answers have in common."""
TURNS, FEW_TURNS = 60, 4
"""Of the loop, after which whatever needs no waiting has happened: with a task, and without one."""


class Memory(asyncio.Transport):
    """A transport that keeps what is written; what the protocol closes is lost in the loop's next turn.

    With ``full`` it takes nothing more off the protocol, as a socket whose peer does not read.
    """

    def __init__(self, protocol: Any) -> None:
        super().__init__()
        self.protocol = protocol
        self.written = bytearray()
        self.ended = ""
        self.full = False
        self._gone = False

    def write(self, data: Any) -> None:
        """Keep ``data``; a full one tells the protocol to stop."""
        if self.ended == "eof":
            raise RuntimeError("Cannot call write() after write_eof()")  # as asyncio's
        self.written += data
        if self.full:
            self.full = False
            self.protocol.pause_writing()

    def close(self) -> None:
        """End in good order."""
        self._end("close", None)

    def abort(self) -> None:
        """End at once."""
        self._end("abort", None)

    def write_eof(self) -> None:
        """Say that nothing follows."""
        self.ended = "eof"

    def lose(self, error: Exception | None = None) -> None:
        """Be closed by the peer."""
        self._end("lost", error)

    def _end(self, how: str, error: Exception | None) -> None:
        if not self._gone:
            self._gone = True
            self.ended = self.ended or how
            asyncio.get_running_loop().call_soon(self.protocol.connection_lost, error)

    def is_closing(self) -> bool:
        """Whether it has ended."""
        return self._gone

    def can_write_eof(self) -> bool:
        """Half of it can be closed."""
        return True

    def get_write_buffer_size(self) -> int:
        """Everything is taken at once."""
        return 0

    def pause_reading(self) -> None:
        """The test gives what it likes."""

    def resume_reading(self) -> None:
        """The test gives what it likes."""


def opened(app: Server, kind: type[Lane] = Lane) -> tuple[Lane, Memory]:
    """Return a connection to ``app`` in the running loop, and its transport."""
    config = _config(app)
    state = ServerState()
    state.default_headers = [(b"date", b"now")]
    lane = kind(config, state, {}, asyncio.get_running_loop())
    transport = Memory(lane)
    lane.connection_made(transport)
    return lane, transport


@cache
def _config(app: Server) -> uvicorn.Config:
    config = uvicorn.Config(app, http=Lane, log_config=None, proxy_headers=False, lifespan="off")
    config.load()
    return config


async def settled(lane: Lane) -> None:
    """Return when whatever needs no waiting has happened; a task may wait for what does not come."""
    for turn in range(TURNS):
        await asyncio.sleep(0)
        if turn > FEW_TURNS and not lane.tasks:
            return


async def said(app: Server, kind: type[Lane], reads: Iterable[tuple[bytes, bool]]) -> tuple[bytes, str]:
    """Return what a connection answers to these reads, and how it ended.

    Each read says whether what it leads to happens before the next. Ids and times are left out.
    """
    lane, transport = opened(app, kind)
    for data, settles in reads:
        if transport.is_closing():
            break
        lane.data_received(data)
        if settles:
            await settled(lane)
    await settled(lane)
    ended = transport.ended
    if not transport.is_closing():
        transport.lose()
        await settled(lane)
    return VARYING.sub(b"-", bytes(transport.written)), ended
