"""The adaptive limit: bounds whatever happens, and what it finds before simulated upstreams."""

import random
from collections.abc import Callable
from statistics import mean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_server.pool.limit import BUFFER, NEAR, NOISE_S, THROTTLED, TOLERANCE, WINDOW, AdaptiveLimit
from tests.pool.virtual import SimulatedUpstream, VirtualLoop, keep_asking, pool_before, virtually

PATIENT = {"max_waiting": 2000, "acquire_timeout_s": 1000}


def spread(usual_s: float, sigma: float, seed: int = 1) -> Callable[[], float]:
    """Return a source of log-normal times: with a sigma of 1, one in 20 takes five times the usual."""
    dice = random.Random(seed)
    return lambda: usual_s * dice.lognormvariate(0, sigma)


def limits(up: SimulatedUpstream, for_s: float = 600.0, clients: int = 300) -> list[int]:
    """Return the limit, second by second, before ``up`` with more clients than it can take."""

    async def main(loop: VirtualLoop) -> list[int]:
        pool = pool_before(up, loop, **PATIENT)
        found = await keep_asking(pool, loop, clients, for_s)
        await pool.close()
        return found

    return virtually(main)


def windows(
    limit: AdaptiveLimit, *times_s: float, busy: int | None = None, start_s: float = 0.0, held_s: float = 0.0
) -> None:
    """Feed one window of streams for each time, and those before it that are not looked at."""
    for at, took_s in enumerate(times_s):
        sent_s = start_s + 1000.0 * at
        for _ in range(WINDOW + limit._skip):
            limit.began(sent_s, sent_s + took_s, limit.limit if busy is None else busy, held_s)


@pytest.mark.parametrize("capacity", [10, 40, 150])
@pytest.mark.parametrize("sigma", [0.0, 0.5, 1.0])
def test_the_limit_comes_near_the_capacity_and_wastes_little_of_it(capacity: int, sigma: float) -> None:
    up = SimulatedUpstream(capacity, spread(0.5, sigma), spread(3.5, sigma))
    found = limits(up)[300:]
    assert capacity * 0.6 < mean(found) < capacity * 1.7
    assert max(found) <= capacity * 2.5
    exchange_s = 4.0 * mean(spread(1.0, sigma, seed=2)() for _ in range(10_000))
    assert up.served > 0.85 * capacity * 600 / exchange_s


def test_it_finds_the_capacity_where_all_time_is_before_the_first_byte() -> None:
    found = limits(SimulatedUpstream(40, spread(2.0, 0.5), lambda: 0.0))[300:]
    assert 30 < mean(found) < 70


@pytest.mark.parametrize("sigma", [0.0, 0.5, 1.0])
def test_a_slow_upstream_without_a_bound_has_all_that_is_configured(sigma: float) -> None:
    found = limits(SimulatedUpstream(100_000, spread(10.0, sigma), spread(5.0, sigma)), for_s=1500)
    assert min(found[20:]) > 30
    assert mean(found[1000:]) > 200


def test_wild_noise_does_not_walk_it_down() -> None:
    found = limits(SimulatedUpstream(100_000, spread(1.0, 1.5), spread(5.0, 0.5)))
    assert min(found) > 30
    assert mean(found[300:]) > 100


def test_latency_that_jumps_for_other_reasons_is_found_not_to_be_ours() -> None:
    up = SimulatedUpstream(100_000)
    slow, quick = spread(6.0, 0.5), spread(1.0, 0.5)

    def begins_s() -> float:
        return quick() if up.asked // 2000 % 2 else slow()

    up.begins_s = begins_s
    found = limits(up)
    assert min(found) > 30
    assert mean(found[300:]) > 128


