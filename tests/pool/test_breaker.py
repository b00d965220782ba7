"""The breaker: what opens it, for how long, and what closes it."""

import asyncio
from collections.abc import AsyncGenerator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_server.contract import ErrorKind, ServerError
from llm_server.pool.breaker import JITTER, Breaker, BreakerState
from llm_server.pool.config import BreakerConfig
from llm_server.pool.health import Health
from llm_server.pool.pool import UpstreamPool
from tests.pool.virtual import SimulatedUpstream, VirtualLoop, ask, context, pool_before, virtually

CLOSED, OPEN, HALF_OPEN = BreakerState


def make(**config: object) -> tuple[Breaker, Health]:
    settings = BreakerConfig.model_validate(config)
    return Breaker(settings, draw=lambda: 0.5), Health(settings.window_s)


def fail(breaker: Breaker, health: Health, now_s: float, *, times: int = 1, probe: bool = False) -> bool:
    opened = False
    for _ in range(times):
        health.failed(now_s)
        opened = breaker.failed(now_s, health, probe=probe)
    return opened


def test_it_opens_on_failures_in_a_row_and_not_before() -> None:
    breaker, health = make()
    assert not fail(breaker, health, 1.0, times=4)
    health.succeeded(1.0, 0.1)
    assert not fail(breaker, health, 1.0, times=4)
    assert fail(breaker, health, 1.0)
    assert breaker.state(1.0) is OPEN
    assert breaker.state(5.9) is OPEN
    assert breaker.state(6.0) is HALF_OPEN


def test_it_opens_on_a_share_of_failures_of_enough_requests() -> None:
    breaker, health = make(consecutive_failures=1000)
    for at in range(2):
        health.succeeded(float(at), 0.1)
    assert not fail(breaker, health, 2.0, times=17)
    assert fail(breaker, health, 2.0)
    breaker, health = make(consecutive_failures=1000)
    for at in range(5):
        health.succeeded(float(at), 0.1)
    assert not fail(breaker, health, 5.0, times=28)
    assert fail(breaker, health, 5.0)  # 29 of 34


def test_failures_outside_the_window_do_not_count_for_the_share() -> None:
    breaker, health = make(consecutive_failures=1000)
    assert not fail(breaker, health, 1.0, times=19)
    assert not fail(breaker, health, 40.0)


def test_pauses_double_up_to_their_bound_while_probes_fail() -> None:
    breaker, health = make(open_s=5, max_open_s=60)
    fail(breaker, health, 0.0, times=5)
    now_s, pauses = 0.0, []
    for _ in range(7):
        pauses.append(breaker.until_s - now_s)
        now_s = breaker.until_s
        assert breaker.probe(now_s)
        assert fail(breaker, health, now_s, probe=True)
    assert pauses == pytest.approx([5, 10, 20, 40, 60, 60, 60])


def test_a_probe_that_succeeds_closes_and_the_first_failure_after_it_opens_again() -> None:
    breaker, health = make()
    fail(breaker, health, 0.0, times=5)
    assert breaker.probe(5.0)
    breaker.answered(6.0)
    assert breaker.state(6.0) is CLOSED
    health.consecutive_failures = 0
    assert fail(breaker, health, 7.0)
    assert breaker.until_s == pytest.approx(17.0)  # where it was: the second pause


def test_after_a_whole_answer_the_usual_counts_hold_and_after_a_while_the_pause_is_short_again() -> None:
    breaker, health = make(window_s=30)
    fail(breaker, health, 0.0, times=5)
    assert breaker.probe(5.0)
    breaker.answered(5.0)
    health.succeeded(5.0, 0.1)
    breaker.suspect = False
    assert not fail(breaker, health, 6.0, times=4)
    assert fail(breaker, health, 40.0)
    assert breaker.until_s == pytest.approx(45.0)


def test_one_probe_at_a_time_but_a_lost_one_is_not_waited_for() -> None:
    breaker, health = make(open_s=5)
    fail(breaker, health, 0.0, times=5)
    assert not breaker.probe(4.0)
    assert breaker.probe(5.0)
    assert not breaker.probe(6.0)
    assert breaker.retry_after_s(6.0) == 1.0
    breaker.unprobed()
    assert breaker.probe(6.0)
    assert breaker.probe(11.0)


