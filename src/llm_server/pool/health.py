"""How an upstream has been doing."""

from collections import deque

from llm_server.contract import ErrorKind

SLICES = 10
"""Parts of the window that are forgotten one by one."""
WEIGHT = 1 / 8
"""Weight of a new time in the smoothed ones, as in TCP's SRTT (RFC 6298, section 2)."""

FAILURES = frozenset(
    {
        ErrorKind.UPSTREAM_ERROR,
        ErrorKind.UPSTREAM_OVERLOADED,
        ErrorKind.UPSTREAM_UNREACHABLE,
        ErrorKind.UPSTREAM_TIMEOUT,
        ErrorKind.UPSTREAM_TRUNCATED,
        ErrorKind.UPSTREAM_INVALID,
    }
)
"""What an upstream is to blame for, before its headers or after them. A refused key, a used up quota and a
rate limit say nothing against its health."""

CROWDED = frozenset({ErrorKind.UPSTREAM_RATE_LIMITED, ErrorKind.UPSTREAM_OVERLOADED})
"""What tells of too many requests, where a stream says it after a status of 200."""


def is_failure(status: int) -> bool:
    """Whether an answer's status is a failure of the upstream: 5xx (529 too), but not 501 Not Implemented."""
    return status >= 500 and status != 501


class Health:
    """Successes and failures over the last ``window_s``, failures in a row, and smoothed times in seconds.

    A request counts when it has ended. 4xx are successes: the upstream works, the request was wrong.
    """

    __slots__ = (
        "_failed",
        "_good",
        "_slice_s",
        "_slices",
        "_turn_s",
        "consecutive_failures",
        "first_byte_s",
        "latency_s",
    )

    def __init__(self, window_s: float) -> None:
        self.consecutive_failures = 0
        self.latency_s = 0.0
        self.first_byte_s = 0.0
        self._slice_s = window_s / SLICES
        self._slices: deque[tuple[int, int]] = deque([(0, 0)] * (SLICES - 1), SLICES - 1)
        self._turn_s = float("-inf")
        self._good = self._failed = 0

    def succeeded(self, now_s: float, took_s: float | None) -> None:
        """Note a request that was answered in ``took_s``; ``None`` for a time that tells nothing."""
        if now_s >= self._turn_s:
            self._turn(now_s)
        self._good += 1
        self.consecutive_failures = 0
        if took_s is not None:
            self.latency_s += (took_s - self.latency_s) * WEIGHT if self.latency_s else took_s

    def failed(self, now_s: float) -> None:
        """Note a request that failed."""
        if now_s >= self._turn_s:
            self._turn(now_s)
        self._failed += 1
        self.consecutive_failures += 1

    def began(self, took_s: float) -> None:
        """Note that a stream's body began after ``took_s``."""
        self.first_byte_s += (took_s - self.first_byte_s) * WEIGHT if self.first_byte_s else took_s

    def counts(self, now_s: float) -> tuple[int, int]:
        """Return the requests and the failures among them in the window."""
        if now_s >= self._turn_s:
            self._turn(now_s)
        failed = self._failed + sum(failed for _, failed in self._slices)
        return failed + self._good + sum(good for good, _ in self._slices), failed

    def forget(self) -> None:
        """Start the window anew: what led to a pause is no reason for the next one."""
        self._slices.extend([(0, 0)] * (SLICES - 1))
        self._good = self._failed = 0

    def _turn(self, now_s: float) -> None:
        late_s = now_s - self._turn_s
        past = SLICES if late_s >= self._slice_s * SLICES else 1 + int(late_s / self._slice_s)
        self._slices.append((self._good, self._failed))
        self._slices.extend([(0, 0)] * (past - 1))
        self._good = self._failed = 0
        if past == SLICES:
            self._turn_s = now_s + self._slice_s
        else:
            self._turn_s += past * self._slice_s
