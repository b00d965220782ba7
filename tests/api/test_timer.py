"""One timer for many deadlines: it fires when it should, and is set as seldom as can be."""

import asyncio
import math
import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_server.api import timer
from llm_server.api.timer import LazyTimer


class Clock:
    """A loop and a clock that stand still until they are moved."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self.set: list[Any] = []
        self.count = 0

    def perf_counter(self) -> float:
        return self.now_s

    def call_later(self, delay_s: float, callback: Callable[[], None]) -> Any:
        handle = _Handle(self, self.now_s + delay_s, callback)
        self.set.append(handle)
        self.count += 1
        return handle

    def move(self, to_s: float) -> None:
        """Let time pass, and every timer ring when its time has come."""
        while self.set and (first := min(self.set, key=lambda each: each.at_s)).at_s <= to_s:
            self.set.remove(first)
            self.now_s = max(self.now_s, first.at_s)
            first.callback()
        self.now_s = max(self.now_s, to_s)


class _Handle:
    def __init__(self, clock: Clock, at_s: float, callback: Callable[[], None]) -> None:
        self.clock, self.at_s, self.callback = clock, at_s, callback

    def cancel(self) -> None:
        if self in self.clock.set:
            self.clock.set.remove(self)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(timer, "time", clock)
    return clock


@given(st.lists(st.tuples(st.floats(0, 50), st.one_of(st.floats(0, 100), st.just(math.inf))), max_size=20))
def test_it_fires_at_the_time_that_was_set_last(steps: list[tuple[float, float]]) -> None:
    """Against a plain model: the last time set before now, unless it has fired."""
    clock, fired, due = Clock(), [], math.inf
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(timer, "time", clock)
        lazy = LazyTimer(clock, lambda: fired.append(clock.now_s))  # type: ignore[arg-type]  # as much of a loop as is used
        expected = []
        for wait_s, delay_s in steps:
            until_s = clock.now_s + wait_s
            if due + 0.001 <= until_s:
                expected.append(due)
                due = math.inf
            clock.move(until_s)
            due = clock.now_s + delay_s
            lazy.set(due)
            assert len(clock.set) <= 1
        clock.move(1e6)
        expected += [due] if due < math.inf else []
    assert len(fired) == len(expected)
    assert all(0 <= at_s - due_s < 0.0021 for at_s, due_s in zip(fired, expected, strict=True))


def test_later_times_cost_no_timer(clock: Clock) -> None:
    lazy = LazyTimer(clock, lambda: pytest.fail("too early"))  # type: ignore[arg-type]  # as much of a loop as is used
    for _ in range(1000):
        lazy.set(clock.now_s + 75)
        lazy.set(clock.now_s + 600)
        clock.move(clock.now_s + 0.01)
    assert clock.count == 1


def test_a_cancelled_one_leaves_nothing(clock: Clock) -> None:
    lazy = LazyTimer(clock, lambda: pytest.fail("cancelled"))  # type: ignore[arg-type]  # as much of a loop as is used
    lazy.set(clock.now_s + 1)
    lazy.cancel()
    lazy.cancel()
    assert clock.set == []
    clock.move(clock.now_s + 10)


async def test_it_works_in_a_real_loop() -> None:
    fired = asyncio.Event()
    due_s = time.perf_counter() + 0.01
    lazy = LazyTimer(asyncio.get_running_loop(), fired.set)
    lazy.set(due_s + 100)
    lazy.set(due_s)
    await fired.wait()
    assert time.perf_counter() >= due_s
