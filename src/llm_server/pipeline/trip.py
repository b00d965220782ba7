"""The state of one request on its way: which target is asked, and which next after a failure.

The rules, in order (docs/reliability.md tells why):

1. A kind of failure that is the same everywhere ends it, unless the route has targets for just this kind.
2. Targets not yet tried come first, at once. When all were, the one that is due soonest is asked again, after
   its back-off or the ``retry-after`` that it gave.
3. Nothing is asked that the number of attempts, the deadline or the retry budget forbids. A target that is
   not yet tried and healthy is never forbidden by the budget, only counted.
4. If every target was refused without a call (its breaker is open), the one that is due soonest is asked all
   the same, as far as the budget goes.
"""

from collections.abc import Callable

from llm_server.contract import (
    Again,
    Attempt,
    Block,
    Context,
    ErrorKind,
    RetryPolicy,
    Route,
    ServerError,
    Target,
)
from llm_server.pipeline.backoff import delay_s
from llm_server.pipeline.budget import RetryBudget
from llm_server.pipeline.ledger import Ledger

ATTEMPTS = 3
"""Calls that a request may make, unless it has more targets (AWS SDKs, standard mode; Google SRE, ch. 21)."""
LEAST_S = 0.05
"""Seconds below which no model far away can answer: a round trip, and its first token."""

REFUSED = frozenset({ErrorKind.UNAVAILABLE, ErrorKind.OVERLOADED})
"""Failures of ours: the pool or the engine refused the call, and nothing was sent."""


def _was_refused(error: ServerError) -> bool:
    """Whether nothing was sent: also where an upstream has said when to come back and that is not yet."""
    return error.kind in REFUSED or (error.kind is ErrorKind.UPSTREAM_RATE_LIMITED and error.status is None)


Replan = Callable[[tuple[Target, ...]], tuple[Target, ...]]
"""Says which of some targets can answer the call; raises ``UNSUPPORTED`` if none can."""


