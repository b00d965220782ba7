"""The runtime for models of the Transformers library, with a model whose wishes are known."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from threading import Barrier
from types import ModuleType
from typing import Any

import jsonschema_rs
import numpy as np
import pytest
from msgspec import Raw

from llm_server.contract import (
    ChatCall,
    Choice,
    Chunk,
    Context,
    ErrorKind,
    FinishReason,
    Message,
    OutputFormat,
    Role,
    Sampling,
    ServerError,
    State,
    Text,
    TextDelta,
    Way,
    fold,
)
from llm_server.engine import pytorch
from llm_server.engine.provider import EngineProvider
from llm_server.engine.steering import Rein
from llm_server.structured.abilities import abilities
from llm_server.structured.stage import Structured
from tests.engine.calling import chunks, completion, events, whole
from tests.engine.scripted import CONTEXT, ENDLESS, MODEL, WORDS, Scripted, config, opened

NUMBERS = OutputFormat(kind="grammar", grammar="start: /[0-9]{12}/")
PERSON: dict[str, Any] = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 5}},
    "required": ["name"],
    "additionalProperties": False,
}
AS_PERSON = OutputFormat(kind="json_schema", schema=Raw(json.dumps(PERSON).encode()))


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> Scripted:
    """The model that every engine of a test opens."""
    made = Scripted()
    monkeypatch.setattr(pytorch, "open_model", lambda _: opened(made))
    return made


@pytest.fixture
async def engine(model: Scripted, tmp_path: Path) -> AsyncIterator[EngineProvider]:
    made = EngineProvider(config(tmp_path))
    await made.start()
    assert made.state() == (State.READY, "")
    yield made
    await made.close()


def chat(
    text: str = "Hello", output: OutputFormat | None = None, *, stream: bool = False, **sampling: Any
) -> ChatCall:
    messages = (Message(Role.USER, (Text(text),)),)
    return ChatCall(
        model=MODEL, messages=messages, output=output, stream=stream, sampling=Sampling(**sampling)
    )


async def only(provider: EngineProvider | Structured, call: ChatCall) -> Choice:
    (choice,) = (await whole(provider, call)).choices
    return choice


async def test_it_says_what_the_model_wants_to_say(engine: EngineProvider, model: Scripted) -> None:
    model.wishes["Hello"] = "Good day 😀, é!"
    answer = await whole(engine, chat(temperature=0.0))
    (choice,) = answer.choices
    assert (choice.text, choice.finish) == ("Good day 😀, é!", FinishReason.STOP)
    assert answer.usage.output_tokens == len(WORDS.encode("Good day 😀, é!", add_special_tokens=False)) + 1
    assert answer.usage.input_tokens == len(WORDS.encode("[user] Hello\n"))


async def test_a_stream_comes_in_whole_characters(engine: EngineProvider, model: Scripted) -> None:
    model.wishes["Hello"] = "aé😀"
    told = await events(engine, chat(stream=True, temperature=0.0))
    assert [event.text for event in told if isinstance(event, TextDelta)] == ["a", "é", "😀"]


async def test_a_character_that_is_cut_is_said_as_what_it_is(engine: EngineProvider, model: Scripted) -> None:
    model.wishes["Hello"] = "a😀"
    choice = await only(engine, chat(temperature=0.0, max_tokens=3))
    assert (choice.text, choice.finish) == ("a\ufffd", FinishReason.LENGTH)


async def test_a_seed_is_an_answer_whoever_else_is_answered(engine: EngineProvider, model: Scripted) -> None:
    calls = [chat(seed=seed, max_tokens=20, temperature=1.0) for seed in (1, 2, 1)]
    alone = [(await only(engine, call)).text for call in calls]
    model.meeting = Barrier(3)  # every token of the three at the same time
    together = [choice.text for choice in await asyncio.gather(*(only(engine, call) for call in calls))]
    assert together == alone
    assert alone[0] == alone[2] != alone[1]


async def test_many_prompts_are_in_one_batch_with_whoever_else_is_answered(
    engine: EngineProvider, model: Scripted
) -> None:
    prompts = ("one", "two")
    model.wishes |= {"one": "1111", "two": "2222", "Hello": "3333"}
    model.meeting = Barrier(3)  # every token of the three at the same time, or the test would not end
    call = completion(*prompts, temperature=0.0).altered(model=MODEL)
    many, other = await asyncio.gather(whole(engine, call), only(engine, chat(temperature=0.0)))
    assert [choice.text for choice in many.choices] == ["1111", "2222"]
    assert other.text == "3333"


async def test_more_prompts_than_slots_take_turns(engine: EngineProvider, model: Scripted) -> None:
    prompts = [f"number {at:02}" for at in range(20)]
    model.wishes |= {prompt: f"said {at}" for at, prompt in enumerate(prompts)}
    answer = await whole(engine, completion(*prompts, temperature=0.0).altered(model=MODEL))
    assert [choice.text for choice in answer.choices] == [f"said {at}" for at in range(20)]
    streamed = completion(*prompts, stream=True, temperature=0.0).altered(model=MODEL)
    told = fold(await chunks(engine, streamed))
    assert (told.choices, told.usage) == (answer.choices, answer.usage)


async def test_limits(engine: EngineProvider) -> None:
    answer = await whole(engine, chat(max_tokens=7))
    assert (answer.choices[0].finish, answer.usage.output_tokens) == (FinishReason.LENGTH, 7)
    answer = await whole(engine, completion("x" * (CONTEXT - 4)).altered(model=MODEL))
    assert (answer.choices[0].finish, answer.usage.output_tokens) == (FinishReason.LENGTH, 4)
    with pytest.raises(ServerError, match=f"has {CONTEXT} tokens") as caught:
        await whole(engine, completion("x" * CONTEXT).altered(model=MODEL))
    assert caught.value.kind is ErrorKind.CONTEXT_OVERFLOW


async def test_stop_sequences(engine: EngineProvider, model: Scripted) -> None:
    model.wishes["Hello"] = "one two three"
    choice = await only(engine, chat(temperature=0.0, stop=("wo t",)))
    assert (choice.text, choice.finish, choice.stop_sequence) == ("one t", FinishReason.STOP, "wo t")
    assert model.steps < len("one two three")


async def test_penalties(engine: EngineProvider, model: Scripted) -> None:
    model.wishes["Hello"] = "aaaa"
    free = await only(engine, chat(temperature=0.0, max_tokens=3))
    penalised = await only(engine, chat(temperature=0.0, max_tokens=3, presence_penalty=60.0))
    assert free.text == "aaa"
    assert penalised.text.count("a") == 1


async def test_texts_held_at_the_same_time_do_not_mix(engine: EngineProvider, model: Scripted) -> None:
    outputs = (NUMBERS, None, OutputFormat(kind="grammar", grammar="start: /[a-f]{12}/"))
    calls = [
        chat("Hello", output, seed=4, max_tokens=12 + (output is not None), temperature=1.0)
        for output in outputs
    ]
    alone = [(await only(engine, call)).text for call in calls]
    assert alone[0].isdecimal()
    assert set(alone[2]) <= set("abcdef")
    model.meeting = Barrier(3)
    last = chat("Hello", seed=9, max_tokens=1)  # takes the place of the free one, which is over first
    together = await asyncio.gather(*(only(engine, call) for call in (*calls, last)))
    assert [choice.text for choice in together[:3]] == alone


async def test_an_answer_leaves_only_by_its_grammar(
    engine: EngineProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Rein, "hold", lambda *_: None)
    with pytest.raises(ServerError, match="model failed") as caught:
        await only(engine, chat(output=NUMBERS, seed=1))
    assert (caught.value.kind, caught.value.detail) == (ErrorKind.UPSTREAM_ERROR, "it left the grammar")


async def test_an_answer_that_ends_before_its_grammar_is_none(
    engine: EngineProvider, model: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Rein, "hold", lambda *_: None)
    model.wishes["Hello"] = "123"
    with pytest.raises(ServerError, match="model failed"):
        await only(engine, chat(output=NUMBERS, temperature=0.0))


async def test_no_token_left_is_an_error(engine: EngineProvider, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Rein, "hold", lambda _self, _last, logits: logits.fill(-np.inf))
    with pytest.raises(ServerError) as caught:
        await only(engine, chat(output=NUMBERS))
    assert caught.value.detail == "its form allows no token"


async def test_a_failure_of_the_library_is_the_callers_error(engine: EngineProvider, model: Scripted) -> None:
    model.failure = RuntimeError("out of memory")
    with pytest.raises(ServerError) as caught:
        await only(engine, chat())
    assert caught.value.detail == "RuntimeError: out of memory"
    assert engine._models[MODEL].scheduler.active == 0


@pytest.fixture
async def endless(model: Scripted, tmp_path: Path) -> AsyncIterator[EngineProvider]:
    """An engine whose model does not come to an end by itself while a test runs."""
    made = EngineProvider(config(tmp_path, context=ENDLESS))
    await made.start()
    yield made
    await made.close()


async def test_leaving_a_stream_ends_it(endless: EngineProvider, model: Scripted) -> None:
    for _ in range(4):  # more often than there are slots
        async with aclosing(endless(chat(stream=True), Context(request_id="test"))) as answers:
            assert isinstance(await anext(answers), Chunk)
            assert endless._models[MODEL].scheduler.active == 1
        assert endless._models[MODEL].scheduler.active == 0
    assert model.steps < ENDLESS


async def test_closing_ends_what_runs(endless: EngineProvider) -> None:
    stream = endless(chat(stream=True), Context(request_id="test"))
    assert isinstance(await anext(stream), Chunk)
    closing = asyncio.create_task(endless.close())
    with pytest.raises(ServerError, match="shutting down"):
        async for _ in stream:
            pass
    await closing


async def test_through_the_stage_every_form_is_exact(engine: EngineProvider) -> None:
    provider, ctx = Structured(engine), Context(request_id="test")
    call = chat("Hello", AS_PERSON, seed=3, temperature=1.0)
    (answer,) = [answer async for answer in provider(call, ctx)]
    assert jsonschema_rs.is_valid(PERSON, json.loads(answer.choices[0].text))
    assert ctx.structured is not None
    assert (ctx.structured.method, ctx.structured.guarantee) == ("grammar", "exact")
    streamed = await events(provider, chat("Hello", AS_PERSON, seed=3, temperature=1.0, stream=True))
    texts = [event.text for event in streamed if isinstance(event, TextDelta)]
    assert "".join(texts) == answer.choices[0].text
    assert len(texts) > 3


@pytest.fixture
async def relaxed(
    model: Scripted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[EngineProvider]:
    """An engine held by outlines_core, whose masks for arrays numba would compile."""
    numba = ModuleType("numba")
    monkeypatch.setattr(numba, "njit", lambda function: function, raising=False)
    monkeypatch.setitem(sys.modules, "numba", numba)
    made = EngineProvider(config(tmp_path, "outlines_core"))
    await made.start()
    yield made
    await made.close()


async def test_what_another_engine_enforces_counts_as_relaxed(relaxed: EngineProvider) -> None:
    ctx = Context(request_id="test")
    call = chat("Hello", AS_PERSON, seed=3, temperature=1.0)
    (answer,) = [answer async for answer in Structured(relaxed)(call, ctx)]
    assert jsonschema_rs.is_valid(PERSON, json.loads(answer.choices[0].text))
    assert ctx.structured is not None
    assert (ctx.structured.method, ctx.structured.guarantee, ctx.structured.outcome) == (
        "grammar",
        "relaxed",
        "valid",
    )


async def test_what_it_refuses_is_asked_for_in_words(relaxed: EngineProvider, model: Scripted) -> None:
    model.wishes["Hello"] = '{"a": "::1"}'
    schema = b'{"type":"object","properties":{"a":{"type":"string","format":"ipv6"}},"required":["a"]}'
    output, ctx = OutputFormat(kind="json_schema", schema=Raw(schema)), Context(request_id="test")
    call = chat("Hello", output, temperature=0.0)
    (answer,) = [answer async for answer in Structured(relaxed)(call, ctx)]
    assert answer.choices[0].text == '{"a": "::1"}'
    assert ctx.structured is not None
    assert (ctx.structured.method, ctx.structured.guarantee) == ("prompt", "validated")


async def test_a_grammar_that_it_refuses_is_refused(relaxed: EngineProvider) -> None:
    with pytest.raises(ServerError, match="cannot be held to a grammar") as caught:
        await only(Structured(relaxed), chat("Hello", NUMBERS))
    assert caught.value.kind is ErrorKind.UNSUPPORTED


async def test_facts(engine: EngineProvider, relaxed: EngineProvider) -> None:
    assert engine.facts(MODEL).grammar
    assert engine.facts(MODEL).grammar_exact
    assert relaxed.facts(MODEL).grammar
    assert not relaxed.facts(MODEL).grammar_exact
    assert (await abilities(Structured(engine), MODEL))["grammar"] == (Way("grammar", "exact"),)
    able = await abilities(Structured(relaxed), MODEL)
    assert able["grammar"] == ()
    assert able["regex"] == (Way("grammar", "relaxed"), Way("prompt", "validated"))
