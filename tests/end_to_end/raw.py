"""A client that decides every byte: for what no SDK does, and for leaving."""

import asyncio
import json
import socket
import struct
from collections.abc import AsyncGenerator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit


@dataclass
class Wire:
    """An open connection to the server."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def ask(self, path: str, body: Any, headers: Iterable[tuple[str, str]] = ()) -> None:
        """Send a request; ``body`` is written as JSON unless it is bytes."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        lines = [f"POST {path} HTTP/1.1", "host: test", "content-type: application/json"]
        lines += [f"content-length: {len(data)}", *(f"{name}: {value}" for name, value in headers)]
        self.writer.write("\r\n".join([*lines, "", ""]).encode() + data)
        await self.writer.drain()

    async def head(self) -> tuple[int, dict[str, str]]:
        """Read the status and the headers."""
        status, *lines = (await self.reader.readuntil(b"\r\n\r\n")).decode().strip().split("\r\n")
        return int(status.split()[1]), dict(line.split(": ", 1) for line in lines)

    async def piece(self) -> bytes:
        """Read one chunk of the body, empty at its end."""
        size = int((await self.reader.readuntil(b"\r\n")).strip(), 16)
        return (await self.reader.readexactly(size + 2))[:-2]

    async def frames(self, count: int) -> bytes:
        """Read pieces until they hold at least ``count`` server-sent events."""
        body = b""
        while body.count(b"\n\n") < count:
            piece = await self.piece()
            assert piece, f"the stream ended early: {body!r}"
            body += piece
        return body

    def leave(self, *, reset: bool = False) -> None:
        """Close the connection, as a process that ends does, or abort it, as one that crashes."""
        if reset:
            sock = self.writer.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


@asynccontextmanager
async def connected(url: str) -> AsyncGenerator[Wire, None]:
    """Open a connection to the server."""
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    wire = Wire(reader, writer)
    try:
        yield wire
    finally:
        wire.leave()
