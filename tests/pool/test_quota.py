"""Quotas: what headers hold back, for whom and how long; no call is wasted."""

import asyncio
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_server.contract import Attempt, Context, ErrorKind, ServerError
from llm_server.pool.config import PoolConfig
from llm_server.pool.pool import UpstreamPool
from llm_server.pool.quota import MAX_HOLD_S, MAX_HOLDS, SLICE, Allowance, Quota, QuotaRules
from tests.pool.virtual import SimulatedUpstream, VirtualLoop, ask, context, virtually


def seconds(text: str) -> float:
    return float(text or 0)


def told(headers: Mapping[str, str]) -> float | None:
    return float(headers["retry-after"]) if "retry-after" in headers else None


STEADY = Allowance(name="requests", remaining="left", reset="full-in", until=seconds)
WINDOW = Allowance(
    name="tokens",
    remaining="left-tokens",
    reset="ends-in",
    until=seconds,
    refills=False,
)
RULES = QuotaRules(allowances=(STEADY, WINDOW), retry_after_s=told)


@pytest.mark.parametrize(
    ("status", "headers", "wait_s"),
    [
        (200, {}, 0.0),
        (200, {"left": "3", "full-in": "60"}, 0.0),
        (200, {"left": "0", "full-in": "60"}, 60 * SLICE),
        (200, {"left": "0"}, 0.0),
        (200, {"left-tokens": "0", "ends-in": "20"}, 20.0),
        (200, {"left": "0", "full-in": "60", "left-tokens": "0", "ends-in": "20"}, 20.0),
        (200, {"retry-after": "7"}, 0.0),
        (429, {"retry-after": "7"}, 7.0),
        (503, {"retry-after": "7"}, 7.0),
        (529, {"retry-after": "7"}, 7.0),
        (429, {"retry-after": "0"}, 0.0),
        (429, {"retry-after": "7", "left-tokens": "0", "ends-in": "20"}, 7.0),
        (429, {"left-tokens": "0", "ends-in": "20"}, 20.0),
        (429, {}, 0.0),
        (400, {"retry-after": "7"}, 0.0),
        (429, {"retry-after": "86400"}, MAX_HOLD_S),
    ],
)
def test_what_headers_hold_back(status: int, headers: dict[str, str], wait_s: float) -> None:
    quota = Quota(RULES)
    quota.read(status, headers, "m", 100.0)
    assert quota.wait_s("m", 100.0) == pytest.approx(wait_s)
    assert quota.wait_s("other", 100.0) == 0.0
    assert quota.wait_s("m", 100.0 + MAX_HOLD_S) == 0.0
    assert not quota.held


def test_a_hold_is_for_all_models_where_limits_are() -> None:
    quota = Quota(QuotaRules(retry_after_s=told, by_model=False))
    quota.read(429, {"retry-after": "7"}, "m", 100.0)
    assert quota.wait_s("other", 101.0) == 6.0


def test_a_later_answer_never_shortens_a_hold() -> None:
    quota = Quota(RULES)
    quota.read(429, {"retry-after": "9"}, "m", 100.0)
    quota.read(429, {"retry-after": "2"}, "m", 101.0)
    assert quota.wait_s("m", 101.0) == 8.0


@given(st.lists(st.tuples(st.text(max_size=5), st.floats(0.1, 50.0)), max_size=50))
def test_holds_end(events: list[tuple[str, float]]) -> None:
    quota = Quota(RULES)
    now_s = 100.0
    for model, after_s in events:
        now_s += after_s
        quota.read(429, {"retry-after": "5"}, model, now_s)
        assert quota.wait_s(model, now_s) == pytest.approx(5.0)
    assert quota.wait_s("x", now_s + 6.0) == 0.0
    assert quota.held == {}


def test_no_more_models_are_remembered_than_the_bound() -> None:
    quota = Quota(RULES)
    for number in range(2 * MAX_HOLDS):
        quota.read(429, {"retry-after": "5"}, f"made-up-{number}", 100.0)
    assert len(quota.held) == MAX_HOLDS
    quota.read(429, {"retry-after": "9"}, "made-up-0", 101.0)
    assert quota.wait_s("made-up-0", 101.0) == 9.0


def test_the_latest_word_on_each_limit_is_reported() -> None:
    quota = Quota(RULES)
    assert quota.report(100.0) == ()
    quota.read(200, {"left": "17", "full-in": "3", "left-tokens": "9" * 100}, "m", 100.0)
    quota.read(200, {"content-type": "text/plain"}, "m", 101.0)
    requests, tokens = quota.report(102.0)
    assert (requests.name, requests.remaining, requests.reset_s, requests.age_s) == ("requests", "17", 3, 2)
    assert (tokens.name, len(tokens.remaining)) == ("tokens", 32)


