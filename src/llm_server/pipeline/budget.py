"""How much more than its requests a route may ask of its upstreams: a token bucket whose tokens expire."""

WINDOWS = 10
TTL_S = 10.0
"""Seconds after which a deposit, or a withdrawal, is forgotten."""


class RetryBudget:
    """Allows calls beyond a request's first: ``share`` for each request, and ``floor_per_s`` in any case.

    Every request's first call deposits ``share`` of a token, every further call withdraws a whole one. Both
    are forgotten after ten seconds, so that a quiet hour saves nothing up for a storm.

    Source: Finagle's ``RetryBudget`` and ``LeakyTokenBucket`` (twitter/finagle, finagle-core and util-core),
    whose defaults are a share of 0.2, a floor of 10 a second and 10 seconds.
    """

    __slots__ = ("_at", "_balances", "_reserve", "_share", "_sum")

    def __init__(self, share: float, floor_per_s: float) -> None:
        self._share = share
        self._reserve = floor_per_s * TTL_S
        self._balances = [0.0] * WINDOWS
        self._sum = 0.0
        self._at = 0

    def deposit(self, now_s: float) -> None:
        """Note a request's first call at ``now_s``, of a clock that never goes back."""
        self._turn(now_s)
        self._balances[self._at % WINDOWS] += self._share
        self._sum += self._share

    def withdraw(self, now_s: float) -> bool:
        """Note a further call, and return whether it may be made; if not, nothing is noted."""
        allowed = self.balance(now_s) >= 1.0
        if allowed:
            self.take(now_s)
        return allowed

    def take(self, now_s: float) -> None:
        """Note a further call that is made in any case: it leaves less for others, down to nothing."""
        least = min(1.0, max(0.0, self.balance(now_s)))
        self._balances[self._at % WINDOWS] -= least
        self._sum -= least

    def balance(self, now_s: float) -> float:
        """Return how many further calls may be made at ``now_s``."""
        self._turn(now_s)
        return self._sum + self._reserve

    def _turn(self, now_s: float) -> None:
        """Forget what is too old."""
        at = int(now_s * (WINDOWS / TTL_S))
        passed = at - self._at
        if passed <= 0:
            return
        for step in range(1, min(passed, WINDOWS) + 1):
            self._balances[(self._at + step) % WINDOWS] = 0.0
        self._at = at
        self._sum = sum(self._balances)  # anew, so that rounding errors do not add up
