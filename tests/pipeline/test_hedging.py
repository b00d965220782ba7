"""Hedged calls: whoever has content first answers, the other is closed; nothing is hedged without need."""

import asyncio
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_server.contract import (
    Answer,
    Call,
    ChatCall,
    Chunk,
    Context,
    ErrorKind,
    Events,
    Finish,
    FinishReason,
    Message,
    Role,
    ServerError,
    Started,
    Text,
    TextDelta,
    Usage,
)
from llm_server.pipeline import Routed
from llm_server.pipeline.percentile import ENOUGH
from llm_server.testing import FakeProvider, collect, outcome
from tests.pipeline.routes import MODEL, VirtualTime, routing

CALL = ChatCall(model=MODEL, stream=True, messages=(Message(Role.USER, (Text("hi"),)),))
END = Chunk((Finish(FinishReason.STOP), Usage(input_tokens=3, output_tokens=2)))
STARTED = Chunk((Started(id="1"), Usage(input_tokens=3)))
USUAL_S = 1.0
HEDGE = {"hedge": {"after_percentile": 0.9, "min_s": 0.2}}


class Slow(FakeProvider):
    """Answers in virtual time: each step is a time to wait and what comes then."""

    def __init__(self, name: str, time: VirtualTime) -> None:
        super().__init__(name)
        self.steps: list[tuple[float, Answer | ServerError]] = []
        self._time = time
        self.usual()

    def usual(self, first_s: float = USUAL_S) -> None:
        """Answer as usual, with the first content after ``first_s``."""
        said = Chunk((TextDelta(self.name),))
        self.steps = [(0.0, STARTED), (first_s, said), (0.1, said), (0.1, END)]

    async def __call__(self, call: Call, ctx: Context) -> Events:
        self.calls.append(call)
        self.open += 1
        self.asked.set()
        ctx.dropped.append(f"by {self.name}")
        try:
            for wait_s, step in tuple(self.steps):
                await self._time.sleep(wait_s)
                if isinstance(step, ServerError):
                    raise step
                yield step
        finally:
            self.open -= 1


def texts(answers: Iterable[Answer]) -> list[str]:
    return [e.text for a in answers if isinstance(a, Chunk) for e in a.events if isinstance(e, TextDelta)]


async def known(*names: str, **retry: object) -> tuple[Routed, VirtualTime, list[Slow]]:
    """Return a hedging route whose first target is known to take a second."""
    time = VirtualTime()
    providers = [Slow(name, time) for name in names]
    handler, _ = routing(providers, time, route=HEDGE, **retry)
    for _ in range(ENOUGH):
        await collect(handler(CALL, Context(request_id="r")))
    assert [len(provider.calls) for provider in providers] == [ENOUGH, *[0] * (len(names) - 1)]
    return handler, time, providers


async def test_nothing_is_hedged_before_it_is_known_what_is_slow_nor_while_it_is_not() -> None:
    handler, _, (a, b) = await known("a", "b")
    a.usual(0.9 * USUAL_S)
    await collect(handler(CALL, context := Context(request_id="r")))
    assert (len(context.attempts), b.calls) == (1, [])


async def test_the_next_target_wins_when_the_first_is_slow() -> None:
    handler, time, (a, b) = await known("a", "b")
    a.usual(60.0)
    began_s = time.now_s
    answers = await collect(handler(CALL, context := Context(request_id="r")))
    assert texts(answers) == ["b", "b"]
    assert time.now_s - began_s < 3 * USUAL_S
    assert [(t.provider, t.error, t.outrun) for t in context.attempts] == [
        ("a", ErrorKind.CLIENT_CLOSED, True),
        ("b", None, False),
    ]
    assert context.wasted == Usage(input_tokens=3) == context.attempts[0].wasted
    assert context.dropped == ["by b"]
    assert (a.open, b.open) == (0, 0)


async def test_who_has_lost_is_closed_before_the_winner_is_heard() -> None:
    handler, _, (a, b) = await known("a", "b")
    a.usual(60.0)
    answers = handler(CALL, Context(request_id="r"))
    await anext(answers)
    assert (a.open, b.open) == (0, 1)
    await answers.aclose()


async def test_the_first_may_win_all_the_same() -> None:
    handler, _, (a, b) = await known("a", "b")
    a.usual(1.5)
    answers = await collect(handler(CALL, context := Context(request_id="r")))
    assert texts(answers) == ["a", "a"]
    assert [(t.provider, t.outrun) for t in context.attempts] == [("b", True), ("a", False)]
    assert context.dropped == ["by a"]
    assert (len(b.calls), b.open) == (1, 0)


