"""Groups that fail, are left, or end with the server: who is told what."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from llm_server.batching import EmbeddingsConfig, Grouped
from llm_server.batching.group import OUTAGES
from llm_server.contract import (
    Call,
    Embeddings,
    ErrorKind,
    ServerError,
    Usage,
)
from llm_server.testing import FakeProvider, outcome
from tests.batching.grouped import LONG_MS, Bench, failed, given
from tests.batching.upstream import ByHand, Heard, ask, context, settle, vector_of


async def test_one_bad_text_fails_only_its_own_request(bench: Bench) -> None:
    texts = ["first", *(f"t{at}" for at in range(10)), "bad one", *(f"u{at}" for at in range(5))]
    tasks = [bench.send(text) for text in texts]
    await bench.end()
    for text, task in zip(texts, tasks, strict=True):
        if text == "bad one":
            error = failed(task)
            assert (error.kind, error.status) == (ErrorKind.INVALID_REQUEST, 400)
            assert error.message == "Refused: ('bad one',)."
        else:
            assert given(task).vectors == (vector_of(text),)
    assert len(bench.asked) <= 2 + 2 * 4
    assert sum((given(task).usage for task in tasks if not task.result()[1]), Usage()) == sum(
        bench.up.used, Usage()
    )
    assert bench.heard.waits == [(16, len(bench.asked) - 1)]


@pytest.mark.parametrize("kind", list(ErrorKind))
async def test_every_kind_of_failure_is_each_ones_own(bench: Bench, kind: ErrorKind) -> None:
    tasks = [bench.send(text) for text in ("first", "a", "b", "c")]
    await settle()
    bench.up.answer()
    await settle()
    told = ServerError(kind, "no", retry_after_s=3.0, detail="why")
    bench.up.answer(0, told)
    await settle()
    apart = len(bench.up.held) > 0
    while bench.up.held:
        for at in range(len(bench.up.held)):
            bench.up.answer(at, ServerError(kind, "no", retry_after_s=3.0, detail="why"))
        await settle()
    errors = [failed(task) for task in tasks[1:]]
    assert {(error.kind, error.message, error.retry_after_s, error.detail) for error in errors} == {
        (kind, "no", 3.0, "why")
    }
    assert {(error.provider, error.status, str(error)) for error in errors} == {("fake", 400, f"{kind}: no")}
    assert len({id(error) for error in [*errors, told]}) == 4
    # What another text could not have caused is not asked again.
    assert apart == (kind.value in {
        "invalid_request", "unsupported", "context_overflow", "content_rejected", "too_large",
        "upstream_error", "upstream_invalid",
    })  # fmt: skip
    halved = 2 if kind in OUTAGES else 4  # what fails for both halves is not one text's fault
    assert len(bench.asked) == (2 + halved if apart else 2)


async def test_a_text_that_brings_the_upstream_down_fails_alone(bench: Bench) -> None:
    texts = [f"t{at}" for at in range(8)]
    tasks = [bench.send(text) for text in ("first", *texts)]
    await settle()
    bench.up.answer()
    await settle()
    while bench.up.held:
        bad = "t5" in bench.asked[-len(bench.up.held)]
        bench.up.answer(0, ServerError(ErrorKind.UPSTREAM_ERROR, "no") if bad else None)
        await settle()
    assert failed(tasks[6]).kind is ErrorKind.UPSTREAM_ERROR
    rest = [task for at, task in enumerate(tasks) if at != 6]
    assert [given(task).vectors for task in rest[1:]] == [
        (vector_of(text),) for text in texts if text != "t5"
    ]
    assert len(bench.asked) == 2 + 2 * 3


async def test_a_bug_is_an_internal_error_of_each_and_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    def broken(call: Call) -> Sequence[Embeddings]:
        raise ZeroDivisionError

    gate = asyncio.Event()
    inner = FakeProvider(script=lambda _: [])
    inner.gate = gate
    grouped = Grouped(inner, EmbeddingsConfig(max_wait_ms=0), Heard())
    inner.script = lambda call: [Embeddings(vectors=((1.0,),))]
    first = asyncio.create_task(outcome(grouped(ask("a"), context())))
    await settle()
    inner.script = broken
    others = [asyncio.create_task(outcome(grouped(ask(text), context()))) for text in "bc"]
    await settle()
    errors = [failed(task) for task in others]
    gate.set()
    assert given(await settled(first)).vectors == ((1.0,),)
    assert [(error.kind, error.detail) for error in errors] == [
        (ErrorKind.INTERNAL, "ZeroDivisionError()")
    ] * 2
    assert len(caplog.records) == 1


async def settled(task: Any) -> Any:
    await asyncio.wait([task])
    return task


@pytest.mark.parametrize("vectors", [(), ((1.0,),), ((1.0,),) * 3])
async def test_another_number_of_vectors_is_nobodys_answer(vectors: Any) -> None:
    inner = FakeProvider(script=lambda call: [Embeddings(vectors=vectors)])
    inner.gate = asyncio.Event()
    grouped = Grouped(inner, EmbeddingsConfig(max_wait_ms=LONG_MS), Heard())
    tasks = [asyncio.create_task(outcome(grouped(ask(text), context()))) for text in "abc"]
    await settle()
    inner.gate.set()
    await settle()
    if len(vectors) == 1:  # each asked by itself after all
        assert [given(task).vectors for task in tasks[1:]] == [vectors] * 2
    else:
        assert [failed(task).kind for task in tasks[1:]] == [ErrorKind.UPSTREAM_INVALID] * 2


async def test_an_upstream_that_takes_fewer_is_noticed() -> None:
    bench = Bench(max_texts=8)
    bench.up.most = 4
    tasks = [bench.send(f"t{at}") for at in range(9)]
    await bench.up.answer_all()
    assert [len(texts) for texts in bench.asked] == [1, 8, 4, 4]
    tasks += [bench.send(f"u{at}") for at in range(9)]
    await bench.end()
    assert [len(texts) for texts in bench.asked[4:]] == [1, 4, 4]
    assert [given(task).vectors[0][0] for task in tasks] == [*[ord("t")] * 9, *[ord("u")] * 9]


async def test_a_failure_that_passes_teaches_nothing() -> None:
    bench = Bench(max_texts=4)
    tasks = [bench.send(f"t{at}") for at in range(5)]
    await settle()
    bench.up.answer(1, ServerError(ErrorKind.UPSTREAM_ERROR, "no"))
    await bench.up.answer_all()
    assert [len(texts) for texts in bench.asked] == [1, 4, 2, 2]
    assert [given(task).vectors for task in tasks] == [(vector_of(f"t{at}"),) for at in range(5)]
    assert bench.grouped._limits == {}
    await bench.end()


def test_each_group_waits_its_own_time() -> None:
    loop = ByHand()

    async def story() -> None:
        bench = Bench(max_wait_ms=10.0)
        bench.send("a")
        bench.send("b")
        await settle()
        loop.pass_time(0.005)
        bench.up.answer()
        await settle()
        assert bench.asked == [("a",), ("b",)]  # before its time was over
        bench.send("c")
        await settle()
        loop.pass_time(0.006)  # the time of the group that went already
        await settle()
        assert bench.asked[2:] == []
        loop.pass_time(0.005)
        await settle()
        assert bench.asked[2:] == [("c",)]
        await bench.end()

    try:
        loop.run_until_complete(story())
    finally:
        loop.close()


async def test_what_is_learned_of_models_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llm_server.batching.grouping.MAX_LIMITS", 2)
    bench = Bench()
    for model, texts in (("a", 8), ("b", 4), ("a", 6), ("c", 2)):
        bench.grouped._learn(model, texts)
    assert bench.grouped._limits == {"b": 4, "c": 2}


async def test_one_who_leaves_while_waiting_is_not_asked_for(bench: Bench) -> None:
    first, second, third = (bench.send(text) for text in "abc")
    await settle()
    second.cancel()
    await settle()
    await bench.end()
    assert second.cancelled()
    assert bench.asked == [("a",), ("c",)]
    assert (given(first).vectors, given(third).vectors) == ((vector_of("a"),), (vector_of("c"),))


async def test_all_who_leave_while_waiting_leave_nothing(bench: Bench) -> None:
    bench.send("a")
    for waiting in [bench.send("b"), bench.send("c")]:
        await settle()
        waiting.cancel()
    await bench.end()
    assert bench.asked == [("a",)]
    assert bench.heard.waits == []


async def test_one_who_leaves_a_group_cancels_nothing(bench: Bench) -> None:
    tasks = [bench.send(text) for text in "abc"]
    await settle()
    bench.up.answer()
    await settle()
    tasks[1].cancel()
    await settle()
    assert (bench.up.open, bench.up.left) == (1, 0)
    await bench.end()
    assert given(tasks[2]).vectors == (vector_of("c"),)


async def test_when_all_leave_a_group_its_call_is_cancelled(bench: Bench) -> None:
    tasks = [bench.send(text) for text in "abcd"]
    await settle()
    bench.up.answer()
    await settle()
    waiting = bench.send("e")
    await settle()
    for task in tasks[1:]:
        task.cancel()
    await settle()
    assert bench.up.left == 1
    assert bench.asked[-1] == ("e",)  # it was the next, and need not wait any longer
    await bench.end()
    assert given(waiting).vectors == (vector_of("e"),)


async def test_the_first_who_leaves_takes_only_its_own_call_along(bench: Bench) -> None:
    first, second = bench.send("a"), bench.send("b")
    await settle()
    first.cancel()
    await settle()
    assert bench.up.left == 1
    await bench.end()
    assert given(second).vectors == (vector_of("b"),)


async def test_those_who_left_are_not_asked_for_again(bench: Bench) -> None:
    tasks = [bench.send(text) for text in ("first", "a", "b", "c", "bad")]
    await settle()
    bench.up.answer()
    await settle()
    tasks[1].cancel()
    tasks[2].cancel()
    await bench.end()
    assert bench.asked[2:] == [("c", "bad"), ("c",), ("bad",)]
    assert failed(tasks[4]).message == "Refused: ('bad',)."


async def test_closing_ends_what_is_in_flight_and_what_waits() -> None:
    bench = Bench()
    tasks = [bench.send(text) for text in "abc"]
    await settle()
    bench.up.answer()
    await settle()
    tasks.append(bench.send("d"))
    await settle()
    await bench.grouped.close()
    await settle()
    assert [failed(task).kind for task in tasks[1:]] == [ErrorKind.UNAVAILABLE] * 3
    assert (bench.up.open, bench.up.left) == (0, 1)
    await bench.end()


async def test_closing_before_a_group_has_begun_tells_it_too() -> None:
    bench = Bench(max_texts=2)
    tasks = [bench.send(text) for text in "abc"]
    await settle(1)
    assert bench.asked == [("a",)]  # the group was formed in this turn, and has not had a single step
    for task in bench.grouped._tasks:
        task.cancel()
    await settle()
    assert [failed(task).kind for task in tasks[1:]] == [ErrorKind.UNAVAILABLE] * 2
    await bench.end()
