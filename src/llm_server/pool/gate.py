"""Who may go to an upstream now, who waits for a place, and who is sent away."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable

from llm_server.contract import ErrorKind, Priority, ServerError

SHARE = 100
"""Of so many places that become free while less urgent requests wait, one goes to the oldest of these: they
are slow then, but never starve (the weight that CBQ and WFQ schedulers give to their last class)."""
WEIGHT = 1 / 32
"""Weight of a new time that a place is held."""
GRANTS = 256
"""Places given out, over which it is averaged how many requests of each class come meanwhile: a class that
takes half of the places is known to 4 % then (Poisson). In simulation, over 32 the queue follows the noise,
and up to one in ten of those that were refused had waited first."""
MARGIN = 0.8
"""Share of its time in which a request must probably get a place, to be let into the queue: better sent away
at once than after all of it."""
OVERTAKEN = MARGIN / 2
"""The same where more urgent requests come, of which there may be more than there were lately. In simulation
a service of 4 s and a patience of 10 s leave one in 100 refusals that has waited first."""
BRIEF_S = 0.5
"""Seconds that a request may wait in an overload, or for as long as a place is held if that is longer: its
answer takes twice as long at most, or is a little late (half of the second after which a wait interrupts a
user's thought: J. Nielsen, "Usability Engineering", 1993)."""
TIMER_STEP_S = 0.01
"""The timer does not fire more often, however many waiters there are."""
UNKNOWN_RETRY_S = 1.0
"""What a request that is sent away is told before anything is known about the queue's speed."""
MAX_RETRY_S = 60.0


class _Waiter:
    __slots__ = ("deadline_s", "entered_s", "expires_s", "future", "priority")

    def __init__(self, priority: Priority, now_s: float, timeout_s: float, deadline_s: float | None) -> None:
        self.priority = priority
        self.entered_s = now_s
        self.deadline_s = deadline_s
        self.expires_s = now_s + timeout_s if deadline_s is None else min(now_s + timeout_s, deadline_s)
        self.future: asyncio.Future[None] = asyncio.get_running_loop().create_future()


class Gate:
    """So many requests at once, and a bounded queue by urgency: first come, first served within a class.

    A more urgent class goes first, but for one place in :data:`SHARE`. When the queue is full the newest
    request of the least urgent class makes room for a more urgent one.

    Who will be refused is refused at the door, and who is let in is served: a request is let into the queue
    if it will probably get a place in its time, judged by how fast places become free for its class. One is
    free every ``held_s / limit`` seconds, where ``held_s`` is the mean time that one is held (Little's law,
    1961), and more urgent classes take as many as requests of theirs come. While no more requests of a class
    and the more urgent ones come than are served, a burst may fill the queue as far as its waiters are
    patient, since it will be worked off. When more come (an overload), waiting serves nobody more, it only
    makes all answers late: the queue of that class stays as short as keeps the places busy. This is what
    CoDel (RFC 8289) does about a standing queue, at the door instead of at the exit, so that who is refused
    has not waited.

    Args:
        limit: requests at once; see :meth:`allow`.
        max_waiting: requests that may wait.
        timeout_s: seconds that each may wait.
        now: the clock of deadlines, in seconds.

    Attributes:
        limit: places there are now.
        busy: places that are taken; more than ``limit`` for a while after it fell.
        waiting: requests in the queue.
        shed: requests sent away or given up while they waited, by class.
    """

    __slots__ = (
        "_arrived",
        "_crowded_s",
        "_demand",
        "_granted",
        "_now",
        "_overtaken",
        "_queues",
        "_timeout_s",
        "_timer",
        "busy",
        "held_s",
        "limit",
        "max_waiting",
        "shed",
        "waiting",
    )

    def __init__(
        self, limit: int, max_waiting: int, timeout_s: float, now: Callable[[], float] = time.perf_counter
    ) -> None:
        self.limit = limit
        self.max_waiting = max_waiting
        self.busy = 0
        self.waiting = 0
        self.held_s = 0.0
        self.shed = [0] * len(Priority)
        self._timeout_s = timeout_s
        self._now = now
        self._queues: tuple[OrderedDict[_Waiter, None], ...] = tuple(OrderedDict() for _ in Priority)
        self._overtaken = 0
        self._arrived = [0] * len(Priority)
        self._demand = [0.0] * len(Priority)
        self._granted = 0
        self._crowded_s = float("-inf")
        self._timer: asyncio.TimerHandle | None = None

    def enter(self) -> bool:
        """Take a place if one is free and nobody waits for it. Whoever has one calls :meth:`leave`."""
        if self.busy < self.limit and not self.waiting:
            self.busy += 1
            return True
        return False

    def leave(self, held_s: float | None = None) -> None:
        """Give a place back that was held for ``held_s`` seconds; the next in the queue has it at once."""
        self.busy -= 1
        if held_s is not None:
            self.held_s += (held_s - self.held_s) * WEIGHT if self.held_s else held_s
        if self.waiting:
            self._grant()

    def allow(self, limit: int) -> None:
        """Change the number of places. Nobody who has one loses it."""
        self.limit = limit
        if self.waiting:
            self._grant()

    async def wait(self, priority: Priority, deadline_s: float | None = None) -> float:
        """Wait for a place and return the seconds that it took.

        Raises:
            ServerError: ``OVERLOADED`` when the request is sent away, at once or when its time is over, and
                ``DEADLINE`` when its caller's is.
        """
        waiter = self._queue_up(priority, deadline_s)
        try:
            await waiter.future
        except asyncio.CancelledError:
            self._withdraw(waiter)
            raise
        return self._now() - waiter.entered_s

    def wait_estimate_s(self, priority: Priority) -> float:
        """Return the seconds that a new request of this class will probably wait; 0 where unknown."""
        interval_s = self.held_s / self.limit
        urgent, own = sum(map(len, self._queues[:priority])), len(self._queues[priority])
        own += 1 + max(self.busy - self.limit, 0)  # after the limit fell, so many come back for nobody
        # More urgent ones will come as they do now: of the places this class has what they leave.
        left = max(1 - sum(self._demand[:priority]), 1 / SHARE)
        return max(urgent + own, own / left) * interval_s

    def by_class(self) -> dict[Priority, int]:
        """Return how many wait, by class."""
        return {priority: len(self._queues[priority]) for priority in Priority}

    def dismiss(self, error: Callable[[], ServerError]) -> None:
        """Send everybody away who waits."""
        for queue in self._queues:
            while queue:
                self._send_away(next(iter(queue)), error())

    def close(self) -> None:
        """Let go of the timer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _queue_up(self, priority: Priority, deadline_s: float | None) -> _Waiter:
        now_s = self._now()
        if now_s - self._crowded_s > self._timeout_s:
            self._demand = [0.0] * len(Priority)
            self._granted = 0
        self._crowded_s = now_s
        self._arrived[priority] += 1
        if self.wait_estimate_s(priority) > self._allowed_s(priority, now_s, deadline_s):
            self.shed[priority] += 1
            raise self._full(priority, "a place will not be free in time")
        if self.waiting >= self.max_waiting and not self._make_room(priority):
            self.shed[priority] += 1
            raise self._full(priority, f"{self.waiting} requests are waiting already")
        waiter = _Waiter(priority, now_s, self._timeout_s, deadline_s)
        self._queues[priority][waiter] = None
        self.waiting += 1
        self._arm(waiter.expires_s, now_s)
        return waiter

    def _allowed_s(self, priority: Priority, now_s: float, deadline_s: float | None) -> float:
        """Return how long a request that comes now may probably have to wait, to be let in."""
        patience_s = self._timeout_s
        if deadline_s is not None:
            # It is a deadline for the whole answer, which may be quicker than others.
            left_s = deadline_s - now_s
            patience_s = min(patience_s, max(left_s - self.held_s, left_s / 2))
        urgent = sum(self._demand[:priority])
        allowed_s = (OVERTAKEN if urgent else MARGIN) * patience_s
        if urgent + self._demand[priority] > 1:
            return min(allowed_s, max(self.held_s, BRIEF_S))
        return allowed_s

    def _make_room(self, priority: Priority) -> bool:
        """Send the newest of the least urgent class away, if that class is less urgent than ``priority``."""
        for lower in range(len(self._queues) - 1, priority, -1):
            if self._queues[lower]:
                newest = next(reversed(self._queues[lower]))
                self._send_away(newest, self._full(newest.priority, "more urgent requests came"))
                return True
        return False

    def _grant(self) -> None:
        now_s = self._now()
        while self.waiting and self.busy < self.limit:
            waiter = self._next()
            if waiter.expires_s <= now_s:
                self._send_away(waiter, self._late(waiter, now_s))
                continue
            self._remove(waiter)
            if waiter.future.done():
                continue  # its task was cancelled in this turn of the loop
            self.busy += 1
            self._granted = min(self._granted + 1, GRANTS)
            for priority, arrived in enumerate(self._arrived):
                self._demand[priority] += (arrived - self._demand[priority]) / self._granted
                self._arrived[priority] = 0
            waiter.future.set_result(None)

    def _next(self) -> _Waiter:
        heads = [next(iter(queue)) for queue in self._queues if queue]
        if len(heads) > 1:
            self._overtaken += 1
            if self._overtaken >= SHARE:
                self._overtaken = 0
                return min(heads[1:], key=lambda waiter: waiter.entered_s)
        return heads[0]

    def _withdraw(self, waiter: _Waiter) -> None:
        """Undo the waiting of a request that was cancelled, whether or not it has got its place meanwhile."""
        if waiter in self._queues[waiter.priority]:
            self._remove(waiter)
        elif not waiter.future.cancelled() and waiter.future.exception() is None:
            self.leave()

    def _send_away(self, waiter: _Waiter, error: ServerError) -> None:
        self._remove(waiter)
        self.shed[waiter.priority] += 1
        # Else its task was cancelled in this turn of the loop and withdraws.
        if not waiter.future.done():
            waiter.future.set_exception(error)

    def _remove(self, waiter: _Waiter) -> None:
        del self._queues[waiter.priority][waiter]
        self.waiting -= 1

    def _arm(self, expires_s: float, now_s: float) -> None:
        """Have the timer fire at ``expires_s`` or before: one for all, set anew only if it were late."""
        loop = asyncio.get_running_loop()
        at_s = loop.time() + max(expires_s - now_s, TIMER_STEP_S)
        if self._timer is not None:
            if self._timer.when() <= at_s:
                return
            self._timer.cancel()
        self._timer = loop.call_at(at_s, self._expire)

    def _expire(self) -> None:
        self._timer = None
        now_s = self._now()
        left_s = float("inf")
        for queue in self._queues:
            for waiter in tuple(queue):
                if waiter.expires_s <= now_s:
                    self._send_away(waiter, self._late(waiter, now_s))
                else:
                    left_s = min(left_s, waiter.expires_s)
        if self.waiting:
            self._arm(left_s, now_s)

    def _late(self, waiter: _Waiter, now_s: float) -> ServerError:
        if waiter.deadline_s is not None and waiter.deadline_s <= now_s:
            return too_late(f"waited {now_s - waiter.entered_s:.3f} s for a place")
        return self._full(waiter.priority, f"no place became free in {self._timeout_s:g} s")

    def _full(self, priority: Priority, why: str) -> ServerError:
        estimate_s = self.wait_estimate_s(priority)
        return ServerError(
            ErrorKind.OVERLOADED,
            "Too many requests are on their way to this provider. Try again shortly.",
            retry_after_s=min(estimate_s, MAX_RETRY_S) or UNKNOWN_RETRY_S,
            detail=f"{why}; {self.busy} of {self.limit} places taken, {self.waiting} waiting",
        )


def too_late(detail: str) -> ServerError:
    """Return the error for a request whose caller's deadline passed before it was sent."""
    message = "The time that the caller gave this request was over before a provider could be asked."
    return ServerError(ErrorKind.DEADLINE, message, detail=detail)