@pytest.mark.parametrize("slow_fails", [False, True])
async def test_a_failure_leaves_the_race_to_the_other(slow_fails: bool) -> None:
    handler, _, (a, b) = await known("a", "b")
    failure = (0.5, ServerError(ErrorKind.UPSTREAM_ERROR, "no"))
    a.usual(5.0)
    (a if slow_fails else b).steps = [*([(1.2, STARTED)] if slow_fails else []), failure]
    answers = await collect(handler(CALL, context := Context(request_id="r")))
    assert set(texts(answers)) == {"b" if slow_fails else "a"}
    assert [t.error for t in context.attempts] == [ErrorKind.UPSTREAM_ERROR, None]
    assert not any(t.outrun for t in context.attempts)


async def test_when_both_fail_the_third_is_asked() -> None:
    handler, _, (a, b, _) = await known("a", "b", "c")
    a.steps = [(3.0, ServerError(ErrorKind.UPSTREAM_ERROR, "no"))]
    b.steps = [(0.5, ServerError(ErrorKind.UPSTREAM_OVERLOADED, "no"))]
    answers = await collect(handler(CALL, context := Context(request_id="r")))
    assert texts(answers) == ["c", "c"]
    ends = [ErrorKind.UPSTREAM_OVERLOADED, ErrorKind.UPSTREAM_ERROR, None]
    assert [t.error for t in context.attempts] == ends
    assert not any(t.refused for t in context.attempts)


@pytest.mark.parametrize("both", [False, True])
async def test_a_hedge_that_is_refused_here_is_no_call(both: bool) -> None:
    handler, _, (a, b, _) = await known("a", "b", "c")
    refused = ServerError(ErrorKind.OVERLOADED, "full")
    a.steps = [(3.0, refused if both else ServerError(ErrorKind.UPSTREAM_ERROR, "no"))]
    b.steps = [(0.5, refused)]
    answers = await collect(handler(CALL, context := Context(request_id="r")))
    assert texts(answers) == ["c", "c"]
    assert [(t.provider, t.refused) for t in context.attempts] == [("b", True), ("a", both), ("c", False)]


async def test_a_failure_after_content_is_the_callers() -> None:
    handler, _, (a, b) = await known("a", "b")
    cut = ServerError(ErrorKind.UPSTREAM_TRUNCATED, "cut")
    a.usual(60.0)
    b.steps = [(0.1, Chunk((TextDelta("b"),))), (0.1, cut)]
    seen, error = await outcome(handler(CALL, context := Context(request_id="r")))
    assert (texts(seen), error) == (["b"], cut)
    assert context.attempts[-1].error is ErrorKind.UPSTREAM_TRUNCATED
    assert len(context.attempts) == 2


async def test_hedges_are_paid_for_from_the_budget() -> None:
    handler, _, (a, b) = await known("a", "b", budget_share=0.25, budget_floor_per_s=0)
    a.usual(2.0)
    b.usual(0.1)
    for _ in range(30):
        await collect(handler(CALL, Context(request_id="r")))
    assert 0 < len(b.calls) <= 0.25 * (30 + ENOUGH)


async def test_a_target_that_has_become_slow_is_known_to_be_so_although_it_loses() -> None:
    handler, time, (a, _) = await known("a", "b")
    a.usual(9.0)
    took_s = []
    for _ in range(40):
        began_s = time.now_s
        await collect(handler(CALL, Context(request_id="r")))
        took_s.append(time.now_s - began_s)
    assert took_s[-1] > took_s[0] + 0.5 * USUAL_S


async def test_nothing_is_hedged_when_there_is_no_time_left() -> None:
    handler, time, (a, b) = await known("a", "b")
    a.usual(1.1)
    await collect(handler(CALL, Context(request_id="r", deadline_s=time.now_s + 1.0)))
    assert b.calls == []


@given(st.integers(0, 5), st.sampled_from([0.1, 1.5, 60.0]))
async def test_leaving_a_race_closes_both(steps: int, first_s: float) -> None:
    handler, _, providers = await known("a", "b")
    providers[0].usual(first_s)
    answers = handler(CALL, Context(request_id="r"))
    for _ in range(steps):
        await anext(answers, None)
    await answers.aclose()
    assert [provider.open for provider in providers] == [0, 0]


async def test_a_cancel_in_a_race_closes_both() -> None:
    handler, _, (a, b) = await known("a", "b")
    a.usual(60.0)
    b.usual(60.0)
    task = asyncio.create_task(collect(handler(CALL, Context(request_id="r"))))
    await b.asked.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert (a.open, b.open, task.cancelled()) == (0, 0, True)


async def test_a_bug_in_a_race_is_raised() -> None:
    handler, _, (a, _) = await known("a", "b")
    a.steps = None  # type: ignore[assignment]  # stands for any bug in a provider
    with pytest.raises(TypeError):
        await collect(handler(CALL, Context(request_id="r")))
    assert a.open == 0
