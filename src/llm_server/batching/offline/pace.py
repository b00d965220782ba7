"""How many lines of a batch are asked at once: as many as find spare room, and no more.

Additive increase, multiplicative decrease, with a slow start (RFC 5681, section 3.1): one more for every
answer until the first refusal, from then on one more for each round of answers; half after a refusal, counted
once for all lines that were under way. After a refusal nothing is asked for the time that the upstream names,
else for a random part of a pause that doubles ("full jitter", AWS Builders' Library, "Timeouts, retries and
backoff with jitter").
"""

import asyncio
import random
from collections import deque
from collections.abc import Callable
from enum import Enum

FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 60.0


class Room(Enum):
    """What an attempt says of the room there is."""

    SPARE = "spare"
    FULL = "full"
    """It had to wait for a place: somebody else needs what there is."""
    NONE = "none"
    """It was refused."""


class Pace:
    """Gives places to attempts, first come, first served.

    Args:
        ceiling: places at most.
        clock: seconds of a clock that never goes back.
        chance: a number between 0 and 1.

    Attributes:
        answered: attempts so far that had an answer.
    """

    def __init__(
        self,
        ceiling: int,
        clock: Callable[[], float] | None = None,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._ceiling = float(ceiling)
        self._clock = clock or asyncio.get_running_loop().time
        self._chance = chance
        self._limit = 1.0
        self._threshold = self._ceiling
        self._busy = 0
        self.answered = 0
        self._paused_until = 0.0
        self._refusals = 0
        self._lowered_at = float("-inf")
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._timer: asyncio.TimerHandle | None = None

    @property
    def limit(self) -> int:
        """Places that there are now."""
        return int(self._limit)

    @property
    def busy(self) -> int:
        """Places that are taken."""
        return self._busy

    async def enter(self) -> float:
        """Wait for a place; return when it was given, for :meth:`leave`."""
        if self._waiting or not self._free():
            place = asyncio.get_running_loop().create_future()
            self._waiting.append(place)
            self._wake()
            try:
                await place
            except asyncio.CancelledError:
                if place.done() and not place.cancelled():
                    self._busy -= 1
                    self._wake()
                raise
        else:
            self._busy += 1
        return self._clock()

    def leave(self, entered_at: float, room: Room | None, retry_after_s: float | None = None) -> None:
        """Give a place back, with what it told of the room; ``None`` for nothing."""
        self._busy -= 1
        self.answered += room in {Room.SPARE, Room.FULL}
        if room is Room.SPARE:
            self._refusals = 0
            step = 1.0 if self._limit < self._threshold else 1.0 / self._limit
            self._limit = min(self._ceiling, self._limit + step)
        elif room is not None and entered_at > self._lowered_at:
            self._lower(room, retry_after_s)
        self._wake()

    def _lower(self, room: Room, retry_after_s: float | None) -> None:
        now = self._clock()
        self._lowered_at = now
        self._threshold = self._limit = max(1.0, self._limit / 2)
        if room is Room.NONE:
            self._refusals += 1
            pause_s = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0**self._refusals) * self._chance()
            self._paused_until = now + min(LONGEST_PAUSE_S, max(pause_s, retry_after_s or 0.0))

    def _free(self) -> bool:
        return self._busy < int(self._limit) and self._clock() >= self._paused_until

    def _wake(self) -> None:
        """Give the free places to those that wait; while paused, come back at the end of the pause."""
        while self._waiting and self._free():
            place = self._waiting.popleft()
            if not place.done():
                self._busy += 1
                place.set_result(None)
        left_s = self._paused_until - self._clock()
        if self._waiting and left_s > 0 and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(left_s, self._resume)

    def _resume(self) -> None:
        self._timer = None
        self._wake()

    def close(self) -> None:
        """Forget the timer. Nobody may be waiting any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
