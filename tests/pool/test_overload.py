"""More requests than an upstream can serve, in an open loop: who is served, who is refused, and how soon."""

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from llm_server.contract import Context, ErrorKind, Priority, ServerError
from llm_server.pool.gate import BRIEF_S, GRANTS, MARGIN, OVERTAKEN, Gate
from llm_server.pool.pool import UpstreamPool
from tests.pool.virtual import SimulatedUpstream, VirtualLoop, ask, context, pool_before, virtually

INTERACTIVE, DEFAULT, BATCH = Priority
USUAL = (0.2, 0.3, 0.5)
AT_ONCE_S = 0.01
"""What a refusal may take; one by the upstream takes as long in the simulation."""


@dataclass(frozen=True)
class Load:
    """An upstream of ``places`` that takes ``service_s``, and what comes: ``times`` its capacity.

    ``queue`` requests may wait at the upstream, the others are refused there; ``None`` for all. Of a stream
    the first tenth of the time is before its first byte. Requests come at random, each alone or, with
    ``lump_s``, all of so many seconds at once (a server that was stopped meanwhile). ``spread`` is the sigma
    of log-normal service times.
    """

    places: int
    service_s: float
    times: float = 3.0
    mixture: tuple[float, float, float] = USUAL
    queue: int | None = None
    streams: bool = False
    within_s: float | None = None
    lump_s: float = 0.0
    spread: float = 0.0
    seed: int = 1

    @property
    def capacity(self) -> float:
        """Requests a second that can be served."""
        return self.places / self.service_s


class Outcome(NamedTuple):
    """What became of a request: ``ok`` or the kind of the error."""

    priority: Priority
    what: str
    took_s: float


class Outcomes(list[Outcome]):
    """Those of a load, after its beginning, in which nothing is known of the upstream."""

    def served(self, priority: Priority | None = None, within_s: float = float("inf")) -> int:
        """Return how many were served in time."""
        chosen = [each for each in self if priority is None or each.priority is priority]
        return sum(1 for each in chosen if each.what == "ok" and each.took_s <= within_s)

    def share(self, priority: Priority) -> float:
        """Return the share of a class that was served."""
        return self.served(priority) / sum(1 for each in self if each.priority is priority)

    def refused_late(self) -> float:
        """Return the share of the refusals that did not come at once."""
        after_s = [each.took_s for each in self if each.what != "ok"]
        return sum(1 for each in after_s if each > 1.001 * AT_ONCE_S) / max(1, len(after_s))


async def _one(pool: UpstreamPool, loop: VirtualLoop, ctx: Context) -> Outcome:
    began_s = loop.time()
    try:
        status = await ask(pool, ctx)
        what = "ok" if status < 400 else str(status)
    except ServerError as error:
        what = error.kind.value
    return Outcome(ctx.priority, what, loop.time() - began_s)


