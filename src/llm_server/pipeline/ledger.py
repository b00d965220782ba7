"""What the requests of a process know of each other: budgets spent, and how targets have done lately."""

from collections import OrderedDict

from llm_server.contract import Route, Target
from llm_server.pipeline.budget import RetryBudget
from llm_server.pipeline.percentile import Recent

UNHEALTHY_AFTER = 3
"""Failures in a row after which a target gets no call that the budget does not pay for."""
REMEMBERED_TARGETS = 1024
"""Models come from callers, so there is a bound."""


class Ledger:
    """Retry budgets by account, failures in a row and times to the first content by target.

    Accounts are configured routes and providers, so there are as many as the configuration has.
    """

    def __init__(self) -> None:
        self._budgets: dict[str, RetryBudget] = {}
        self._failing: OrderedDict[Target, int] = OrderedDict()
        self._waits: OrderedDict[Target, Recent] = OrderedDict()

    def budget(self, route: Route) -> RetryBudget:
        """Return the budget that the requests of ``route`` share."""
        budget = self._budgets.get(route.account)
        if budget is None:
            policy = route.retry
            budget = RetryBudget(policy.budget_share, policy.budget_floor_per_s)
            self._budgets[route.account] = budget
        return budget

    def failed(self, target: Target) -> None:
        """Note that a call to ``target`` failed, and not by the caller's fault."""
        self._failing[target] = self._failing.pop(target, 0) + 1
        if len(self._failing) > REMEMBERED_TARGETS:
            self._failing.popitem(last=False)

    def succeeded(self, target: Target) -> None:
        """Note that ``target`` gave content."""
        if self._failing:
            self._failing.pop(target, None)

    def healthy(self, target: Target) -> bool:
        """Whether ``target`` has not failed several times in a row."""
        return self._failing.get(target, 0) < UNHEALTHY_AFTER

    def waits(self, target: Target) -> Recent:
        """Return how long ``target`` took to its first content lately."""
        waits = self._waits.get(target)
        if waits is None:
            waits = self._waits[target] = Recent()
            if len(self._waits) > REMEMBERED_TARGETS:
                self._waits.popitem(last=False)
        return waits
