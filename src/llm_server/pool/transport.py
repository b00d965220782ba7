"""The seam inside this room: who carries bytes to an origin, and nothing of when or whether."""

from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from llm_server.contract import HttpRequest, HttpResponse


class Transport(Protocol):
    """Connections to one origin: ``direct`` (our own HTTP/1.1) and ``aiohttp`` implement it.

    It opens a connection for whoever asks and has none: how many may ask at once is decided above.
    """

    def exchange(
        self, request: HttpRequest, within_s: float | None = None
    ) -> AbstractAsyncContextManager[HttpResponse]:
        """Send ``request`` and give its answer; ``within_s`` shortens the time for the whole exchange.

        On leaving, the connection is kept if the answer was read to its end, else closed.

        Raises:
            ServerError: ``UPSTREAM_UNREACHABLE``, ``UPSTREAM_TIMEOUT`` naming the phase,
                ``UPSTREAM_TRUNCATED``, ``UPSTREAM_INVALID`` for what is not HTTP.
        """
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
