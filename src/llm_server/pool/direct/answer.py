"""One answer as it arrives: what the connection writes and the caller reads."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from typing import Protocol

from llm_server.contract import ServerError
from llm_server.pool.direct.decoding import decoder
from llm_server.pool.failures import too_large

NO_HEADERS: Mapping[str, str] = {}


class Source(Protocol):
    """The connection that an answer comes from, as far as an answer needs it."""

    def resume(self) -> None:
        """Read on, after a pause because nobody took what was read."""
        ...

    def abandon(self) -> None:
        """Close: what follows belongs to nobody."""
        ...


class Answer:
    """An answer whose body is still coming; see :class:`llm_server.contract.HttpResponse`.

    The connection fills ``status``, ``headers`` and ``pieces``, ends with ``complete`` or ``failure``, and
    finishes ``waiter`` when there is news. ``source`` is the connection until it needs none any more.
    """

    # Defaults stand in the class: of most answers few of them change, and every request makes one.
    ends_s = 0.0
    """When the exchange's seconds are over, by the loop's clock."""
    bodiless = False
    """Whether no body follows, whatever the headers say (``HEAD``)."""
    status = 0
    headers: Mapping[str, str] = NO_HEADERS
    coding: str | None = None
    """The body's content coding as the headers name it."""
    buffered = 0
    complete = False
    failure: ServerError | None = None
    unheard = False
    """Whether it failed as a kept connection does that was closing already: asking again is safe."""
    paused = False
    whole = False
    """Whether the caller wants the body at once: nothing need be paused or told before its end."""
    waiter: "asyncio.Future[None] | None" = None
    listener: Callable[[], None] | None = None
    """Called when there is news, in the place of a waiter."""
    source: Source | None = None

    def __init__(self, loop: asyncio.AbstractEventLoop, limit_bytes: int, allowed_s: float) -> None:
        self._loop = loop
        self._limit_bytes = limit_bytes
        self.allowed_s = allowed_s
        """Seconds for the whole exchange."""
        self.pieces: list[bytes] = []

    @property
    def plain(self) -> bool:
        """Whether it is a good answer so far, and its body the bytes that come."""
        return self.status == 200 and self.coding is None and self.failure is None

    def body(self) -> bytes | None:
        """Return the whole body if it has come and :meth:`read` would return the same; takes nothing."""
        if not self.complete or not self.plain or self.buffered > self._limit_bytes:
            return None
        pieces = self.pieces
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def taken(self) -> bytes:
        """Return what has come since this was last called, and let more come."""
        pieces = self.pieces
        if not pieces:
            return b""
        self.pieces = []
        self._ask()
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    async def read(self) -> bytes:
        """Return the whole body; returns without waiting when it has arrived.

        Raises:
            ServerError: ``UPSTREAM_INVALID`` when it is larger than the configured bound or cannot be
                decompressed; ``UPSTREAM_TRUNCATED`` and ``UPSTREAM_TIMEOUT``.
        """
        self.whole = True
        while not self.complete and self.failure is None and self.buffered <= self._limit_bytes:
            self._ask()
            await self._news()
        if self.failure is not None:
            raise self.failure
        if self.buffered > self._limit_bytes:
            raise too_large(self._limit_bytes)
        pieces, self.pieces = self.pieces, []
        body = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        return body if self.coding is None else await self._inflated(body)

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """Yield the body as it arrives: what was read from the socket since the last piece, undivided.

        Raises:
            ServerError: ``UPSTREAM_TRUNCATED``, ``UPSTREAM_TIMEOUT``, and ``UPSTREAM_INVALID`` for what
                cannot be decompressed.
        """
        decode = None if self.coding is None else decoder(self.coding, self._limit_bytes)
        while True:
            pieces = self.pieces
            if pieces:
                self.pieces = []
                piece = pieces[0] if len(pieces) == 1 else b"".join(pieces)
                self._ask()
                if decode is None:
                    yield piece
                else:
                    for inflated in decode.feed(piece):
                        yield inflated
                        await asyncio.sleep(0)  # others have their turn
            elif self.complete:
                break
            elif self.failure is not None:
                raise self.failure
            else:
                await self._news()
        if decode is not None:
            decode.end()

    def _forget(self) -> None:
        """Be as if nothing had come, to be filled once more."""
        self.status = 0
        self.headers = NO_HEADERS
        self.pieces = []
        self.buffered = 0
        self.failure = None
        self.unheard = False
        self.paused = False

    def _news(self) -> "asyncio.Future[None]":
        """Return what is finished when the connection has something to tell."""
        self.waiter = waiter = self._loop.create_future()
        return waiter

    def _ask(self) -> None:
        """Let the connection read on."""
        if not self.whole:
            self.buffered = 0
        if self.paused:
            self.paused = False
            if self.source is not None:
                self.source.resume()

    async def _inflated(self, body: bytes) -> bytes:
        decode = decoder(self.coding or "", self._limit_bytes)
        if decode is None:
            return body
        whole = bytearray()
        for piece in decode.feed(body):
            whole += piece
            if len(whole) > self._limit_bytes:
                raise too_large(self._limit_bytes)
            await asyncio.sleep(0)  # others have their turn
        decode.end()
        return bytes(whole)
