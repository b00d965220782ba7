"""One request and its answer, as the object that the caller enters, reads and leaves."""

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Protocol, Self

from llm_server.contract import HttpRequest
from llm_server.pool.direct.answer import Answer
from llm_server.pool.direct.connection import Connection
from llm_server.pool.requests import Heads


class Connections(Protocol):
    """Where an exchange gets its connection."""

    heads: Heads
    max_response_bytes: int
    resent: int

    def take(self, now: float) -> Connection | None:
        """Return an idle connection, if there is one."""
        ...

    async def dial(self, within_s: float) -> Connection:
        """Return a new connection."""
        ...


class Exchange(Answer):
    """Sends on entering, gives the answer, and on leaving closes the connection if more was to come.

    :class:`llm_server.pool.transport.Transport` says when a request is sent again, and why that is safe.
    """

    __slots__ = ("_connections", "_message", "_request")

    def __init__(
        self,
        connections: Connections,
        request: HttpRequest,
        loop: asyncio.AbstractEventLoop,
        allowed_s: float,
    ) -> None:
        super().__init__(loop, connections.max_response_bytes, allowed_s)
        self._connections = connections
        self._request = request
        self._message: tuple[bytes, bytes] | None = None

    def begin(self, listener: Callable[[], None], *, whole: bool) -> bool:
        """Send on an idle connection; see :meth:`llm_server.contract.Sending.begin`."""
        message = self._written(self._request)
        now = self._loop.time()
        connection = self._connections.take(now)
        if connection is None:
            return False
        self._message = message
        self.whole = whole
        self.listener = listener
        self.ends_s = now + self.allowed_s
        connection.begin(self, *message, now)
        return True

    async def __aenter__(self) -> Self:
        """Return the answer once its head is here; raises as :meth:`Transport.exchange` says."""
        connections, message = self._connections, self._message
        self.listener, self.whole = None, False
        if message is None:
            message = self._written(self._request)
            now = self._loop.time()
            self.ends_s = now + self.allowed_s
            await self._send(message, connections.take(now), now)
        elif not self.status and self.failure is None:
            await self._heard()
        # What failed after its head had come is told to whoever reads: there may be a part of it to read.
        while self.failure is not None and (self.unheard or not self.status):
            if not self.unheard:
                raise self.failure
            connections.resent += 1
            self._forget()
            await self._send(message, None, self._loop.time())
        return self

    async def _send(self, message: tuple[bytes, bytes], connection: Connection | None, now: float) -> None:
        if connection is None:
            connection = await self._connections.dial(self.ends_s - now)
            now = self._loop.time()
        connection.begin(self, *message, now)
        await self._heard()

    async def _heard(self) -> None:
        """Wait for the first news, good or bad."""
        try:
            await self._news()
        except BaseException:  # cancelled
            self._leave()
            raise

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connection unless the answer has arrived whole: then it is in use elsewhere already."""
        self._leave()

    def _leave(self) -> None:
        source = self.source
        if source is not None:
            self.source = None
            source.abandon()

    def _written(self, request: HttpRequest) -> tuple[bytes, bytes]:
        """Return the whole head and the body; a method that takes no body has none announced."""
        head = self._connections.heads.of(request.method, request.path, request.headers)
        body = request.body
        if body or request.method not in {"GET", "HEAD"}:
            return b"%bcontent-length: %d\r\n\r\n" % (head, len(body)), body
        self.bodiless = request.method == "HEAD"
        return head + b"\r\n", body
