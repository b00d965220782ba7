"""Identical requests in flight: who shares, what each reads, who pays, and who may leave when."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_server.batching import Shared, SingleFlightConfig
from llm_server.batching.flight import AHEAD
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
    Priority,
    Role,
    Sampling,
    ServerError,
    Started,
    Text,
    TextDelta,
    Usage,
)
from llm_server.testing import FakeProvider, collect, outcome
from tests.batching.upstream import Heard, context, settle

USED = Usage(input_tokens=3, output_tokens=9)


def chat(text: str = "hi", **fields: Any) -> ChatCall:
    fields = {"sampling": Sampling(temperature=0.0), "stream": True, **fields}
    return ChatCall(model="m", messages=(Message(Role.USER, (Text(text),)),), **fields)


def told(length: int) -> list[Answer]:
    words = [Chunk((TextDelta(f"w{at} "),), b"data: %d\n\n" % at) for at in range(length)]
    return [Chunk((Started(id="1"),), b"start"), *words, Chunk((Finish(FinishReason.STOP), USED), b"end")]


class Stepwise(FakeProvider):
    """Says one step of its script whenever :meth:`step` is called, and remembers who asked."""

    def __init__(self, script: Callable[[Call], Sequence[Answer | ServerError]]) -> None:
        super().__init__(script=script)
        self.steps = asyncio.Semaphore(0)
        self.contexts: list[Context] = []
        self.given = 0
        self.cut = 0

    async def __call__(self, call: Call, ctx: Context) -> Events:
        self.calls.append(call)
        self.contexts.append(ctx)
        self.open += 1
        try:
            for answer in self.script(call):
                await self.steps.acquire()
                if ctx.attempt is not None:
                    ctx.attempt.dialect, ctx.attempt.first_byte_s = "theirs", 2.0
                if isinstance(answer, ServerError):
                    raise answer.at(self.name)
                self.given += 1
                yield answer
            if ctx.attempt is not None:
                ctx.attempt.ended_s = 4.0
        except (asyncio.CancelledError, GeneratorExit):
            self.cut += 1
            raise
        finally:
            self.open -= 1

    async def step(self, times: int = 1) -> None:
        for _ in range(times):
            self.steps.release()
        await settle(8 * times + 20)


class Table:
    """A provider whose calls are shared, and requests to it."""

    def __init__(self, length: int = 5, *, failure: ServerError | None = None, **config: Any) -> None:
        self.whole = told(length)
        said = [*self.whole[: length // 2], failure] if failure else self.whole
        self.up, self.heard = Stepwise(lambda _: said), Heard()
        self.shared = Shared(self.up, SingleFlightConfig.model_validate(config), self.heard)
        self.tasks: list[asyncio.Task[Any]] = []

    def send(self, call: Call | None = None, ctx: Context | None = None) -> "asyncio.Task[Any]":
        task = asyncio.create_task(outcome(self.shared(call or chat(), ctx or context())))
        self.tasks.append(task)
        return task

    async def end(self) -> None:
        await self.up.step(2 * len(self.whole) * (len(self.tasks) + 1))
        await asyncio.gather(*self.tasks, return_exceptions=True)
        self.nothing_is_left()

    def nothing_is_left(self) -> None:
        assert (self.shared._flights, self.shared._tasks, self.up.open) == ({}, set(), 0)


@pytest.fixture
async def table() -> AsyncIterator[Table]:
    made = Table()
    yield made
    await made.end()


async def test_one_alone_is_given_its_answer(table: Table) -> None:
    ctx = context()
    task = table.send(ctx=ctx)
    await table.end()
    assert task.result() == (table.whole, None)
    assert (len(table.up.calls), table.heard.joined, ctx.shared) == (1, 0, False)


@pytest.mark.parametrize("before", range(9))
async def test_whoever_joins_reads_the_same_from_the_beginning(table: Table, before: int) -> None:
    first = table.send()
    await table.up.step(before)
    second = table.send()
    await table.end()
    assert first.result() == second.result() == (table.whole, None)
    assert (len(table.up.calls), table.heard.joined) == ((1, 1) if before < 7 else (2, 0))


async def test_what_has_ended_is_not_remembered(table: Table) -> None:
    table.send()
    await table.end()
    table.send()
    await table.end()
    assert (len(table.up.calls), table.heard.joined) == (2, 0)


async def test_a_joiner_is_given_what_was_said_at_once(table: Table) -> None:
    table.send()
    await table.up.step(3)
    answers = table.shared(chat(), context())
    assert [await anext(answers) for _ in range(3)] == table.whole[:3]
    await answers.aclose()


@pytest.mark.parametrize("leaves", [0, 1, 2])
@pytest.mark.parametrize("after", range(6))
async def test_one_leaves_and_the_others_go_on(table: Table, leaves: int, after: int) -> None:
    contexts = [context() for _ in range(3)]
    tasks = [table.send(ctx=ctx) for ctx in contexts]
    await settle()
    await table.up.step(after)
    tasks[leaves].cancel()
    await settle()
    assert table.up.cut == 0
    await table.end()
    stayed = [at for at in range(3) if at != leaves]
    assert [tasks[at].result() for at in stayed] == [(table.whole, None)] * 2
    assert len(table.up.calls) == 1
    assert sorted(contexts[at].shared for at in stayed) == [False, True]
    assert contexts[leaves].shared


@pytest.mark.parametrize("after", range(6))
async def test_when_all_leave_the_call_is_cancelled_and_not_joined(table: Table, after: int) -> None:
    contexts = [context(), context()]
    tasks = [table.send(ctx=ctx) for ctx in contexts]
    await settle()
    await table.up.step(after)
    for task in tasks:
        task.cancel()
        await settle()
    assert table.up.cut == 1
    table.nothing_is_left()
    assert [ctx.shared for ctx in contexts] == [True, False]
    again = table.send()
    await table.end()
    assert again.result() == (table.whole, None)
    assert len(table.up.calls) == 2


async def test_a_call_that_is_being_cancelled_is_not_joined(table: Table) -> None:
    answers = table.shared(chat(), context())
    reading = asyncio.create_task(anext(answers))
    await table.up.step()
    await reading
    stepping = asyncio.create_task(table.up.step(20))
    await answers.aclose()  # and in the same turn of the loop, before the call could end:
    assert await outcome(table.shared(chat(), context())) == (table.whole, None)
    await stepping


async def test_leaving_before_the_call_has_begun(table: Table) -> None:
    answers = table.shared(chat(), context())
    first = asyncio.create_task(anext(answers, None))
    await settle(1)
    first.cancel()
    await settle()
    assert table.up.given == 0
    table.nothing_is_left()


async def test_one_of_them_pays(table: Table) -> None:
    contexts = [context() for _ in range(4)]
    for ctx in contexts:
        table.send(ctx=ctx)
    await table.end()
    assert sorted(ctx.shared for ctx in contexts) == [False, True, True, True]


async def test_a_slow_first_leaves_paying_to_who_ends_first(table: Table) -> None:
    slow, fast = context(), context()
    answers = table.shared(chat(), slow)
    reading = asyncio.create_task(anext(answers))
    await table.up.step()
    assert await reading == table.whole[0]
    table.send(ctx=fast)
    await table.end()
    assert not fast.shared
    await answers.aclose()
    assert slow.shared


@pytest.mark.parametrize("kind", list(ErrorKind))
async def test_a_failure_is_each_ones_own(kind: ErrorKind) -> None:
    table = Table(failure=ServerError(kind, "no", retry_after_s=2.0))
    contexts = [context(), context()]
    first, second = (table.send(ctx=ctx) for ctx in contexts)
    await table.end()
    for task in (first, second):
        answers, error = task.result()
        assert answers == table.whole[:2]
        assert (error.kind, error.message, error.retry_after_s, error.provider) == (kind, "no", 2.0, "fake")
    assert first.result()[1] is not second.result()[1]
    assert sorted(ctx.shared for ctx in contexts) == [False, True]


async def test_a_bug_is_an_internal_error_of_each(caplog: pytest.LogCaptureFixture) -> None:
    def broken(call: Call) -> Sequence[Answer]:
        raise ZeroDivisionError

    table = Table()
    table.up.script = broken
    tasks = [table.send(), table.send()]
    await table.end()
    assert [task.result()[1].kind for task in tasks] == [ErrorKind.INTERNAL] * 2
    assert len(caplog.records) == 1


async def test_closing_tells_those_who_read(table: Table) -> None:
    tasks = [table.send(), table.send()]
    await table.up.step(2)
    await table.shared.close()
    await settle()
    assert [task.result()[1].kind for task in tasks] == [ErrorKind.UNAVAILABLE] * 2
    assert table.up.cut == 1


async def test_notes_are_each_ones_own(table: Table) -> None:
    first, second = context(deadline_s=1.0, priority=Priority.BATCH), context(deadline_s=2.0)
    table.send(ctx=first)
    await settle()
    table.send(ctx=second)
    (made,) = table.up.contexts
    made.estimated.append("usage")
    await table.up.step()
    assert (made.deadline_s, made.priority) == (None, Priority.DEFAULT)  # the callers' own deadlines hold
    for ctx in (first, second):
        assert ctx.attempt is not None
        assert (ctx.attempt.dialect, ctx.attempt.first_byte_s, ctx.attempt.ended_s) == ("theirs", 2.0, None)
    made.dropped.append("seed")
    await table.end()
    assert [(ctx.estimated, ctx.dropped) for ctx in (first, second)] == [(["usage"], ["seed"])] * 2
    assert [ctx.attempt and ctx.attempt.ended_s for ctx in (first, second)] == [4.0] * 2
    assert made.attempt is not first.attempt


async def test_a_late_joiners_times_begin_with_itself(table: Table) -> None:
    table.send()
    await table.up.step(3)
    late = context()
    assert late.attempt is not None
    late.attempt.started_s = 3.0
    table.send(ctx=late)
    await table.end()
    assert (late.attempt.started_s, late.attempt.first_byte_s, late.attempt.ended_s) == (3.0, 3.0, 4.0)


async def test_the_upstream_is_read_at_the_pace_of_the_fastest() -> None:
    table = Table(length=5 * AHEAD)
    slow, fast = table.shared(chat(), context()), table.shared(chat(), context())
    reading = asyncio.create_task(anext(slow))
    await table.up.step()
    await reading
    await table.up.step(3 * AHEAD)
    assert table.up.given <= AHEAD + 2
    for _ in range(2 * AHEAD):
        await anext(fast)
    await settle()
    assert 2 * AHEAD < table.up.given <= 3 * AHEAD + 2
    table.tasks.append(asyncio.create_task(outcome(slow)))  # nothing that it missed is gone
    table.tasks.append(asyncio.create_task(outcome(fast)))
    await table.end()
    assert table.tasks[0].result() == (table.whole[1:], None)
    assert table.tasks[1].result() == (table.whole[2 * AHEAD :], None)


async def test_a_long_stream_is_joined_no_more_and_waits_for_the_slowest() -> None:
    table = Table(length=400, max_chunks=100)
    slow = table.shared(chat(), context())
    reading = asyncio.create_task(anext(slow))
    await settle()
    fast = table.send()
    await table.up.step(402)
    await reading
    assert table.up.given <= 102  # the slowest has taken one
    for _ in range(100):
        await anext(slow)
    await settle(500)
    assert 200 <= table.up.given <= 202
    another = table.send()
    await settle()
    assert len(table.up.calls) == 2
    assert not fast.done()
    await slow.aclose()  # whoever leaves holds nobody up
    await table.up.step(402)
    assert fast.result() == (table.whole, None)
    await table.end()
    assert another.result() == (table.whole, None)


@settings(max_examples=40)
@given(
    st.lists(
        st.tuples(st.sampled_from(["step", "join", "read", "leave"]), st.integers(0, 5)),
        min_size=5,
        max_size=80,
    )
)
def test_in_any_order_each_reads_a_beginning_of_the_whole(moves: list[tuple[str, int]]) -> None:
    asyncio.run(played(moves))


async def played(moves: list[tuple[str, int]]) -> None:
    table = Table(length=150, max_chunks=64)
    readers: list[Events] = []
    reading: dict[int, asyncio.Task[Any]] = {}
    seen: dict[int, list[Answer]] = {}
    for move, at in moves:
        if move == "step":
            await table.up.step(at * 8)
        elif move == "join":
            seen[len(readers)] = []
            readers.append(table.shared(chat(), context()))
        elif readers:
            number = at % len(readers)
            if move == "read" and number not in reading:
                reading[number] = asyncio.create_task(read(readers[number], seen[number], at * 9 + 1))
            elif move == "leave" and number in reading:
                reading.pop(number).cancel()
            await settle(at)
    for task in reading.values():  # whoever is in the middle of a step leaves, the others read on
        task.cancel()
    await asyncio.gather(*reading.values(), return_exceptions=True)
    for number, answers in enumerate(readers):
        table.tasks.append(asyncio.create_task(read(answers, seen[number], 1000)))
    await table.end()
    for got in seen.values():
        assert got == table.whole[: len(got)]


async def read(answers: Events, seen: list[Answer], most: int) -> None:
    while len(seen) < most:
        try:
            seen.append(await anext(answers))
        except StopAsyncIteration:
            return


async def test_disabled_it_shares_nothing() -> None:
    table = Table(enabled=False)
    table.send()
    table.send()
    await table.end()
    assert len(table.up.calls) == 2


async def test_calls_that_differ_are_two(table: Table) -> None:
    table.send(chat("a"))
    table.send(chat("b"))
    table.send(chat("a"), context(tenant="another"))
    await settle()
    assert len(table.up.calls) == 3


async def test_whole_answers_are_shared_too() -> None:
    fake = FakeProvider()
    fake.gate = asyncio.Event()
    shared = Shared(fake, SingleFlightConfig(), Heard())
    tasks = [asyncio.create_task(collect(shared(chat(stream=False), context()))) for _ in range(3)]
    await settle()
    fake.gate.set()
    one, two, three = await asyncio.gather(*tasks)
    assert one == two == three
    assert len(fake.calls) == 1