def pool_for(up: SimulatedUpstream, loop: VirtualLoop, **config: object) -> UpstreamPool:
    return UpstreamPool("http://sim", up, PoolConfig.model_validate(config), RULES, now=loop.time)


async def refused(pool: UpstreamPool, ctx: Context) -> ServerError:
    with pytest.raises(ServerError) as caught:
        await ask(pool, ctx)
    return caught.value


def test_a_short_hold_is_waited_for_and_noted_as_waiting() -> None:
    up = SimulatedUpstream(10, headers={"retry-after": "3"}, fails=lambda: 429)

    async def main(loop: VirtualLoop) -> None:
        pool = pool_for(up, loop)
        assert await ask(pool, context()) == 429
        up.fails = lambda: None
        began_s, ctx = loop.time(), context()
        task = asyncio.create_task(ask(pool, ctx))
        await asyncio.sleep(1.0)
        assert up.asked == 1
        assert pool.stats()["waiting_default"] == 1
        assert pool.report().held == {"m": pytest.approx(2.0)}
        assert await task == 200
        assert loop.time() - began_s == pytest.approx(7.0)
        assert ctx.attempts[0].queued_s == pytest.approx(3.0)
        assert pool.stats()["waiting"] == 0
        await pool.close()

    virtually(main)


def test_a_short_hold_is_not_waited_for_by_who_has_somewhere_else_to_go() -> None:
    up = SimulatedUpstream(10, headers={"retry-after": "3"}, fails=lambda: 429)

    async def main(loop: VirtualLoop) -> None:
        pool = pool_for(up, loop)
        assert await ask(pool, context()) == 429
        began_s, ctx = loop.time(), context()
        ctx.elsewhere = True
        error = await refused(pool, ctx)
        assert error.kind is ErrorKind.UPSTREAM_RATE_LIMITED
        assert (error.retry_after_s, error.status) == (pytest.approx(3.0), None)
        assert (loop.time(), up.asked) == (began_s, 1)
        assert pool.stats()["shed_default"] == 1
        await pool.close()

    virtually(main)


def test_a_long_hold_is_refused_at_once_with_its_time_and_without_a_call() -> None:
    up = SimulatedUpstream(10, headers={"retry-after": "30"}, fails=lambda: 429)

    async def main(loop: VirtualLoop) -> None:
        pool = pool_for(up, loop)
        assert await ask(pool, context()) == 429
        error = await refused(pool, context())
        assert error.kind is ErrorKind.UPSTREAM_RATE_LIMITED
        assert error.retry_after_s == pytest.approx(30.0)
        hurried = await refused(pool, context(deadline_s=loop.time() + 5.0))
        assert hurried.kind is ErrorKind.UPSTREAM_RATE_LIMITED
        assert up.asked == 1
        other = context()
        other.attempts[:] = [Attempt(provider="p", model="other")]
        up.fails = lambda: None
        assert await ask(pool, other) == 200
        await pool.close()

    virtually(main)


def test_not_more_wait_for_a_hold_than_may_wait() -> None:
    up = SimulatedUpstream(10, headers={"retry-after": "3"}, fails=lambda: 429)

    async def main(loop: VirtualLoop) -> None:
        pool = pool_for(up, loop, max_waiting=2)
        await ask(pool, context())
        up.fails = lambda: None
        tasks = [asyncio.create_task(ask(pool, context())) for _ in range(2)]
        await asyncio.sleep(0)
        assert (await refused(pool, context())).kind is ErrorKind.UPSTREAM_RATE_LIMITED
        tasks[0].cancel()
        assert await tasks[1] == 200
        assert pool.stats()["waiting"] == 0
        await pool.close()

    virtually(main)


def test_quotas_need_not_be_obeyed() -> None:
    up = SimulatedUpstream(10, headers={"retry-after": "30", "left": "0", "full-in": "60"}, fails=lambda: 429)

    async def main(loop: VirtualLoop) -> None:
        pool = pool_for(up, loop, obey_quotas=False)
        for _ in range(5):
            assert await ask(pool, context()) == 429
        assert pool.report().quotas == ()
        await pool.close()

    virtually(main)


def test_nothing_left_holds_the_next_back_before_a_refusal() -> None:
    up = SimulatedUpstream(10, lambda: 0.1, lambda: 0.1, headers={"left": "0", "full-in": "20"})

    async def main(loop: VirtualLoop) -> None:
        pool = pool_for(up, loop)
        began_s = loop.time()
        for _ in range(3):
            assert await ask(pool, context()) == 200
        assert loop.time() - began_s == pytest.approx(2 * 20 * SLICE + 0.2, abs=0.01)
        await pool.close()

    virtually(main)
