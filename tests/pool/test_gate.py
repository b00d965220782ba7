"""The gate: every rule of the queue at any moment of cancelling, and what it does to an overload."""

import asyncio
import random
from collections import OrderedDict
from collections.abc import Callable

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from llm_server.contract import ErrorKind, Priority, ServerError
from llm_server.pool.gate import SHARE, TIMER_STEP_S, Gate
from tests.pool.virtual import (
    SimulatedUpstream,
    Tally,
    VirtualLoop,
    context,
    pool_before,
    virtually,
)

INTERACTIVE, DEFAULT, BATCH = Priority
PRIORITIES = st.sampled_from(Priority)


def settle(loop: VirtualLoop) -> None:
    """Let everything happen that can happen now."""

    async def turns() -> None:
        for _ in range(5):
            await asyncio.sleep(0)

    loop.run_until_complete(turns())


class GateMachine(RuleBasedStateMachine):
    """A model of the queue beside the gate: who has a place, who waits, in which order they leave."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = VirtualLoop()
        self.gate = Gate(2, 4, 10.0, self.loop.time)
        self.inside = 0
        self.number = 0
        self.waiting: dict[Priority, OrderedDict[int, asyncio.Task[float]]] = {
            priority: OrderedDict() for priority in Priority
        }
        self.shed = dict.fromkeys(Priority, 0)

    def teardown(self) -> None:
        for queue in self.waiting.values():
            for task in queue.values():
                task.cancel()
        settle(self.loop)
        self.gate.close()
        self.loop.close()

    @rule(priority=PRIORITIES, deadline_s=st.none() | st.floats(0.5, 20.0))
    def ask(self, priority: Priority, deadline_s: float | None) -> None:
        if self.gate.enter():
            self.inside += 1
            return
        deadline_s = None if deadline_s is None else self.loop.time() + deadline_s
        lower = [each for each in reversed(Priority) if each > priority and self.waiting[each]]
        full = sum(map(len, self.waiting.values())) >= 4
        task = self.loop.create_task(self.gate.wait(priority, deadline_s))
        settle(self.loop)
        if full and not lower:
            assert self.kind(task) is ErrorKind.OVERLOADED
            self.shed[priority] += 1
            return
        if full:
            _, victim = self.waiting[lower[0]].popitem()
            assert self.kind(victim) is ErrorKind.OVERLOADED
            self.shed[lower[0]] += 1
        self.number += 1
        self.waiting[priority][self.number] = task
        self.note_places()

    @precondition(lambda self: self.inside)
    @rule()
    def leave(self) -> None:
        self.gate.leave()
        self.inside -= 1
        settle(self.loop)
        self.note_places()

    @precondition(lambda self: self.inside)
    @rule(data=st.data())
    def leave_and_cancel_the_next(self, data: st.DataObject) -> None:
        """Whoever gets the place is cancelled in the same turn of the loop, or somebody else is."""
        waiting = [task for queue in self.waiting.values() for task in queue.values()]
        self.gate.leave()
        self.inside -= 1
        if waiting:
            data.draw(st.sampled_from(waiting)).cancel()
        settle(self.loop)
        self.note_places()

    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        waiting = [task for queue in self.waiting.values() for task in queue.values()]
        if waiting:
            data.draw(st.sampled_from(waiting)).cancel()
            settle(self.loop)
            self.note_places()

    @rule(limit=st.integers(1, 5))
    def allow(self, limit: int) -> None:
        self.gate.allow(limit)
        settle(self.loop)
        self.note_places()

    @rule(by_s=st.floats(0.1, 12.0))
    def pass_time(self, by_s: float) -> None:
        self.loop.run_until_complete(asyncio.sleep(by_s))
        settle(self.loop)
        for priority, queue in self.waiting.items():
            for number, task in list(queue.items()):
                if task.done() and task.exception() is not None:
                    assert self.kind(task) in {ErrorKind.OVERLOADED, ErrorKind.DEADLINE}
                    self.shed[priority] += 1
                    del queue[number]

    def note_places(self) -> None:
        """Take over who got a place or was cancelled: in order of arrival within a class."""
        for queue in self.waiting.values():
            done = [number for number, task in queue.items() if task.done()]
            got = [number for number in done if not queue[number].cancelled()]
            still = [number for number in queue if number not in done]
            assert not got or not still or max(got) < min(still), "first come, first served"
            self.inside += len(got)
            for number in done:
                del queue[number]

    @staticmethod
    def kind(task: asyncio.Task[float]) -> ErrorKind:
        error = task.exception()
        assert isinstance(error, ServerError)
        return error.kind

    @invariant()
    def books_agree(self) -> None:
        assert self.gate.busy == self.inside
        assert self.gate.waiting == sum(map(len, self.waiting.values()))
        assert self.gate.by_class() == {priority: len(queue) for priority, queue in self.waiting.items()}
        assert self.gate.shed == list(self.shed.values())

    @invariant()
    def no_place_is_free_while_somebody_waits(self) -> None:
        assert not self.gate.waiting or self.gate.busy >= self.gate.limit

    @invariant()
    def the_queue_is_bounded(self) -> None:
        assert self.gate.waiting <= 4


GateTest = GateMachine.TestCase


def in_gate(main: Callable[[Gate, VirtualLoop], object], **config: float) -> None:
    """Run ``main`` with a gate of one place in virtual time."""

    async def run(loop: VirtualLoop) -> None:
        settings = {"limit": 1, "max_waiting": 8, "timeout_s": 10.0, **config}
        gate = Gate(int(settings["limit"]), int(settings["max_waiting"]), settings["timeout_s"], loop.time)
        await main(gate, loop)  # type: ignore[misc]  # a coroutine function
        gate.close()

    virtually(run)


def queued(gate: Gate, priority: Priority = DEFAULT, deadline_s: float | None = None) -> asyncio.Task[float]:
    return asyncio.get_running_loop().create_task(gate.wait(priority, deadline_s))


async def error_of(task: asyncio.Task[float]) -> ServerError:
    with pytest.raises(ServerError) as caught:
        await task
    return caught.value


def test_urgent_ones_go_first_and_first_come_first_served_within_a_class() -> None:
    async def main(gate: Gate, _: VirtualLoop) -> None:
        assert gate.enter()
        order: list[str] = []
        tasks = []
        for name, priority in (("b1", BATCH), ("d1", DEFAULT), ("i1", INTERACTIVE), ("d2", DEFAULT)):
            task = queued(gate, priority)
            task.add_done_callback(lambda _, name=name: (order.append(name), gate.leave()))
            tasks.append(task)
        await asyncio.sleep(0)
        gate.leave()
        await asyncio.gather(*tasks)
        assert order == ["i1", "d1", "d2", "b1"]

    in_gate(main)


def test_the_least_urgent_are_served_now_and_then() -> None:
    async def main(gate: Gate, _: VirtualLoop) -> None:
        assert gate.enter()
        patient = queued(gate, BATCH)
        served = 0
        while not patient.done():
            urgent = [queued(gate, INTERACTIVE) for _ in range(2)]
            await asyncio.sleep(0)
            for task in urgent:
                gate.leave()
                await asyncio.wait({task, patient}, return_when=asyncio.FIRST_COMPLETED)
                served += 1
            for task in urgent:
                task.cancel()
            assert served < 3 * SHARE
        assert served >= SHARE - 1

    in_gate(main)


def test_the_newest_of_the_least_urgent_makes_room() -> None:
    async def main(gate: Gate, _: VirtualLoop) -> None:
        assert gate.enter()
        old, new = queued(gate, BATCH), queued(gate, BATCH)
        middle = queued(gate, DEFAULT)
        await asyncio.sleep(0)
        urgent = queued(gate, INTERACTIVE)
        assert (await error_of(new)).kind is ErrorKind.OVERLOADED
        same = queued(gate, BATCH)
        assert (await error_of(same)).kind is ErrorKind.OVERLOADED
        assert not any(task.done() for task in (old, middle, urgent))
        assert gate.shed == [0, 0, 2]
        for task in (old, middle, urgent):
            task.cancel()

    in_gate(main, max_waiting=3)


def test_a_full_queue_refuses_at_once_and_says_when_to_come_back() -> None:
    async def main(gate: Gate, loop: VirtualLoop) -> None:
        assert gate.enter()
        gate.held_s = 2.0
        waiting = [queued(gate) for _ in range(2)]
        await asyncio.sleep(0)
        refused = gate.wait(DEFAULT)
        with pytest.raises(ServerError) as caught:
            refused.send(None)  # without one turn of the loop
        assert caught.value.kind is ErrorKind.OVERLOADED
        assert caught.value.retry_after_s == pytest.approx(6.0)
        assert loop.time() == 1000.0
        for task in waiting:
            task.cancel()

    in_gate(main, max_waiting=2)


def test_who_cannot_be_in_time_is_refused_at_once() -> None:
    async def main(gate: Gate, loop: VirtualLoop) -> None:
        assert gate.enter()
        gate.held_s = 4.0
        assert gate.wait_estimate_s(DEFAULT) == pytest.approx(4.0)
        hopeless = await error_of(queued(gate, DEFAULT, loop.time() + 3.0))
        assert hopeless.kind is ErrorKind.OVERLOADED
        assert loop.time() == 1000.0
        waiting = [queued(gate, BATCH) for _ in range(2)]
        await asyncio.sleep(0)
        assert (await error_of(queued(gate, BATCH))).kind is ErrorKind.OVERLOADED  # 12 s, and 10 are waited
        half = await error_of(queued(gate, INTERACTIVE, loop.time() + 8.9))  # 4 s, and then the answer's 4
        assert half.kind is ErrorKind.OVERLOADED
        urgent = queued(gate, INTERACTIVE, loop.time() + 10.0)
        await asyncio.sleep(0)
        assert not urgent.done()
        for task in (*waiting, urgent):
            task.cancel()

    in_gate(main)


def test_waiting_ends_with_the_timeout_or_the_callers_deadline() -> None:
    async def main(gate: Gate, loop: VirtualLoop) -> None:
        assert gate.enter()
        start_s = loop.time()
        patient, hasty = queued(gate), queued(gate, DEFAULT, start_s + 3.0)
        assert (await error_of(hasty)).kind is ErrorKind.DEADLINE
        assert loop.time() - start_s == pytest.approx(3.0, abs=2 * TIMER_STEP_S)
        late = await error_of(patient)
        assert (late.kind, late.retry_after_s) == (ErrorKind.OVERLOADED, 1.0)
        assert loop.time() - start_s == pytest.approx(10.0, abs=2 * TIMER_STEP_S)
        assert gate.waiting == 0
        gate.leave()
        assert gate.enter()

    in_gate(main)


def test_whose_time_is_over_gets_no_place_though_the_timer_was_late() -> None:
    async def main(gate: Gate, loop: VirtualLoop) -> None:
        assert gate.enter()
        hasty, patient = queued(gate, DEFAULT, loop.time() + 1.0), queued(gate)
        await asyncio.sleep(0)
        loop.now_s += 2.0  # a loop that was blocked
        gate.leave()
        assert (await error_of(hasty)).kind is ErrorKind.DEADLINE
        assert await patient == pytest.approx(2.0)
        gate.leave()

    in_gate(main)


def test_one_timer_serves_all_and_is_not_set_again_for_later_ones() -> None:
    async def main(gate: Gate, loop: VirtualLoop) -> None:
        assert gate.enter()
        tasks = [queued(gate) for _ in range(5)]
        await asyncio.sleep(0)
        timer = gate._timer
        assert timer is not None
        await asyncio.sleep(1.0)
        tasks.append(queued(gate))
        await asyncio.sleep(0)
        assert gate._timer is timer
        tasks.append(queued(gate, DEFAULT, loop.time() + 1.0))
        await asyncio.sleep(0)
        assert gate._timer is not timer
        assert timer.cancelled()
        for task in tasks:
            task.cancel()

    in_gate(main)


def test_everybody_can_be_sent_away() -> None:
    async def main(gate: Gate, _: VirtualLoop) -> None:
        assert gate.enter()
        tasks = [queued(gate, priority) for priority in Priority]
        await asyncio.sleep(0)
        gate.dismiss(lambda: ServerError(ErrorKind.UNAVAILABLE, "gone"))
        assert [(await error_of(task)).kind for task in tasks] == [ErrorKind.UNAVAILABLE] * 3
        assert (gate.waiting, gate.busy) == (0, 1)

    in_gate(main)


def test_no_work_is_done_for_callers_whose_time_is_over() -> None:
    """With deadlines, what is served in an overload is served in time."""
    up = SimulatedUpstream(10, lambda: 0.5, lambda: 0.5)
    late: list[float] = []
    tally = Tally()

    async def main(loop: VirtualLoop) -> None:
        pool = pool_before(up, loop, acquire_timeout_s=100, max_connections=10)
        dice = random.Random(4)
        tasks = []
        for _ in range(3000):
            ctx = context(deadline_s=loop.time() + 3.0)
            task = asyncio.create_task(tally.ask(pool, loop, ctx))
            task.add_done_callback(lambda _, ctx=ctx: late.append(loop.time() - (ctx.deadline_s or 0)))
            tasks.append(task)
            await asyncio.sleep(dice.expovariate(30.0))
        await asyncio.gather(*tasks)
        await pool.close()

    virtually(main)
    served = tally.outcomes[DEFAULT, "ok"]
    assert served == up.served == up.asked
    assert served > 0.9 * 10 * 100
    assert max(late) < 1.0  # who got a place before the deadline is let finish by this upstream


@pytest.mark.parametrize("left", range(1, 9))
def test_places_come_back_when_all_leave_in_one_turn(left: int) -> None:
    """A client that dies cancels those inside and those who wait at once."""
    loop = VirtualLoop()
    gate = Gate(4, 20, 10.0, loop.time)

    async def held() -> None:
        if not gate.enter():
            await gate.wait(DEFAULT)
        try:
            await asyncio.Event().wait()
        finally:
            gate.leave(1.0)

    async def story() -> None:
        tasks = [asyncio.create_task(held()) for _ in range(12)]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert (gate.busy, gate.waiting) == (4, 8)
        for task in [*tasks[:4], *tasks[4 : 4 + left]]:
            task.cancel()
        for _ in range(5):
            await asyncio.sleep(0)
        assert (gate.busy, gate.waiting) == (min(4, 8 - left), max(0, 4 - left))
        for task in tasks:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(each, asyncio.CancelledError) for each in results)
        assert (gate.busy, gate.waiting) == (0, 0)

    loop.run_until_complete(story())
    gate.close()
    loop.close()
