"""The seam inside this room: who carries bytes to an origin, and nothing of when or whether."""

from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Protocol

from llm_server.contract import HttpRequest, HttpResponse

RESEND_WITHIN_S = 5.0
"""Seconds after sending in which a kept connection's end means that it was closing already.

A peer that closed an idle connection while the request was on its way is heard of one round trip later, or
one or two retransmissions (RFC 6298: one second, then two); who closes after minutes has worked on it.
"""


class Transport(Protocol):
    """Connections to one origin: ``direct`` (our own HTTP/1.1) and ``aiohttp`` implement it.

    It opens a connection for whoever asks and has none: how many may ask at once is decided above.

    **When a request is sent again**: once, on a new connection, if it went out on a kept one that ended
    before one byte of an answer came, within :data:`RESEND_WITHIN_S`. Such a connection was being closed
    while the request was on its way (RFC 9112 9.3.1 and 9.5: servers close idle connections at any time), so
    the peer's HTTP never saw it. RFC 9110 9.2.2 forbids to repeat a method that is not idempotent
    *unless there is some means to know that the first was not applied*: silence at once on a connection that
    was idle is that means; browsers and proxies go by it too. A 408 that closes the connection says the same
    aloud (RFC 9110 15.5.9). A new connection that ends without an answer is a failure: its peer had nothing
    to close.
    """

    def exchange(
        self, request: HttpRequest, within_s: float | None = None
    ) -> AbstractAsyncContextManager[HttpResponse]:
        """Send ``request`` and give its answer; ``within_s`` shortens the time for the whole exchange.

        On leaving, the connection is kept if the answer has arrived whole, else closed.

        Raises:
            ServerError: ``INVALID_REQUEST`` for what would not be one request on the wire (nothing is sent),
                ``UPSTREAM_UNREACHABLE``, ``UPSTREAM_TIMEOUT`` naming the phase, ``UPSTREAM_TRUNCATED``,
                ``UPSTREAM_INVALID`` for what is not HTTP. None carries another exception along: those may
                hold the request's headers.
        """
        ...

    def ready(self) -> bool:
        """Whether a connection is idle, so that a request can probably be begun."""
        ...

    def begin(
        self, request: HttpRequest, within_s: float, listener: Callable[[], None], *, whole: bool
    ) -> "Begun | None":
        """Send ``request`` at once and return it, not yet entered; nothing if no idle connection can take it.

        ``listener`` is called with every piece of news until it is entered, if ``whole`` only at the end.
        """
        ...

    def warm(self) -> None:
        """Begin to open the connections that are kept ahead, without waiting; the first exchange does too."""
        ...

    def stats(self) -> Mapping[str, int]:
        """Return the connections ``open`` and ``idle``, and counts since the start.

        These are ``opened``, ``reused``, and ``resent``: requests sent again because a kept connection turned
        out to be closed.
        """
        ...

    async def close(self) -> None:
        """Close all connections; a later request opens new ones."""
        ...


class Begun(Protocol):
    """An exchange that has been sent. Entering it goes on with it as if it had been entered to begin with."""

    headers: Mapping[str, str]

    @property
    def complete(self) -> bool:
        """Whether the answer has come to its end."""
        ...

    @property
    def plain(self) -> bool:
        """Whether it is a good answer so far, and its body the bytes that come."""
        ...

    def body(self) -> bytes | None:
        """Return the whole body if it has come and is within the limits; takes nothing."""
        ...

    def taken(self) -> bytes:
        """Return what has come of the body since this was last called, and let more come."""
        ...

    async def __aenter__(self) -> HttpResponse: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None: ...


def gives_up(status: int, headers: Mapping[str, str]) -> bool:
    """Whether an answer says that no request came in time, on a connection that it closes (RFC 9110 15.5.9).

    A 408 that keeps the connection is an answer like others: there are APIs that say so of their own work.
    """
    return status == 408 and "close" in headers.get("connection", "").lower()