class Trip:
    """One request after its first failure. ``target`` is the one to ask next, after ``wait_s``."""

    def __init__(
        self, route: Route, targets: tuple[Target, ...], ctx: Context, ledger: Ledger, replan: Replan
    ) -> None:
        self.target = targets[0]
        self.wait_s = 0.0
        self._route = route
        self._policy: RetryPolicy = route.retry
        self._ctx = ctx
        self._replan = replan
        self._targets = targets
        self._fresh = list(targets[1:])
        self._ledger = ledger
        self._budget: RetryBudget = ledger.budget(route)
        self._calls = 0
        self._limit = self._policy.attempts or max(ATTEMPTS, len(targets))
        self._failures: dict[Target, int] = {}
        self._due: dict[Target, float] = {}
        self._refused: set[Target] = set()
        self._ejected: dict[Target, float] = {}
        self._detours: set[ErrorKind] = set()

    @property
    def elsewhere(self) -> bool:
        """Whether there is a target that was not asked yet."""
        return bool(self._fresh)

    def answered(self, now_s: float) -> None:
        """Note that :attr:`target` gave content."""
        self._called(now_s)
        self._ledger.succeeded(self.target)

    def noted(
        self, attempt: Attempt, target: Target, error: ServerError, now_s: float, chance: float
    ) -> Again:
        """Note that ``attempt`` at ``target`` failed, and return where to try again."""
        kind = error.kind
        again = self._again(error)
        attempt.refused = _was_refused(error) and attempt.first_byte_s is None  # of several calls, the first
        if attempt.refused:
            self._refused.add(target)
            if kind is ErrorKind.UNAVAILABLE:
                self._ejected[target] = now_s + (error.retry_after_s or 0.0)
        else:
            self._called(now_s)
            if kind.block is Block.UPSTREAM and kind is not ErrorKind.OUTPUT_INVALID:
                self._ledger.failed(target)
        if again is Again.ANYWHERE:
            earlier = self._failures.get(target, 0)
            self._failures[target] = earlier + 1
            wait_s = delay_s(self._policy, kind, earlier, error.retry_after_s, chance)
            if wait_s is not None:
                self._due[target] = now_s + wait_s
        return again

    def goes_on(self, error: ServerError, now_s: float, chance: float) -> bool:
        """Note that :attr:`target` failed, and return whether there is another to ask, or the same again."""
        again = self.noted(self._ctx.attempts[-1], self.target, error, now_s, chance)
        if again is Again.NEVER and not self._detour(error.kind):
            return False
        if self._chosen(now_s):
            return True
        _sum_up(error, len({(each.provider, each.model) for each in self._ctx.attempts}))
        return False

    def beside(self, now_s: float) -> Target | None:
        """Return a target that may be asked as well while :attr:`target` is silent, and count the call."""
        if not self._fresh or not self._in_time(now_s) or not self._budget.withdraw(now_s):
            return None
        return self._fresh.pop(0)

    def _called(self, now_s: float) -> None:
        self._calls += 1
        if self._calls == 1:
            self._budget.deposit(now_s)

    def _again(self, error: ServerError) -> Again:
        again = self._policy.where.get(error.kind, error.kind.again)
        # One layer only: a stage below has asked again already until the answers were no better; and who
        # refused without a call has waited already as long as made sense, if nobody else was left to ask.
        below = error.kind is ErrorKind.UPSTREAM_INVALID and self._ctx.structured is not None
        waited = error.kind in REFUSED or (_was_refused(error) and not self.elsewhere)
        return Again.ELSEWHERE if again is Again.ANYWHERE and (below or waited) else again

    def _detour(self, kind: ErrorKind) -> bool:
        """Turn to the targets for failures of ``kind``, once; returns whether there are any."""
        targets = self._route.instead.get(kind, ())
        if not targets or kind in self._detours:
            return False
        self._detours.add(kind)
        try:
            self._targets = self._replan(targets)
        except ServerError:
            return False  # none of them can: the caller is told what went wrong first
        self._fresh = list(self._targets)
        self._due.clear()
        self._refused.clear()
        self._ejected.clear()
        self._limit = max(self._limit, self._calls + len(self._fresh))
        return True

    def _chosen(self, now_s: float) -> bool:
        if self._calls >= self._limit or not self._in_time(now_s):
            return False
        self.wait_s = 0.0
        while self._fresh:
            self.target = self._fresh.pop(0)
            if self._affordable(self.target, now_s):
                return True
        if self._all_refused:
            return self._desperate(now_s) or self._again_soonest(now_s)
        return self._again_soonest(now_s)

    def _affordable(self, target: Target, now_s: float) -> bool:
        """Whether ``target``, not tried yet, may be asked: the budget is charged."""
        if self._calls == 0 or self._budget.withdraw(now_s):
            return True
        if not self._ledger.healthy(target):
            return False
        self._budget.take(now_s)
        return True

    def _again_soonest(self, now_s: float) -> bool:
        if not self._due:
            return False
        target, due_s = min(self._due.items(), key=lambda each: each[1])
        if not self._in_time(max(now_s, due_s)) or not self._budget.withdraw(now_s):
            return False
        del self._due[target]
        self.target, self.wait_s = target, max(0.0, due_s - now_s)
        return True

    @property
    def _all_refused(self) -> bool:
        """Whether every one of several targets was refused; one alone says itself when it will be back."""
        return 1 < len(self._targets) == len(self._refused) and self._calls == 0

    def _desperate(self, now_s: float) -> bool:
        if not self._ejected or self._ctx.desperate or not self._budget.withdraw(now_s):
            return False
        self._ctx.desperate = True
        self.target = min(self._ejected, key=self._ejected.__getitem__)
        return True

    def _in_time(self, at_s: float) -> bool:
        """Whether an attempt that begins at ``at_s`` may end before the deadline."""
        deadline_s = self._ctx.deadline_s
        return deadline_s is None or at_s + LEAST_S <= deadline_s


def _sum_up(error: ServerError, targets: int) -> None:
    """Say in the last target's ``error`` that the others failed before it."""
    if targets > 1:
        error.message += f" None of the {targets} targets tried could answer; this was the last."
        error.args = (f"{error.kind}: {error.message}",)
