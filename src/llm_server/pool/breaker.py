"""Leave an upstream alone that fails, and find out when it works again."""

import random
from collections.abc import Callable
from enum import StrEnum

from llm_server.pool.config import BreakerConfig
from llm_server.pool.health import Health

JITTER = 0.2
"""Share by which a pause is longer or shorter, so that many servers do not come back at once."""
SOONEST_S = 1.0
"""What a request that is refused while a probe is under way is told to wait."""


class BreakerState(StrEnum):
    """Closed lets everything through, open nothing, half open one request as a probe."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class Breaker:
    """Opens on failures in a row or on their share, and closes when a probe succeeds.

    Failures in a row and the share with its floor of requests are Envoy's outlier detection
    (``consecutive_5xx``, ``failure_percentage_threshold`` 85), states and single probe are resilience4j's. It
    stays open for ``open_s`` x 2^n, at most ``max_open_s``, n times failed in a row; Envoy multiplies by n. A
    breaker that opens again within ``window_s`` of closing goes on where it was, as Envoy takes ejections
    back slowly.

    A probe succeeds with its headers: an answer may go on for minutes. The first failure after that opens
    again; after the first answer that is whole the usual counts hold.

    Args:
        config: its thresholds.
        draw: gives numbers in [0, 1) for the jitter.

    Attributes:
        suspect: whether it has closed and no answer was whole since; the first failure then opens it again.
        times: how often it opened in a row.
        until_s: when it lets a probe through.
    """

    __slots__ = ("_closed_s", "_config", "_draw", "_probe_until_s", "closed", "suspect", "times", "until_s")

    def __init__(self, config: BreakerConfig, draw: Callable[[], float] = random.random) -> None:
        self._config = config
        self._draw = draw
        self._closed_s = float("-inf")
        self._probe_until_s = float("-inf")
        self.suspect = False
        self.closed = True
        self.times = 0
        self.until_s = 0.0

    def state(self, now_s: float) -> BreakerState:
        """Return the state at ``now_s``."""
        if self.closed:
            return BreakerState.CLOSED
        return BreakerState.OPEN if now_s < self.until_s else BreakerState.HALF_OPEN

    def probe(self, now_s: float) -> bool:
        """Return whether a request may go as the probe of an open breaker; it then is the probe.

        One that brings nothing within ``open_s`` is not waited for: another may go.
        """
        if now_s < self.until_s or now_s < self._probe_until_s:
            return False
        self._probe_until_s = now_s + self._config.open_s
        return True

    def unprobed(self) -> None:
        """Take a probe back that ended without an outcome."""
        self._probe_until_s = float("-inf")

    def retry_after_s(self, now_s: float) -> float:
        """Return the seconds after which another try makes sense."""
        return max(self.until_s - now_s, SOONEST_S)

    def answered(self, now_s: float) -> None:
        """Note that a request that an open breaker let through has good headers: close."""
        if not self.closed:
            self.closed = self.suspect = True
            self._closed_s = now_s

    def failed(self, now_s: float, health: Health, *, probe: bool) -> bool:
        """Note a failure that ``health`` has counted; return whether the breaker opened because of it.

        ``probe`` is whether this was the probe. Other failures while it is open change nothing.
        """
        if not self._config.enabled or not (self._is_reason(now_s, health) if self.closed else probe):
            return False
        again = not self.closed or now_s - self._closed_s < self._config.window_s
        self.times = self.times + 1 if again else 1
        self.closed = self.suspect = False
        pause_s = min(self._config.open_s * 2.0 ** min(self.times - 1, 60), self._config.max_open_s)
        self.until_s = now_s + pause_s * (1 + JITTER * (2 * self._draw() - 1))
        self._probe_until_s = float("-inf")
        health.forget()
        return True

    def _is_reason(self, now_s: float, health: Health) -> bool:
        config = self._config
        if self.suspect or health.consecutive_failures >= config.consecutive_failures:
            return True
        requests, failures = health.counts(now_s)
        return requests >= config.min_requests and failures >= config.failure_share * requests