def test_capacity_that_shrinks_and_grows_again_is_followed() -> None:
    up = SimulatedUpstream(80, spread(0.5, 0.3), spread(3.5, 0.3))

    async def main(loop: VirtualLoop) -> tuple[list[int], ...]:
        pool = pool_before(up, loop, **PATIENT)
        found = []
        for capacity in (80, 20, 80):
            up.capacity = capacity
            found.append((await keep_asking(pool, loop, 200, 500))[250:])
        await pool.close()
        return tuple(found)

    many, few, again = virtually(main)
    assert mean(few) < 40
    assert mean(many) > 60
    assert mean(again) > 55


@pytest.mark.parametrize("streams", [True, False])
def test_refusals_hold_it_at_what_is_taken(streams: bool) -> None:
    up = SimulatedUpstream(40, queue=0, streams=streams)
    found = limits(up)[60:]
    assert 20 < min(found) <= max(found) < 60
    assert up.served > 0.9 * up.asked
    assert up.served > 0.85 * 40 / 4 * 600


def test_few_requests_tell_nothing_and_change_nothing() -> None:
    up = SimulatedUpstream(1000, spread(0.5, 1.0))
    assert set(limits(up, clients=5)) == {64}


def test_it_grows_by_its_root_while_in_use_and_answers_begin_as_usual() -> None:
    limit = AdaptiveLimit(64, 4, 256)
    windows(limit, 1.0, busy=1)
    windows(limit, 1.0 * BUFFER, start_s=5000.0)
    assert limit.limit == 72
    windows(limit, 1.0, busy=10, start_s=10_000.0)
    assert limit.limit == 72


def test_most_of_a_cut_that_helps_stays_and_one_that_does_not_is_put_back() -> None:
    for after_s, kept in ((1.0, True), (9.0, False)):
        limit = AdaptiveLimit(100, 4, 256)
        windows(limit, 1.0, busy=1)
        windows(limit, 4.0, start_s=5000.0)
        assert limit.limit == 100
        windows(limit, 4.0, start_s=6000.0)
        assert limit.limit == 50
        windows(limit, after_s, start_s=7000.0)
        assert limit.limit == (50 if kept else 100)
        assert limit.usual_s == pytest.approx(1.0 if kept else 9.0)


def test_one_late_window_is_not_enough() -> None:
    limit = AdaptiveLimit(100, 4, 100)
    windows(limit, 1.0, busy=1)
    for at in range(20):
        windows(limit, 2 * TOLERANCE, 1.0, start_s=5000.0 * (at + 1))
    assert limit.limit == 100


def test_one_refusal_is_believed_of_those_that_were_under_way_together() -> None:
    limit = AdaptiveLimit(100, 4, 256)
    assert limit.refused(sent_s=1.0, now_s=2.0)
    assert limit.limit == 100 * THROTTLED
    assert not limit.refused(sent_s=1.5, now_s=2.5)
    assert limit.limit == 70
    assert limit.refused(sent_s=2.1, now_s=3.0)
    assert limit.limit == 49


def test_no_more_is_cut_than_waits() -> None:
    """Of 100 places, held for 10 s each, a first byte that is 2 s late keeps 20 from working."""
    limit = AdaptiveLimit(100, 4, 256)
    windows(limit, 1.0, busy=1)
    windows(limit, 3.0, 3.0, start_s=5000.0, held_s=10.0)
    assert limit.limit == 80
    windows(limit, 1.5, start_s=8000.0, held_s=8.0)  # a good half of what the cut should have saved
    assert (limit.limit, limit.usual_s) == (80, 1.0)
    windows(limit, 3.0, 3.0, start_s=9000.0, held_s=10.0)
    assert limit.limit == 64
    windows(limit, 2.1, start_s=12_000.0, held_s=10.0)
    assert (limit.limit, limit.usual_s) == (80, pytest.approx(2.1))


def test_what_is_late_by_less_than_noise_is_not_late() -> None:
    limit = AdaptiveLimit(100, 4, 100)
    windows(limit, 0.001, busy=1)
    windows(limit, *[NOISE_S] * 40, start_s=5000.0)
    assert limit.limit == 100
    windows(limit, *[2 * NOISE_S] * 2, start_s=100_000.0)
    assert limit.limit == 50


