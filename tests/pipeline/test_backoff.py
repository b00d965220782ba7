"""Back-off: full jitter below a doubling bound, and a retry-after that is heeded or is too long."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_server.contract import ErrorKind, RetryPolicy
from llm_server.pipeline.backoff import THROTTLING, delay_s
from llm_server.pipeline.percentile import ENOUGH, EVERY, SIZE, Recent

POLICY = RetryPolicy()
CHANCE = st.floats(0, 1, exclude_max=True)
KINDS = st.sampled_from(ErrorKind)


@given(KINDS, st.integers(0, 10_000), CHANCE)
def test_it_lies_below_a_bound_that_doubles_up_to_the_cap(
    kind: ErrorKind, earlier: int, chance: float
) -> None:
    wait_s = delay_s(POLICY, kind, earlier, None, chance)
    base_s = POLICY.throttled_base_s if kind in THROTTLING else POLICY.transient_base_s
    bound_s = POLICY.max_delay_s if earlier > 20 else min(POLICY.max_delay_s, base_s * 2**earlier)
    assert wait_s == pytest.approx(chance * bound_s)


@given(KINDS, st.integers(0, 10), CHANCE, st.floats(0, 1000))
def test_a_retry_after_is_never_undercut(
    kind: ErrorKind, earlier: int, chance: float, retry_after_s: float
) -> None:
    own_s = delay_s(POLICY, kind, earlier, None, chance)
    assert own_s is not None
    wait_s = delay_s(POLICY, kind, earlier, retry_after_s, chance)
    if retry_after_s > own_s + POLICY.retry_after_slack_s:
        assert wait_s is None
    else:
        assert wait_s == max(own_s, retry_after_s)


def test_throttling_waits_longer_than_a_broken_connection() -> None:
    throttled = delay_s(POLICY, ErrorKind.UPSTREAM_RATE_LIMITED, 0, None, 0.9)
    broken = delay_s(POLICY, ErrorKind.UPSTREAM_UNREACHABLE, 0, None, 0.9)
    assert (throttled, broken) == (pytest.approx(0.9), pytest.approx(0.045))


@given(st.lists(st.floats(0, 100), min_size=ENOUGH, max_size=3 * SIZE), st.floats(0.01, 0.99))
def test_a_percentile_is_that_of_the_latest_values(values: list[float], share: float) -> None:
    recent = Recent()
    for value in values:
        recent.add(value)
    found = recent.percentile(share)
    assert found is not None
    kept = sorted(values[-SIZE:])
    assert sum(value < found for value in kept) <= share * len(kept)
    assert sum(value <= found for value in kept) >= min(len(kept), share * len(kept))


def test_few_values_say_nothing_and_later_ones_change_what_was_said() -> None:
    recent = Recent()
    for _ in range(ENOUGH - 1):
        recent.add(1.0)
    assert recent.percentile(0.5) is None
    recent.add(1.0)
    assert recent.percentile(0.5) == 1.0
    for _ in range(SIZE + EVERY):
        recent.add(2.0)
    assert recent.percentile(0.5) == 2.0
