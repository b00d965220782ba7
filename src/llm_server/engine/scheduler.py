"""Who computes and who waits: slots, and a bounded queue in front of them."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from math import ceil
from time import perf_counter

from llm_server.contract import ErrorKind, ServerError
from llm_server.engine.runtime import closing

# Weight of the latest request in the running mean of how long one holds a slot.
_SMOOTHING = 0.2
_FIRST_GUESS_S = 2.0


class Scheduler:
    """Lets ``slots`` requests compute, ``queue`` more wait in order of arrival, and turns the rest away."""

    def __init__(self, slots: int, queue: int) -> None:
        self._slots = slots
        self._queue = queue
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._held_s = _FIRST_GUESS_S
        self._idle = asyncio.Event()
        self._closing = False
        self.active = 0
        """Requests that hold a slot."""

    @property
    def waiting(self) -> int:
        """Requests in the queue."""
        return len(self._waiting)

    def expect(self, requests: int) -> None:
        """Raise if ``requests`` that come at once would not all be admitted: all of them are, or none.

        Raises:
            ServerError: ``TOO_LARGE`` if they never could be, ``OVERLOADED`` if they cannot now,
                ``UNAVAILABLE`` when closing.
        """
        if self._closing:
            raise closing()
        if requests > self._slots + self._queue:
            message = (
                f"{requests} prompts in one request; this model takes at most {self._slots + self._queue}."
            )
            raise ServerError(ErrorKind.TOO_LARGE, message, param="prompt")
        excess = self.active + self.waiting + requests - self._slots - self._queue
        if excess > 0:
            raise ServerError(
                ErrorKind.OVERLOADED,
                f"The embedded model is busy: {self.active} requests run and {self.waiting} wait.",
                retry_after_s=float(max(1, ceil(self._held_s * excess / self._slots))),
            )

    @asynccontextmanager
    async def slot(self) -> AsyncGenerator[None, None]:
        """Hold a slot, after waiting for one; leaving while waiting gives up the place in the queue.

        Raises:
            ServerError: ``OVERLOADED`` when the queue is full.
        """
        self.expect(1)
        await self._enter()
        started = perf_counter()
        try:
            yield
        finally:
            self._held_s += _SMOOTHING * (perf_counter() - started - self._held_s)
            self._leave()

    async def _enter(self) -> None:
        if self.active < self._slots:
            self.active += 1
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():  # the slot was handed over in the same turn of the loop
                self._leave()
            elif turn in self._waiting:
                self._waiting.remove(turn)
            raise

    def _leave(self) -> None:
        """Hand the slot to whoever waited longest, or give it back."""
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self.active -= 1
        if self.active == 0:
            self._idle.set()

    async def drain(self, timeout_s: float) -> None:
        """Turn everything new away, and return when nothing is left or after ``timeout_s`` seconds."""
        self._closing = True
        if self.active:
            self._idle.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._idle.wait(), timeout_s)
