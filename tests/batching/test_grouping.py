"""Embeddings in groups: what goes with what, when it goes, who pays what, and who fails."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from llm_server.batching import EmbeddingsConfig, Grouped
from llm_server.batching.grouping import key_of
from llm_server.contract import (
    Call,
    ChatCall,
    Context,
    CountCall,
    EmbedCall,
    Embeddings,
    ErrorKind,
    Message,
    Priority,
    Role,
    ServerError,
    Text,
    Usage,
)
from llm_server.testing import FakeProvider, collect, outcome
from tests.batching.upstream import ByHand, Gated, Heard, ask, context, settle, usage_of, vector_of

LONG_MS = 1000.0


class Bench:
    """A grouped upstream, and requests to it as tasks."""

    def __init__(self, **config: Any) -> None:
        self.up, self.heard = Gated(), Heard()
        wanted = EmbeddingsConfig.model_validate({"max_wait_ms": LONG_MS, **config})
        self.grouped = Grouped(self.up, wanted, self.heard)
        self.tasks: list[asyncio.Task[Any]] = []

    def send(self, *texts: str | tuple[int, ...], ctx: Context | None = None, **fields: Any) -> Any:
        answers = self.grouped(ask(*texts, **fields), ctx or context())
        task = asyncio.create_task(outcome(answers))
        self.tasks.append(task)
        return task

    @property
    def asked(self) -> list[tuple[str | tuple[int, ...], ...]]:
        """The texts of the calls that the upstream got."""
        return [call.inputs for call in self.up.calls if isinstance(call, EmbedCall)]

    async def end(self) -> None:
        """Answer everything."""
        await self.up.answer_all()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        assert self.grouped._lanes == {}
        assert self.grouped._tasks == set()


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    made = Bench()
    yield made
    await made.end()


def given(task: Any) -> Embeddings:
    (answer,), error = task.result()
    assert error is None
    assert isinstance(answer, Embeddings)
    return answer


def failed(task: Any) -> ServerError:
    answers, error = task.result()
    assert answers == []
    assert isinstance(error, ServerError)
    return error


async def test_one_alone_goes_at_once_and_as_it_is(bench: Bench) -> None:
    call = ask("a", raw=b'{"model": "x", "input": "a"}', dialect="served")
    task = asyncio.create_task(collect(bench.grouped(call, context())))
    await asyncio.sleep(0)  # its first step, and no more
    assert bench.up.calls == [call]
    assert bench.up.calls[0] is call
    await bench.up.answer_all()
    (answer,) = await task
    assert isinstance(answer, Embeddings)
    assert (answer.raw, answer.usage) == (call.raw, usage_of(["a"]))
    assert (bench.heard.texts, bench.heard.waits) == ([1], [])


async def test_what_comes_meanwhile_goes_as_one_when_the_first_returns(bench: Bench) -> None:
    tasks = [bench.send(text) for text in ("a", "b", "c", "d")]
    await settle()
    assert bench.asked == [("a",)]
    bench.up.answer()
    await settle()
    assert bench.asked == [("a",), ("b", "c", "d")]
    await bench.up.answer_all()
    assert [given(task).vectors for task in tasks] == [(vector_of(text),) for text in "abcd"]
    assert [given(task).model for task in tasks] == ["told"] * 4
    assert bench.heard.texts == [1, 3]
    assert bench.heard.waits == [(3, 1)]


async def test_a_full_group_does_not_wait() -> None:
    bench = Bench(max_texts=4)
    for text in ("first", "a", "b", "c", "d", "e"):
        bench.send(text)
    await settle()
    assert bench.asked == [("first",), ("a", "b", "c", "d")]
    await bench.end()
    assert bench.asked[2:] == [("e",)]


async def test_what_would_not_fit_goes_with_the_next() -> None:
    bench = Bench(max_texts=4)
    for texts in (("first",), ("a", "b"), ("c",), ("d", "e")):
        bench.send(*texts)
    await settle()
    assert bench.asked == [("first",), ("a", "b", "c")]
    await bench.end()
    assert bench.asked[2:] == [("d", "e")]


async def test_bytes_fill_a_group_too() -> None:
    bench = Bench(max_bytes=1024)
    for letter in "fabc":
        bench.send(letter * 500)
    await settle()
    assert [len(texts) for texts in bench.asked] == [1, 2]
    await bench.end()


@pytest.mark.parametrize("texts", [["x"] * 33, ["x" * 70_000, "x" * 70_000]])
async def test_a_large_request_goes_by_itself(bench: Bench, texts: list[str]) -> None:
    bench.send("a")
    task = bench.send(*texts)
    await settle()
    assert bench.asked == [("a",), tuple(texts)]
    await bench.end()
    assert given(task).vectors == tuple(map(vector_of, texts))
    assert bench.heard.waits == []


async def test_requests_of_several_texts_get_theirs(bench: Bench) -> None:
    texts = [("first",), ("a", "b"), ("c",), ("d", "e", "f")]
    tasks = [bench.send(*each) for each in texts]
    await bench.end()
    assert bench.asked[1] == tuple("abcdef")
    assert [given(task).vectors for task in tasks] == [tuple(map(vector_of, each)) for each in texts]


BODY = b'{"model": "alias", "input": "a", "user": "u", "encoding_format": "float", "truncate": "END"}'


@pytest.mark.parametrize(
    "fields",
    [
        {"model": "other"},
        {"dimensions": 8},
        {"base64": True},
        {"user": "u"},
        {"dialect": "another"},
        {"headers": (("x-beta", "1"),)},
        {"raw": BODY.replace(b"END", b"START")},
        {"raw": BODY.replace(b"truncate", b"task")},
    ],
)
async def test_what_differs_goes_apart(bench: Bench, fields: dict[str, Any]) -> None:
    bench.send("a", raw=BODY)
    bench.send("b", raw=BODY)
    bench.send("c", **{"raw": BODY, **fields})
    await settle()
    assert bench.asked == [("a",), ("c",)]
    await bench.end()
    assert bench.asked == [("a",), ("c",), ("b",)]


async def test_tenants_go_apart(bench: Bench) -> None:
    for tenant in ("one", "two"):
        bench.send("a", ctx=context(tenant=tenant))
    await settle()
    assert bench.asked == [("a",), ("a",)]


async def test_texts_and_token_ids_go_apart(bench: Bench) -> None:
    bench.send("a")
    bench.send((1, 2))
    await settle()
    assert bench.asked == [("a",), ((1, 2),)]


def test_the_name_for_the_model_and_what_the_call_tells_are_no_differences() -> None:
    one = ask("a", raw=BODY)
    two = ask("b", raw=b'{"input": ["b"], "truncate": "END", "model": "m"}')
    assert key_of(one, "") == key_of(two, "")


async def test_unknown_fields_go_along(bench: Bench) -> None:
    for text in ("a", "b", "c"):
        bench.send(text, raw=BODY)
    await bench.end()
    group = bench.up.calls[1]
    assert isinstance(group, EmbedCall)
    assert (group.raw, group.amended, group.inputs) == (BODY, {"inputs"}, ("b", "c"))


async def test_the_parts_of_the_usage_are_the_upstreams_sum(bench: Bench) -> None:
    texts = ["a", "bb" * 40, "", "日本語" * 30, "e"]
    contexts = [context() for _ in texts]
    tasks = [bench.send(text, ctx=ctx) for text, ctx in zip(texts, contexts, strict=True)]
    await bench.end()
    parts = [given(task).usage for task in tasks]
    assert sum(parts, Usage()) == sum(bench.up.used, Usage())
    assert [ctx.estimated for ctx in contexts] == [[], *[["usage"]] * 4]
    assert parts[3].input_tokens > parts[2].input_tokens


async def test_token_ids_are_counted_not_estimated(bench: Bench) -> None:
    ids = [(1,), (2, 3, 4), (5, 6), tuple(range(50))]
    contexts = [context() for _ in ids]
    tasks = [bench.send(each, ctx=ctx) for each, ctx in zip(ids, contexts, strict=True)]
    await bench.end()
    assert [given(task).usage.input_tokens for task in tasks] == [1, 3, 2, 50]
    assert [ctx.estimated for ctx in contexts] == [[]] * 4


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
    assert len(bench.asked) == (2 + 4 if apart else 2)


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


async def test_what_is_noted_of_the_call_is_noted_of_each(bench: Bench) -> None:
    contexts = [
        context(deadline_s=5.0, priority=Priority.BATCH),
        context(deadline_s=7.0, priority=Priority.BATCH),
        context(deadline_s=9.0, priority=Priority.INTERACTIVE),
    ]
    for text, ctx in zip("abc", contexts, strict=True):
        bench.send(text, ctx=ctx)
    await settle()
    bench.up.answer()
    await settle()
    (_, made, _) = bench.up.held[0]
    assert (made.deadline_s, made.priority) == (9.0, Priority.INTERACTIVE)
    assert made.attempt is not None
    made.attempt.started_s, made.attempt.first_byte_s, made.attempt.queued_s = 2.0, 3.0, 0.5
    made.dropped.append("user")
    await bench.end()
    for ctx in contexts[1:]:
        attempt = ctx.attempt
        assert attempt is not None
        told = (attempt.started_s, attempt.first_byte_s, attempt.queued_s, attempt.upstream_id)
        assert told == (2.0, 3.0, 0.5, "up-2")
        assert (attempt.dialect, ctx.dropped) == ("theirs", ["user"])
    assert contexts[0].dropped == []
    assert contexts[1].attempt is not contexts[2].attempt


async def test_a_caller_without_a_deadline_sets_none(bench: Bench) -> None:
    bench.send("a")
    for deadline_s in (5.0, None, 7.0):
        bench.send("b", ctx=context(deadline_s=deadline_s))
    await settle()
    bench.up.answer()
    await settle()
    assert bench.up.held[0][1].deadline_s is None


def other_calls() -> list[Call]:
    messages = (Message(Role.USER, (Text("hi"),)),)
    return [ChatCall(model="m", messages=messages), CountCall(model="m", messages=messages)]


@pytest.mark.parametrize("call", other_calls(), ids=lambda call: type(call).__name__)
def test_everything_else_is_the_inner_providers(call: Call) -> None:
    inner = FakeProvider()
    grouped = Grouped(inner, EmbeddingsConfig(), Heard())
    answers = grouped(call, context())
    assert getattr(answers, "ag_code", None) is FakeProvider.__call__.__code__


async def test_disabled_it_groups_nothing() -> None:
    bench = Bench(enabled=False)
    for text in "abc":
        bench.send(text)
    await settle()
    assert bench.asked == [("a",), ("b",), ("c",)]
    await bench.end()


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
