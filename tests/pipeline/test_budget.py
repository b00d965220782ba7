"""The retry budget: a share of the requests, a floor, and nothing that is older than ten seconds."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_server.pipeline.budget import TTL_S, RetryBudget

STEPS = st.lists(
    st.tuples(st.sampled_from(["deposit", "withdraw", "take"]), st.floats(0, 3, allow_nan=False)),
    max_size=200,
)


@given(STEPS, st.floats(0, 1), st.floats(0, 20))
def test_what_is_withdrawn_in_any_ten_seconds_is_within_share_and_floor(
    steps: list[tuple[str, float]], share: float, floor_per_s: float
) -> None:
    budget, now_s = RetryBudget(share, floor_per_s), 1000.0
    deposits: list[float] = []
    withdrawals: list[float] = []
    for what, later_s in steps:
        now_s += later_s
        if what == "deposit":
            budget.deposit(now_s)
            deposits.append(now_s)
        elif what == "take":
            before = budget.balance(now_s)
            budget.take(now_s)
            assert budget.balance(now_s) >= min(0.0, before) - 1e-6, "taking leaves no debt"
        elif budget.withdraw(now_s):
            withdrawals.append(now_s)
        # A window more than the time of life: tokens die by whole windows.
        recent = [at for at in withdrawals if at > now_s - TTL_S + 1]
        paid = sum(at > now_s - 2 * TTL_S for at in deposits) * share
        assert len(recent) <= paid + 2 * floor_per_s * TTL_S + 1e-6


@given(st.integers(1, 2000), st.floats(0.01, 1))
def test_a_share_of_the_requests_is_allowed(requests: int, share: float) -> None:
    budget = RetryBudget(share, 0)
    for _ in range(requests):
        budget.deposit(5.0)
    allowed = 0
    while budget.withdraw(5.0):
        allowed += 1
    assert abs(allowed - requests * share) <= 1


def test_the_floor_is_there_without_any_request() -> None:
    budget = RetryBudget(0.2, 3)
    assert [budget.withdraw(1.0) for _ in range(31)] == [True] * 30 + [False]
    assert not budget.withdraw(5.0)
    assert budget.withdraw(1.0 + TTL_S + 1), "what was taken is forgotten too"


def test_old_deposits_are_worth_nothing() -> None:
    budget = RetryBudget(1, 0)
    budget.deposit(0.5)
    assert budget.balance(9.9) == pytest.approx(1)
    assert budget.balance(11) == pytest.approx(0)


def test_a_call_that_is_made_in_any_case_uses_up_what_there_is() -> None:
    budget = RetryBudget(0, 0.25)
    budget.take(1.0)
    budget.take(1.0)
    budget.take(1.0)
    assert budget.balance(1.0) == pytest.approx(0)
    assert not budget.withdraw(1.0)