def test_late_failures_of_others_do_not_prolong_the_pause() -> None:
    breaker, health = make()
    fail(breaker, health, 0.0, times=5)
    until_s = breaker.until_s
    assert not fail(breaker, health, 1.0, times=100)
    assert breaker.until_s == until_s


def test_it_can_be_turned_off() -> None:
    breaker, health = make(enabled=False)
    assert not fail(breaker, health, 1.0, times=100)
    assert breaker.closed


@given(draw=st.floats(0, 1, exclude_max=True), times=st.integers(1, 1000))
def test_jitter_stays_within_its_share_and_pauses_are_bounded(draw: float, times: int) -> None:
    breaker, health = Breaker(BreakerConfig(), draw=lambda: draw), Health(30.0)
    fail(breaker, health, 0.0, times=5)
    now_s = 0.0
    for _ in range(times):
        now_s = breaker.until_s
        breaker.probe(now_s)
        fail(breaker, health, now_s, probe=True)
    config = BreakerConfig()
    assert (1 - JITTER) * config.open_s <= breaker.until_s - now_s <= (1 + JITTER) * config.max_open_s


async def failure(pool: UpstreamPool, *, desperate: bool = False) -> ServerError:
    with pytest.raises(ServerError) as caught:
        await ask(pool, context(desperate=desperate))
    return caught.value


def test_an_open_breaker_refuses_without_a_call_and_says_when_to_come_back() -> None:
    up = SimulatedUpstream(10, fails=lambda: ErrorKind.UPSTREAM_UNREACHABLE)

    async def main(loop: VirtualLoop) -> None:
        pool = pool_before(up, loop)
        for _ in range(5):
            assert (await failure(pool)).kind is ErrorKind.UPSTREAM_UNREACHABLE
        refused = await failure(pool)
        assert refused.kind is ErrorKind.UNAVAILABLE
        assert refused.retry_after_s is not None
        assert 4.0 <= refused.retry_after_s <= 6.0
        assert up.asked == 5
        report = pool.report()
        assert (report.breaker, report.consecutive_failures) == ("open", 5)
        assert report.open_for_s == refused.retry_after_s
        assert pool.stats()["ejected"] == 1

        await asyncio.sleep(refused.retry_after_s)
        assert pool.report().breaker == "half_open"
        assert (await failure(pool)).kind is ErrorKind.UPSTREAM_UNREACHABLE  # the probe
        assert (await failure(pool)).kind is ErrorKind.UNAVAILABLE
        assert up.asked == 6
        await asyncio.sleep(13.0)
        up.fails = lambda: None
        assert await ask(pool) == 200
        assert pool.report().breaker == "closed"
        await pool.close()

    virtually(main)


def test_the_desperate_are_let_through_and_their_success_closes() -> None:
    up = SimulatedUpstream(10, fails=lambda: 503)

    async def main(loop: VirtualLoop) -> None:
        pool = pool_before(up, loop)
        for _ in range(5):
            assert await ask(pool) == 503
        until_s = pool.report().open_for_s
        for _ in range(20):
            assert await ask(pool, context(desperate=True)) == 503
        assert until_s - 1 < pool.report().open_for_s <= until_s  # their failures do not prolong it
        assert (await failure(pool)).kind is ErrorKind.UNAVAILABLE
        up.fails = lambda: None
        assert await ask(pool, context(desperate=True)) == 200
        assert await ask(pool) == 200
        await pool.close()

    virtually(main)


