"""Counts over a window that slides, and what is whose fault."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_server.contract import Block, ErrorKind
from llm_server.pool.health import CROWDED, FAILURES, SLICES, Health, is_failure

WINDOW_S = 30.0


@given(
    st.lists(st.tuples(st.booleans(), st.one_of(st.floats(0.0, 2.0), st.floats(2.0, 100.0))), max_size=200)
)
def test_the_window_forgets_what_is_older_and_nothing_younger(events: list[tuple[bool, float]]) -> None:
    health = Health(WINDOW_S)
    now_s = 5.0
    seen: list[tuple[float, bool]] = []
    for good, after_s in events:
        now_s += after_s
        if good:
            health.succeeded(now_s, 1.0)
        else:
            health.failed(now_s)
        seen.append((now_s, good))
        requests, failures = health.counts(now_s)
        slice_s = WINDOW_S / SLICES
        surely = [ok for at_s, ok in seen if at_s > now_s - WINDOW_S + slice_s + 1e-6]
        perhaps = [ok for at_s, ok in seen if at_s >= now_s - WINDOW_S - 1e-6]
        assert len(surely) <= requests <= len(perhaps)
        assert surely.count(False) <= failures <= perhaps.count(False)


def test_failures_in_a_row_end_with_a_success() -> None:
    health = Health(WINDOW_S)
    for _ in range(3):
        health.failed(1.0)
    assert health.consecutive_failures == 3
    health.succeeded(2.0, 1.0)
    assert health.consecutive_failures == 0
    assert health.counts(2.0) == (4, 3)


def test_times_are_smoothed_from_the_first_one() -> None:
    health = Health(WINDOW_S)
    health.succeeded(1.0, 4.0)
    health.began(2.0)
    assert (health.latency_s, health.first_byte_s) == (4.0, 2.0)
    health.succeeded(2.0, 12.0)
    health.began(10.0)
    assert (health.latency_s, health.first_byte_s) == (5.0, 3.0)


def test_a_window_can_be_forgotten_at_once() -> None:
    health = Health(WINDOW_S)
    health.failed(1.0)
    health.failed(10.0)
    health.forget()
    assert health.counts(10.0) == (0, 0)
    assert health.consecutive_failures == 2


@pytest.mark.parametrize("status", [500, 502, 503, 504, 529])
def test_statuses_that_are_the_upstreams_fault(status: int) -> None:
    assert is_failure(status)


@pytest.mark.parametrize("status", [200, 400, 401, 404, 429, 499, 501])
def test_statuses_that_are_not(status: int) -> None:
    assert not is_failure(status)


def test_only_an_upstream_is_blamed_and_never_for_keys_quotas_or_limits() -> None:
    assert {kind.block for kind in FAILURES | CROWDED} == {Block.UPSTREAM}
    spared = {kind for kind in ErrorKind if kind.block is Block.UPSTREAM} - FAILURES
    assert spared == {
        ErrorKind.OUTPUT_INVALID,
        ErrorKind.UPSTREAM_AUTH,
        ErrorKind.UPSTREAM_QUOTA,
        ErrorKind.UPSTREAM_RATE_LIMITED,
    }