def test_after_a_cut_the_first_to_come_are_not_looked_at() -> None:
    """Of requests that set off together the quick ones come first."""
    limit = AdaptiveLimit(100, 4, 256)
    windows(limit, 1.0, busy=1)
    windows(limit, 4.0, 4.0, start_s=5000.0)
    assert limit.limit == 50
    for _ in range(limit.limit):
        assert not limit.began(8000.0, 8000.1, 50, 0.0)
    windows(limit, 4.0, start_s=8000.0)
    assert limit.limit == 100


def test_near_the_bound_where_it_was_refused_it_grows_slowly_and_falls_little() -> None:
    limit = AdaptiveLimit(64, 4, 256)
    windows(limit, 1.0, busy=1)
    assert limit.refused(6000.0, 6001.0)
    found = [limit.limit]
    while limit.limit < 64:
        windows(limit, 1.0, start_s=7000.0 + 1000 * len(found))
        found.append(limit.limit)
    assert found == [44, 50, 57, 58, 59, 60, 61, 62, 63, 64]
    limit.refused(90_000.0, 90_001.0)
    assert limit.limit == int(64 * NEAR)
    limit.refused(91_000.0, 91_001.0)
    assert limit.limit == int(int(64 * NEAR) * THROTTLED)


def test_a_bound_that_is_gone_is_forgotten() -> None:
    limit = AdaptiveLimit(50, 4, 256)
    windows(limit, 1.0, busy=1)
    limit.refused(6000.0, 6001.0)
    for at in range(25):
        windows(limit, 1.0, start_s=7000.0 + 1000 * at)
    assert limit.limit > 80


def test_whole_answers_are_looked_at_where_no_streams_come() -> None:
    limit = AdaptiveLimit(100, 4, 256)
    windows(limit, 1.0, busy=1)

    def whole(took_s: float, start_s: float, count: int) -> None:
        for _ in range(count):
            limit.succeeded(start_s, start_s + took_s, limit.limit, took_s)

    for at in range(20):  # each stream says that they are to be looked at
        whole(9.0, 3000.0, WINDOW - 1)
        limit.began(3000.0 + at, 3001.0 + at, 1, 9.0)
    assert limit.usual_s == 1.0
    whole(9.0, 4000.0, 2 * WINDOW)
    assert limit.usual_s == 9.0
    whole(9.0, 5000.0, WINDOW + 100)
    assert limit.limit == 60
    whole(5.0, 6000.0, WINDOW + 60)
    assert limit.limit == 36
    windows(limit, 1.0, busy=1, start_s=7000.0)  # another measure: the trial cannot be judged
    assert (limit.limit, limit.usual_s) == (60, 1.0)


@given(
    floor=st.integers(1, 50),
    initial=st.integers(1, 300),
    ceiling=st.integers(1, 300),
    events=st.lists(
        st.tuples(st.sampled_from("bsr"), st.floats(0.001, 100.0), st.integers(0, 300)), max_size=400
    ),
)
def test_it_never_leaves_its_bounds(
    floor: int, initial: int, ceiling: int, events: list[tuple[str, float, int]]
) -> None:
    limit = AdaptiveLimit(initial, floor, ceiling)
    now_s = 0.0
    for what, took_s, busy in events:
        before = limit.limit
        now_s += took_s
        for _ in range(1 if what == "r" else WINDOW):
            if what == "b":
                changed = limit.began(now_s - took_s, now_s, busy, took_s * 2)
            elif what == "s":
                changed = limit.succeeded(now_s - took_s, now_s, busy, took_s)
            else:
                changed = limit.refused(now_s - took_s, now_s)
            assert changed == (limit.limit != before)
            before = limit.limit
        assert min(floor, ceiling) <= limit.limit <= ceiling