def test_who_waits_when_it_opens_is_sent_away_at_once() -> None:
    up = SimulatedUpstream(1)

    async def main(loop: VirtualLoop) -> None:
        pool = pool_before(up, loop, max_connections=5)
        kinds = iter([ErrorKind.UPSTREAM_TRUNCATED] * 5)

        async def broken() -> AsyncGenerator[bytes, None]:
            await asyncio.sleep(1.0)
            yield b"first"
            raise ServerError(next(kinds), "cut")

        up.body = broken  # type: ignore[method-assign]  # breaks after its headers
        inside = [asyncio.create_task(failure(pool)) for _ in range(5)]
        await asyncio.sleep(0)
        outside = [asyncio.create_task(failure(pool)) for _ in range(3)]
        began_s = loop.time()
        assert {error.kind for error in await asyncio.gather(*outside)} == {ErrorKind.UNAVAILABLE}
        assert loop.time() - began_s == pytest.approx(1.0)
        assert {error.kind for error in await asyncio.gather(*inside)} == {ErrorKind.UPSTREAM_TRUNCATED}
        assert up.asked == 5
        assert pool.stats()["busy"] == 0
        await pool.close()

    virtually(main)


def test_a_probe_whose_caller_leaves_makes_way_for_another() -> None:
    up = SimulatedUpstream(10, fails=lambda: 500)

    async def main(loop: VirtualLoop) -> None:
        pool = pool_before(up, loop)
        for _ in range(5):
            await ask(pool)
        await asyncio.sleep(7.0)
        up.fails, up.streams = lambda: None, False
        probe = asyncio.create_task(ask(pool, context()))
        await asyncio.sleep(0.1)
        assert (await failure(pool)).kind is ErrorKind.UNAVAILABLE
        probe.cancel()
        await asyncio.wait([probe])
        assert await ask(pool, context()) == 200
        await pool.close()

    virtually(main)


def test_a_path_that_is_asked_meanwhile_closes_it_without_a_request_at_risk() -> None:
    up = SimulatedUpstream(10, lambda: 0.1, lambda: 0.1, fails=lambda: 500)

    async def main(loop: VirtualLoop) -> None:
        pool = pool_before(up, loop, breaker={"probe_path": "health", "open_s": 2})
        for _ in range(5):
            await ask(pool)
        asked = up.asked
        await asyncio.sleep(8.0)  # two probes fail
        assert up.asked == asked + 2
        assert (await failure(pool)).kind is ErrorKind.UNAVAILABLE
        up.fails = lambda: None
        await asyncio.sleep(10.0)
        assert up.asked == asked + 3
        assert pool.report().breaker == "closed"
        up.fails = lambda: ErrorKind.UPSTREAM_TIMEOUT
        await failure(pool)  # nothing was whole since: the first failure opens
        assert pool.report().breaker == "open"
        await pool.close()
        await asyncio.sleep(100.0)
        assert up.asked == asked + 4

    virtually(main)


@pytest.mark.parametrize("outcome", [400, 401, 404, 429, 501, ErrorKind.UPSTREAM_RATE_LIMITED])
def test_what_is_not_its_fault_never_opens_it(outcome: int | ErrorKind) -> None:
    up = SimulatedUpstream(10, fails=lambda: outcome)

    async def main(loop: VirtualLoop) -> None:
        pool = pool_before(up, loop)
        for _ in range(50):
            if isinstance(outcome, int):
                assert await ask(pool) == outcome
            else:
                assert (await failure(pool)).kind is outcome
        assert pool.report().breaker == "closed"
        await pool.close()

    virtually(main)


def test_a_deadline_that_was_too_short_is_not_its_fault() -> None:
    up = SimulatedUpstream(10, streams=False)

    async def main(loop: VirtualLoop) -> None:
        pool = pool_before(up, loop)

        async def late() -> None:
            await asyncio.sleep(1.0)
            raise ServerError(ErrorKind.UPSTREAM_TIMEOUT, "late")

        up.take = late  # type: ignore[method-assign]  # times out with the deadline
        for _ in range(20):
            with pytest.raises(ServerError):
                await ask(pool, context(deadline_s=loop.time() + 1.0))
        assert pool.report().breaker == "closed"
        for _ in range(5):
            assert (await failure(pool)).kind is ErrorKind.UPSTREAM_TIMEOUT
        assert pool.report().breaker == "open"
        await pool.close()

    virtually(main)
