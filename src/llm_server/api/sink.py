"""Where an answer goes: the port between the one story of an answer and the transports that carry it."""

from collections.abc import Awaitable
from typing import Protocol

from starlette.types import Send

Headers = list[tuple[bytes, bytes]]


class Sink(Protocol):
    """Takes one answer: :meth:`whole` once, or :meth:`start`, any number of :meth:`write`, :meth:`end`.

    Each waits while the caller is behind with reading, so that whoever makes the answer is slowed down too.
    What comes for a caller who has left goes nowhere.
    """

    async def whole(self, status: int, headers: Headers, body: bytes) -> None:
        """Write a complete answer; ``headers`` tell its length."""
        ...

    async def start(self, headers: Headers, data: bytes) -> None:
        """Begin a stream with status 200 and its first bytes."""
        ...

    def write(self, data: bytes) -> Awaitable[None]:
        """Write more of the stream; ``data`` is not empty."""
        ...

    def end(self, data: bytes) -> Awaitable[None]:
        """Write the last bytes of the stream, if any, and end it."""
        ...


class PromptSink(Sink, Protocol):
    """A sink that takes things without waiting as well: at most what one piece of news brings."""

    def put_whole(self, lines: bytes, body: bytes) -> None:
        """Write a complete answer with status 200; ``lines`` are its headers, without its length."""
        ...

    def put_start(self, lines: bytes, data: bytes) -> None:
        """Begin a stream with status 200; ``lines`` are its headers."""
        ...

    def put(self, data: bytes) -> None:
        """Write more of it."""
        ...

    def put_end(self, data: bytes) -> None:
        """Write the last bytes, if any, and end it."""
        ...


class AsgiSink:
    """An answer to a request that came through ASGI."""

    __slots__ = ("_send",)

    def __init__(self, send: Send) -> None:
        self._send = send

    async def whole(self, status: int, headers: Headers, body: bytes) -> None:
        """See :meth:`Sink.whole`."""
        await self._send({"type": "http.response.start", "status": status, "headers": headers})
        await self._send({"type": "http.response.body", "body": body})

    async def start(self, headers: Headers, data: bytes) -> None:
        """See :meth:`Sink.start`."""
        await self._send({"type": "http.response.start", "status": 200, "headers": headers})
        await self.write(data)

    def write(self, data: bytes) -> Awaitable[None]:
        """See :meth:`Sink.write`."""
        return self._send({"type": "http.response.body", "body": data, "more_body": True})

    def end(self, data: bytes) -> Awaitable[None]:
        """See :meth:`Sink.end`."""
        return self._send({"type": "http.response.body", "body": data, "more_body": False})