def comes(load: Load, served: int) -> tuple[Outcomes, float]:
    """Return the outcomes while about so many were served, and the seconds that it took."""
    dice = random.Random(load.seed)

    def takes_s(share: float) -> Callable[[], float]:
        mean_s = share * load.service_s * 2.718281828 ** (-(load.spread**2) / 2)
        return lambda: mean_s * dice.lognormvariate(0, load.spread)

    up = SimulatedUpstream(load.places, takes_s(0.1), takes_s(0.9), load.queue, streams=load.streams)
    for_s, unknown_s = served / load.capacity, min(20 * load.service_s, served / load.capacity / 3)

    async def main(loop: VirtualLoop) -> Outcomes:
        pool = pool_before(up, loop)
        start_s = at_s = loop.time()
        tasks: list[tuple[float, asyncio.Task[Outcome]]] = []
        while at_s - start_s < unknown_s + for_s:
            at_s += dice.expovariate(load.times * load.capacity)
            lump_s = load.lump_s
            due_s = start_s + lump_s * (1 + (at_s - start_s) // lump_s) if lump_s else at_s
            if due_s > loop.time():
                await asyncio.sleep(due_s - loop.time())
            priority = dice.choices(list(Priority), load.mixture)[0]
            ctx = context(priority, None if load.within_s is None else loop.time() + load.within_s)
            tasks.append((at_s, asyncio.create_task(_one(pool, loop, ctx))))
        found = await asyncio.gather(*[task for _, task in tasks])
        await pool.close()
        assert pool.stats()["busy"] == pool.stats()["waiting"] == 0
        sent_s = [sent_s for sent_s, _ in tasks]
        return Outcomes(each for each, at_s in zip(found, sent_s, strict=True) if at_s - start_s >= unknown_s)

    return virtually(main), for_s


LOADS = [
    Load(20, 0.1, queue=40),  # that of benchmarks/overload.py
    Load(20, 0.1),
    Load(20, 0.1, queue=40, within_s=0.4),
    Load(20, 0.1, queue=0, times=2.0),
    Load(20, 0.1, queue=40, times=10.0, mixture=(0.05, 0.15, 0.8)),
    Load(20, 0.1, queue=40, mixture=(0.05, 0.05, 0.9)),
    Load(20, 0.1, queue=40, mixture=(0.3, 0.6, 0.1)),
    Load(20, 0.1, queue=40, lump_s=0.3),
    Load(100, 1.0, queue=20),
    Load(100, 1.0, streams=True, spread=0.5),
    Load(40, 4.0, queue=40, within_s=15.0),
    Load(40, 4.0, streams=True),
    Load(40, 4.0, streams=True, spread=0.5, seed=2),
]


@pytest.mark.parametrize("load", LOADS, ids=repr)
def test_an_overload_costs_the_urgent_nothing_and_the_upstream_little(load: Load) -> None:
    found, for_s = comes(load, served=3000)
    peak = load.capacity * for_s
    in_time_s = 2.0 if load.service_s < 1 else 5 * load.service_s
    assert found.share(INTERACTIVE) >= 0.99
    assert found.served(within_s=in_time_s) >= 0.9 * peak
    assert found.refused_late() <= 0.01


def test_what_the_urgent_leave_goes_to_the_next_class() -> None:
    """120 of 200 a second are interactive, 180 of the default class come."""
    found, for_s = comes(Load(20, 0.1, queue=40), served=4000)
    assert 70 < found.served(DEFAULT, within_s=2.0) / for_s < 85
    assert found.share(BATCH) < 0.02


def test_little_is_refused_late_also_where_all_are_whole_and_slow() -> None:
    """Cuts on trial make who waits wait longer: the worst case that was found."""
    found, for_s = comes(Load(40, 4.0, queue=40), served=4000)
    assert found.share(INTERACTIVE) >= 0.99
    assert found.served() >= 0.9 * 10 * for_s
    assert found.refused_late() <= 0.02


@pytest.mark.parametrize("times", [0.5, 0.8])
def test_below_the_capacity_nobody_is_refused(times: float) -> None:
    found, _ = comes(Load(20, 0.1, times, queue=40), served=2000)
    assert {each.what for each in found} == {"ok"}


@pytest.mark.parametrize("times", [1.0, 1.1, 1.5])
def test_near_the_capacity_nobody_waits_long(times: float) -> None:
    found, for_s = comes(Load(20, 0.1, times, queue=40), served=3000)
    assert found.served(within_s=1.5) >= 0.93 * 200 * for_s
    assert found.share(INTERACTIVE) > 0.99
    assert found.share(DEFAULT) > 0.95  # a cut on trial is felt
    assert found.share(BATCH) > 0.8 * (1 - 2 * (1 - 1 / times))


@settings(max_examples=8, phases=(Phase.explicit, Phase.reuse, Phase.generate))  # shrinking takes minutes
@given(
    places=st.integers(5, 60),
    service_s=st.sampled_from([0.05, 0.3, 2.0]),
    times=st.floats(1.5, 5.0),
    urgent=st.floats(0.05, 0.8),
    queue=st.none() | st.integers(0, 60),
    seed=st.integers(0, 1000),
)
def test_whatever_comes_the_upstream_is_busy_and_who_is_refused_is_told_at_once(
    places: int, service_s: float, times: float, urgent: float, queue: int | None, seed: int
) -> None:
    """``urgent`` is the share of the capacity that the most urgent class asks for.

    These loads are brief: a cut on trial, of which the first are blind, is a good part of them.
    """
    first = urgent / times
    mixture = (first, (1 - first) / 2, (1 - first) / 2)
    load = Load(places, service_s, times, mixture, queue, seed=seed)
    found, for_s = comes(load, served=1000)
    assert found.served() >= 0.7 * load.capacity * for_s
    assert found.share(INTERACTIVE) >= 0.85
    assert found.refused_late() <= 0.05


def test_a_burst_may_wait_as_long_as_it_is_patient() -> None:
    """100 at once for 10 places of 0.5 s each: the last wait 4.5 s."""
    up = SimulatedUpstream(10, lambda: 0.0, lambda: 0.5)
    found: list[Outcome] = []

    async def main(loop: VirtualLoop) -> None:
        pool = pool_before(up, loop, max_connections=10)
        for _ in range(10):
            await asyncio.gather(*[_one(pool, loop, context()) for _ in range(5)])
        found.extend(await asyncio.gather(*[_one(pool, loop, context()) for _ in range(100)]))
        await pool.close()

    virtually(main)
    assert {each.what for each in found} == {"ok"}
    assert max(each.took_s for each in found) == pytest.approx(5.0)


class AtTheDoor:
    """A gate of ten places, all taken for a second each, and how long one who comes may have to wait."""

    def __init__(self, loop: VirtualLoop) -> None:
        self.gate = Gate(10, 1000, 10.0, loop.time)
        self.gate.held_s = 1.0
        while self.gate.enter():
            pass
        self.tasks: list[asyncio.Task[float]] = []

    async def come(self, priority: Priority, count: int = 1) -> int:
        """Return how many of so many are let in."""
        new = [asyncio.create_task(self.gate.wait(priority)) for _ in range(count)]
        await asyncio.sleep(0)
        self.tasks += [task for task in new if not task.done()]
        refused = [task.exception() for task in new if task.done() and not task.cancelled()]
        assert all(isinstance(error, ServerError) and error.kind is ErrorKind.OVERLOADED for error in refused)
        return count - len(refused)

    async def go_on(self, *each: Priority) -> None:
        """Give places back one by one, while one of each class comes for every place, until that is known."""
        for _ in range(GRANTS * 4):
            for priority in each:
                await self.come(priority)
            self.gate.leave()
            await asyncio.sleep(0)

    async def clear(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        assert self.gate.waiting == 0
        self.gate.close()


def at_the_door(story: Callable[[AtTheDoor, VirtualLoop], object]) -> None:
    async def main(loop: VirtualLoop) -> None:
        door = AtTheDoor(loop)
        await story(door, loop)  # type: ignore[misc]  # a coroutine function
        await door.clear()

    virtually(main)


def test_the_queue_is_as_long_as_patience_while_nothing_is_known_against_it() -> None:
    async def story(door: AtTheDoor, _: VirtualLoop) -> None:
        assert await door.come(DEFAULT, 200) == MARGIN * 10.0 * 10  # ten places a second

    at_the_door(story)


def test_in_an_overload_nobody_is_let_in_to_wait_longer_than_a_place_is_held() -> None:
    async def story(door: AtTheDoor, _: VirtualLoop) -> None:
        await door.go_on(DEFAULT, DEFAULT)
        assert await door.come(DEFAULT, 200) == 1
        assert door.gate.by_class()[DEFAULT] == 10  # a second's places
        door.gate.held_s = BRIEF_S / 10
        assert await door.come(DEFAULT, 200) == BRIEF_S / door.gate.held_s * 10 - 10

    at_the_door(story)


def test_the_urgent_are_let_in_for_all_their_patience_while_only_others_are_too_many() -> None:
    async def story(door: AtTheDoor, _: VirtualLoop) -> None:
        await door.go_on(DEFAULT, DEFAULT)
        assert await door.come(INTERACTIVE, 200) == MARGIN * 10.0 * 10

    at_the_door(story)


def test_a_class_is_not_let_in_where_more_urgent_ones_take_all_places() -> None:
    async def story(door: AtTheDoor, _: VirtualLoop) -> None:
        await door.go_on(INTERACTIVE, INTERACTIVE, DEFAULT)
        assert door.gate.wait_estimate_s(DEFAULT) > OVERTAKEN * 10.0
        assert await door.come(DEFAULT) == 0
        assert await door.come(BATCH) == 0

    at_the_door(story)


def test_what_came_long_ago_is_forgotten() -> None:
    async def story(door: AtTheDoor, _: VirtualLoop) -> None:
        await door.go_on(INTERACTIVE, INTERACTIVE, DEFAULT)
        while door.gate.waiting:
            door.gate.leave()
        await asyncio.sleep(10.1)
        assert await door.come(DEFAULT, 200) == MARGIN * 10.0 * 10

    at_the_door(story)


def test_who_is_too_many_after_the_limit_fell_is_waited_for() -> None:
    async def story(door: AtTheDoor, _: VirtualLoop) -> None:
        assert door.gate.wait_estimate_s(DEFAULT) == pytest.approx(0.1)
        door.gate.allow(5)
        assert door.gate.wait_estimate_s(DEFAULT) == pytest.approx(6 * 0.2)

    at_the_door(story)


def test_time_is_set_aside_for_the_answer_but_no_more_than_half() -> None:
    async def story(door: AtTheDoor, loop: VirtualLoop) -> None:
        for within_s, waiting in ((4.0, 3.0), (1.5, 0.75)):
            allowed_s = door.gate._allowed_s(DEFAULT, loop.time(), loop.time() + within_s)
            assert allowed_s == pytest.approx(MARGIN * waiting)

    at_the_door(story)


def test_refusals_do_not_tell_how_long_a_place_is_held() -> None:
    """An upstream that refuses at once, and answers after 4 s."""
    up = SimulatedUpstream(4, lambda: 0.0, lambda: 4.0, queue=0)

    async def main(loop: VirtualLoop) -> None:
        pool = pool_before(up, loop)
        await asyncio.gather(*[_one(pool, loop, context()) for _ in range(40)])
        assert pool._admission.gate.held_s == pytest.approx(4.0)
        await pool.close()

    virtually(main)
