"""Slots and the queue in front of them."""

import asyncio

import pytest

from llm_server.contract import ErrorKind, ServerError
from llm_server.engine.scheduler import Scheduler


class Holder:
    """Takes a slot and keeps it until told to let go."""

    def __init__(self, scheduler: Scheduler, log: list[int], number: int) -> None:
        self.release = asyncio.Event()
        self.task = asyncio.create_task(self._hold(scheduler, log, number))

    async def _hold(self, scheduler: Scheduler, log: list[int], number: int) -> None:
        async with scheduler.slot():
            log.append(number)
            await self.release.wait()


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_slots_first_then_the_queue_in_order() -> None:
    scheduler, log = Scheduler(slots=2, queue=2), list[int]()
    holders = [Holder(scheduler, log, number) for number in range(4)]
    await settle()
    assert (log, scheduler.active, scheduler.waiting) == ([0, 1], 2, 2)
    holders[1].release.set()
    await settle()
    assert (log, scheduler.active, scheduler.waiting) == ([0, 1, 2], 2, 1)
    for holder in holders:
        holder.release.set()
    await asyncio.gather(*(holder.task for holder in holders))
    assert (log, scheduler.active, scheduler.waiting) == ([0, 1, 2, 3], 0, 0)


async def test_a_full_queue_says_when_to_come_back() -> None:
    scheduler, log = Scheduler(slots=1, queue=0), list[int]()
    holder = Holder(scheduler, log, 0)
    await settle()
    with pytest.raises(ServerError) as caught:
        scheduler.expect(1)
    assert caught.value.kind is ErrorKind.OVERLOADED
    assert caught.value.retry_after_s is not None
    assert caught.value.retry_after_s >= 1
    holder.release.set()
    await holder.task
    scheduler.expect(1)


async def test_many_at_once_are_admitted_together_or_not_at_all() -> None:
    scheduler = Scheduler(slots=2, queue=1)
    scheduler.expect(3)
    with pytest.raises(ServerError) as caught:
        scheduler.expect(4)
    assert caught.value.kind is ErrorKind.TOO_LARGE


async def test_leaving_the_queue_gives_up_the_place() -> None:
    scheduler, log = Scheduler(slots=1, queue=2), list[int]()
    holders = [Holder(scheduler, log, number) for number in range(3)]
    await settle()
    holders[1].task.cancel()
    await settle()
    assert scheduler.waiting == 1
    holders[0].release.set()
    holders[2].release.set()
    await holders[2].task
    assert (log, scheduler.active) == ([0, 2], 0)


@pytest.mark.parametrize("cancel_first", [True, False])
async def test_a_slot_handed_to_one_who_leaves_is_not_lost(cancel_first: bool) -> None:
    scheduler, log = Scheduler(slots=1, queue=1), list[int]()
    first, second = Holder(scheduler, log, 0), Holder(scheduler, log, 1)
    await settle()
    if cancel_first:
        second.task.cancel()
    first.release.set()
    await first.task  # the slot is handed over now, if anybody is there
    second.task.cancel()
    await asyncio.gather(second.task, return_exceptions=True)
    assert (scheduler.active, scheduler.waiting) == (0, 0)
    async with asyncio.timeout(5), scheduler.slot():
        assert scheduler.active == 1


async def test_draining_waits_for_what_runs_and_takes_nothing_new() -> None:
    scheduler, log = Scheduler(slots=1, queue=1), list[int]()
    holder = Holder(scheduler, log, 0)
    await settle()
    draining = asyncio.create_task(scheduler.drain(60))
    await settle()
    assert not draining.done()
    with pytest.raises(ServerError) as caught:
        scheduler.expect(1)
    assert caught.value.kind is ErrorKind.UNAVAILABLE
    holder.release.set()
    await draining
    assert scheduler.active == 0


async def test_draining_gives_up() -> None:
    scheduler, log = Scheduler(slots=1, queue=1), list[int]()
    holder = Holder(scheduler, log, 0)
    await settle()
    await scheduler.drain(0)
    assert scheduler.active == 1
    holder.task.cancel()
    await asyncio.gather(holder.task, return_exceptions=True)
