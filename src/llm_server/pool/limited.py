"""A pool over any transport: so many requests at once, so many waiting."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from llm_server.contract import Context, HttpRequest, HttpResponse, Secret
from llm_server.pool.config import PoolConfig
from llm_server.pool.slots import Slots
from llm_server.pool.transports import transport


class AiohttpPool:
    """Connections to the one origin of ``base_url``: see :class:`llm_server.contract.Pool`."""

    def __init__(self, base_url: str, config: PoolConfig, headers: Mapping[str, Secret]) -> None:
        self._config = config
        self._slots = Slots(config)
        self._transport = transport(base_url, config, headers)

    @asynccontextmanager
    async def send(
        self,
        request: HttpRequest,
        ctx: Context | None = None,  # noqa: ARG002 - the port names it
    ) -> AsyncIterator[HttpResponse]:
        """Send ``request`` and give its answer.

        Raises:
            ServerError: ``OVERLOADED`` without a free connection, and what the transport raises.
        """
        async with self._slots.take(), self._transport.exchange(request) as response:
            yield response

    def stats(self) -> Mapping[str, int]:
        """Return ``open``, ``busy``, ``waiting`` and ``limit``; ``open`` counts idle connections too."""
        return {
            "open": self._transport.stats()["open"],
            "busy": self._slots.busy,
            "waiting": self._slots.waiting,
            "limit": self._config.max_connections,
        }

    async def close(self) -> None:
        """Close all connections; a later request opens new ones."""
        await self._transport.close()
