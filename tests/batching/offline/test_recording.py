"""Finished lines are kept in groups, and nobody is told so before they are."""

import asyncio
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_server.batching.offline.recording import MAX_GROUP, MAX_GROUP_BYTES, Recording
from llm_server.contract import LineResult


def line(number: int, size: int = 2) -> LineResult:
    return LineResult(number=number, outcome="completed", data=b"x" * size)


class Keeper:
    """Keeps groups when it is let."""

    def __init__(self) -> None:
        self.groups: list[list[int]] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.fails: Exception | None = None

    async def __call__(self, results: Sequence[LineResult]) -> None:
        await self.gate.wait()
        if self.fails is not None:
            raise self.fails
        self.groups.append([each.number for each in results])


async def test_a_line_alone_is_written_at_once() -> None:
    keeper = Keeper()
    recording = Recording(keeper)
    for number in range(3):
        await recording.record(line(number))
    assert keeper.groups == [[0], [1], [2]]


async def test_what_gathers_while_a_group_is_written_is_the_next_group() -> None:
    keeper = Keeper()
    keeper.gate.clear()
    recording = Recording(keeper)
    waiting = [asyncio.create_task(recording.record(line(number))) for number in range(5)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not any(task.done() for task in waiting)
    keeper.gate.set()
    await asyncio.gather(*waiting)
    assert sorted(number for group in keeper.groups for number in group) == list(range(5))
    assert len(keeper.groups) <= 2


@given(
    sizes=st.lists(
        st.sampled_from([1, MAX_GROUP_BYTES // 3, MAX_GROUP_BYTES, MAX_GROUP_BYTES + 1]), max_size=8
    )
)
async def test_groups_are_bounded_and_in_order(sizes: list[int]) -> None:
    seen: list[list[LineResult]] = []

    async def keep(results: Sequence[LineResult]) -> None:
        seen.append(list(results))

    recording = Recording(keep)
    lines = [line(number, size) for number, size in enumerate(sizes)]
    await asyncio.gather(*(recording.record(each) for each in lines))
    assert [each.number for group in seen for each in group] == list(range(len(sizes)))
    for group in seen:
        assert len(group) == 1 or sum(len(each.data) for each in group) <= MAX_GROUP_BYTES


async def test_a_group_has_a_largest_number_of_lines() -> None:
    keeper = Keeper()
    recording = Recording(keeper)
    await asyncio.gather(*(recording.record(line(number)) for number in range(2 * MAX_GROUP + 1)))
    assert max(map(len, keeper.groups)) <= MAX_GROUP


async def test_everybody_of_a_group_that_could_not_be_kept_is_told() -> None:
    keeper = Keeper()
    keeper.fails = RuntimeError("disk")
    recording = Recording(keeper)
    told = await asyncio.gather(*(recording.record(line(n)) for n in range(3)), return_exceptions=True)
    assert told == [keeper.fails] * 3
    keeper.fails = None
    await recording.record(line(9))
    assert keeper.groups == [[9]]


async def test_whoever_leaves_has_its_line_kept_all_the_same() -> None:
    keeper = Keeper()
    keeper.gate.clear()
    recording = Recording(keeper)
    leaving = asyncio.create_task(recording.record(line(1)))
    await asyncio.sleep(0)
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    flushing = asyncio.create_task(recording.flush())
    await asyncio.sleep(0)
    assert not flushing.done()
    keeper.gate.set()
    await flushing
    assert keeper.groups == [[1]]


async def test_flushing_nothing_returns_at_once() -> None:
    await Recording(Keeper()).flush()
