"""Places for requests: so many at once, so many waiting, in order of arrival."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from llm_server.contract import ErrorKind, ServerError
from llm_server.pool.config import PoolConfig


class Slots:
    """Bounds the requests at one upstream. Belongs to the event loop that first waits for it."""

    def __init__(self, config: PoolConfig) -> None:
        self._config = config
        self._free = asyncio.Semaphore(config.max_connections)
        self.busy = 0
        self.waiting = 0

    @asynccontextmanager
    async def take(self) -> AsyncIterator[None]:
        """Hold a place for the time of the context.

        Raises:
            ServerError: ``OVERLOADED`` when too many wait already, or none became free in time.
        """
        await self._acquire()
        self.busy += 1
        try:
            yield
        finally:
            self.busy -= 1
            self._free.release()

    async def _acquire(self) -> None:
        if self._free.locked() and self.waiting >= self._config.max_waiting:
            raise self._full(f"{self.waiting} requests are waiting already")
        self.waiting += 1
        try:
            async with asyncio.timeout(self._config.acquire_timeout_s):
                await self._free.acquire()
        except TimeoutError:
            raise self._full(f"no connection became free in {self._config.acquire_timeout_s:g} s") from None
        finally:
            self.waiting -= 1

    def _full(self, why: str) -> ServerError:
        return ServerError(
            ErrorKind.OVERLOADED,
            "Too many requests are on their way to this provider. Try again shortly.",
            retry_after_s=1.0,
            detail=f"{why}; max_connections is {self._config.max_connections}",
        )
