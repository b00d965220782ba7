"""One timer for many deadlines, of which most are never reached."""

import math
import time
from asyncio import AbstractEventLoop, TimerHandle
from collections.abc import Callable


class LazyTimer:
    """Calls ``fire`` when the time that was last set has come, or ``never`` if that was infinity.

    Setting a later time than before, as almost every request does, costs an assignment: the loop's timer
    stays as it is, and is set again when it fires too early. Times are ``perf_counter`` seconds.
    """

    __slots__ = ("_at_s", "_fire", "_handle", "_loop", "_rings_s")

    def __init__(self, loop: AbstractEventLoop, fire: Callable[[], None]) -> None:
        self._loop = loop
        self._fire = fire
        self._at_s = self._rings_s = math.inf
        self._handle: TimerHandle | None = None

    def set(self, at_s: float) -> None:
        """Fire at ``at_s`` and not before; ``inf`` for never."""
        self._at_s = at_s
        if at_s < self._rings_s:
            if self._handle is not None:
                self._handle.cancel()
            self._arm(at_s - time.perf_counter())

    def cancel(self) -> None:
        """Never fire; the loop's timer is gone."""
        self._at_s = math.inf
        if self._handle is not None:
            self._handle.cancel()
            self._handle, self._rings_s = None, math.inf

    def _arm(self, left_s: float) -> None:
        self._rings_s = self._at_s
        # The loop's timers may come a millisecond early.
        self._handle = self._loop.call_later(max(0.0, left_s) + 0.001, self._ring)

    def _ring(self) -> None:
        self._handle, self._rings_s = None, math.inf
        left_s = self._at_s - time.perf_counter()
        if left_s <= 0:
            self._at_s = math.inf
            self._fire()
        elif left_s < math.inf:
            self._arm(left_s)
