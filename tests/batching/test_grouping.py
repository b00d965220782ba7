"""Embeddings in groups: what goes with what, when it goes, and who pays what."""

import asyncio
from typing import Any

import pytest

from llm_server.batching import EmbeddingsConfig, Grouped
from llm_server.batching.grouping import key_of
from llm_server.contract import (
    Call,
    ChatCall,
    CountCall,
    EmbedCall,
    Embeddings,
    Message,
    Priority,
    Role,
    Text,
    Usage,
)
from llm_server.testing import FakeProvider, collect
from tests.batching.grouped import Bench, given
from tests.batching.upstream import Heard, ask, context, settle, usage_of, vector_of


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
