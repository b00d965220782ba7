"""What an upstream says is left of its limits, and how long it wants no request."""

from collections.abc import Callable, Mapping

from msgspec import Struct

from llm_server.contract import QuotaReport

MAX_HOLD_S = 300.0
"""So long an upstream is believed at most: a day's quota may be raised meanwhile, a header may be wrong."""
SLICE = 0.1
"""Share of the time to a full allowance that is waited where it refills steadily: a tenth of it is back then,
and nothing is lost, since an allowance below its maximum goes on refilling."""
MAX_HOLDS = 256
"""Models that are remembered."""
REFUSALS = frozenset({429, 503, 529})
"""Statuses whose answers may say when to come back (RFC 6585 section 4, RFC 9110 section 15.6.4)."""

Seconds = Callable[[str], float | None]
"""Reads a header's value as seconds from now; ``None`` for what it does not understand."""


class Allowance(Struct, frozen=True, kw_only=True):
    """One limit of an upstream, by the headers that tell of it (lower case)."""

    name: str
    remaining: str
    """Header with what is left."""
    reset: str
    """Header with the time at which it is full again."""
    until: Seconds
    """How the value of ``reset`` is read."""
    refills: bool = True
    """Whether it comes back steadily, or all at once at the time of ``reset``."""


class QuotaRules(Struct, frozen=True, kw_only=True):
    """How an upstream tells of its limits."""

    allowances: tuple[Allowance, ...] = ()
    retry_after_s: Callable[[Mapping[str, str]], float | None] = lambda _: None
    """Reads from a refusal's headers how long to stay away."""
    by_model: bool = True
    """Whether each model has limits of its own."""


class Quota:
    """Remembers who may not be asked now: a model at this upstream, or all of them.

    ``held`` is empty almost always, which is all that a request has to look at.
    """

    __slots__ = ("_latest", "_latest_s", "_rules", "held")

    def __init__(self, rules: QuotaRules) -> None:
        self._rules = rules
        self._latest: Mapping[str, str] = {}
        self._latest_s = 0.0
        self.held: dict[str, float] = {}

    def read(self, status: int, headers: Mapping[str, str], model: str, now_s: float) -> None:
        """Take note of an answer's headers: what is used up, and what a refusal says."""
        wait_s = 0.0
        for allowance in self._rules.allowances:
            left = headers.get(allowance.remaining)
            if left is None:
                continue
            self._latest, self._latest_s = headers, now_s
            if left == "0":
                reset_s = allowance.until(headers.get(allowance.reset, "")) or 0.0
                wait_s = max(wait_s, reset_s * SLICE if allowance.refills else reset_s)
        if status in REFUSALS:
            told_s = self._rules.retry_after_s(headers)
            wait_s = wait_s if told_s is None else told_s
        if wait_s > 0:
            self._hold(model if self._rules.by_model else "", now_s + min(wait_s, MAX_HOLD_S), now_s)

    def wait_s(self, model: str, now_s: float) -> float:
        """Return for how long ``model`` may not be asked; 0 if it may be now."""
        until_s = max(self.held.get(model, 0.0), self.held.get("", 0.0))
        if until_s > now_s:
            return until_s - now_s
        self.held = {name: until_s for name, until_s in self.held.items() if until_s > now_s}
        return 0.0

    def report(self, now_s: float) -> tuple[QuotaReport, ...]:
        """Return what the latest answer said of each limit."""
        told = []
        for allowance in self._rules.allowances:
            left = self._latest.get(allowance.remaining)
            if left is not None:
                reset_s = allowance.until(self._latest.get(allowance.reset, ""))
                age_s = now_s - self._latest_s
                told.append(
                    QuotaReport(name=allowance.name, remaining=left[:32], reset_s=reset_s, age_s=age_s)
                )
        return tuple(told)

    def _hold(self, model: str, until_s: float, now_s: float) -> None:
        self.held = {name: each for name, each in self.held.items() if each > now_s}
        if model in self.held or len(self.held) < MAX_HOLDS:
            self.held[model] = max(until_s, self.held.get(model, 0.0))
