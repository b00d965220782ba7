"""The pace grows while there is room, halves when there is none, and never exceeds its ceiling."""

import asyncio
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_server.batching.offline.pace import LONGEST_PAUSE_S, Pace, Room


class Clock:
    """Seconds that pass when they are told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Iterator[Clock]:
    return Clock()


def pace_of(clock: Clock, ceiling: int = 8, chance: float = 1.0) -> Pace:
    return Pace(ceiling, clock, lambda: chance)


async def rounds(pace: Pace, count: int, room: Room) -> None:
    """Let ``count`` rounds of attempts end, each as large as there are places."""
    for _ in range(count):
        entered = [await pace.enter() for _ in range(pace.limit)]
        for at in entered:
            pace.leave(at, room)


async def test_it_begins_with_one_and_doubles_to_the_ceiling(clock: Clock) -> None:
    pace, seen = pace_of(clock), []
    for _ in range(5):
        seen.append(pace.limit)
        await rounds(pace, 1, Room.SPARE)
    assert seen == [1, 2, 4, 8, 8]


async def test_a_refusal_halves_it_once_for_all_that_were_under_way(clock: Clock) -> None:
    pace = pace_of(clock)
    await rounds(pace, 4, Room.SPARE)
    entered = [await pace.enter() for _ in range(8)]
    for at in entered:
        pace.leave(at, Room.NONE)
    assert pace.limit == 4
    clock.now += LONGEST_PAUSE_S
    await rounds(pace, 1, Room.SPARE)
    assert pace.limit == 4, "from the first refusal on it grows by one a round"
    await rounds(pace, 1, Room.SPARE)
    assert pace.limit in {5, 6}


async def test_having_waited_lowers_it_without_a_pause(clock: Clock) -> None:
    pace = pace_of(clock)
    await rounds(pace, 4, Room.SPARE)
    clock.now += 1
    pace.leave(await pace.enter(), Room.FULL)
    assert pace.limit == 4
    await asyncio.wait_for(pace.enter(), 5)


@pytest.mark.parametrize(("retry_after_s", "pause_s"), [(None, 1.0), (7.0, 7.0), (0.1, 1.0), (9999.0, 60.0)])
async def test_nothing_is_asked_while_it_pauses(
    clock: Clock, retry_after_s: float | None, pause_s: float
) -> None:
    pace = pace_of(clock)
    pace.leave(await pace.enter(), Room.NONE, retry_after_s)
    waiting = asyncio.create_task(pace.enter())
    clock.now += pause_s - 0.001
    pace._resume()
    await asyncio.sleep(0)
    assert not waiting.done()
    clock.now += 0.002
    pace._resume()
    assert await waiting == clock.now
    pace.leave(clock.now, None)
    pace.close()


async def test_pauses_double_to_a_bound_and_an_answer_ends_that(clock: Clock) -> None:
    pace, pauses = pace_of(clock), []
    for _ in range(9):
        clock.now += 1
        pace.leave(await pace.enter(), Room.NONE)
        pauses.append(pace._paused_until - clock.now)
        clock.now = pace._paused_until
    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    pace.leave(await pace.enter(), Room.SPARE)
    clock.now += 1
    pace.leave(await pace.enter(), Room.NONE)
    assert pace._paused_until - clock.now == 1


async def test_pauses_are_spread(clock: Clock) -> None:
    pace = pace_of(clock, chance=0.25)
    pace.leave(await pace.enter(), Room.NONE)
    assert pace._paused_until - clock.now == 0.25


async def test_the_end_of_a_pause_wakes_those_who_wait() -> None:
    pace = Pace(4, chance=lambda: 0.01)
    pace.leave(await pace.enter(), Room.NONE)
    at = await asyncio.wait_for(pace.enter(), 5)
    pace.leave(at, Room.SPARE)
    pace.close()


async def test_whoever_is_cancelled_while_waiting_takes_no_place(clock: Clock) -> None:
    pace = pace_of(clock)
    first = await pace.enter()
    waiting = [asyncio.create_task(pace.enter()) for _ in range(3)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    pace.leave(first, None)
    waiting[1].cancel()  # it was given the place, and has not yet run
    await asyncio.wait(waiting[:2])
    assert await asyncio.wait_for(waiting[2], 5) == clock.now
    assert pace.busy == 1


@given(
    ceiling=st.integers(1, 20),
    steps=st.lists(st.tuples(st.sampled_from([*Room, None]), st.integers(0, 3)), max_size=60),
)
async def test_it_stays_between_one_and_its_ceiling(
    ceiling: int, steps: list[tuple[Room | None, int]]
) -> None:
    clock = Clock()
    pace = pace_of(clock, ceiling)
    under_way: list[float] = []
    for room, passed in steps:
        clock.now += passed * LONGEST_PAUSE_S
        while pace._free():
            under_way.append(await pace.enter())
        if under_way:
            pace.leave(under_way.pop(0), room)
        assert 1 <= pace.limit <= ceiling
        assert pace.busy == len(under_way) <= ceiling
