"""Decoding held to a grammar by the real model, and what must never run free."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import aclosing, suppress
from typing import Any

import jsonschema_rs
import pytest
import pytest_asyncio
from msgspec import Raw

from llm_server.contract import (
    ChatCall,
    Choice,
    Chunk,
    Completion,
    Context,
    ErrorKind,
    FinishReason,
    OutputFormat,
    ServerError,
    TextDelta,
    fold,
)
from llm_server.engine import EngineConfig
from llm_server.engine.constraint import Constraint
from llm_server.engine.provider import EngineProvider
from llm_server.engine.runtime import Generation
from llm_server.structured.config import StructuredConfig
from llm_server.structured.grammar import compile_output
from llm_server.structured.stage import Structured
from tests.engine.calling import MODEL, chat, chunks, events, inside, whole
from tests.engine.conftest import Configure

pytestmark = pytest.mark.asyncio(loop_scope="package")

SEEDS = 20
YES_OR_NO = OutputFormat(kind="choice", choices=("yes", "no"))
WORD: dict[str, Any] = {"type": "string", "maxLength": 12}


def closed(**properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


PERSON = closed(name=WORD, age={"type": "integer", "minimum": 0, "maximum": 120})
SCHEMAS = {
    "object": PERSON,
    "nested": closed(person=PERSON, address=closed(city=WORD, kind={"enum": ["home", "work"]})),
    "three": {
        "type": "array",
        "items": closed(name=WORD, price={"type": "integer", "minimum": 1, "maximum": 99}),
        "minItems": 3,
        "maxItems": 3,
    },
}


def held(grammar: str, *, stream: bool = False, **sampling: Any) -> ChatCall:
    return chat(stream=stream, **sampling).altered(output=OutputFormat(kind="grammar", grammar=grammar))


def compiled(schema: dict[str, Any]) -> str:
    """The grammar of ``schema``, as the stage in front makes it."""
    made = compile_output(OutputFormat(kind="json_schema", schema=Raw(json.dumps(schema).encode())))
    assert made.guarantee == "exact"
    return made.text


async def only(provider: EngineProvider, call: ChatCall) -> Choice:
    (choice,) = (await whole(provider, call)).choices
    return choice


@pytest_asyncio.fixture(loop_scope="package", scope="module")
async def engine(configure: Configure) -> AsyncIterator[EngineProvider]:
    """The runtime that takes grammars."""
    engine = EngineProvider(configure(queue=SEEDS))
    await engine.start()
    yield engine
    await engine.close()


@pytest.mark.parametrize("name", SCHEMAS)
async def test_every_answer_satisfies_its_schema(engine: EngineProvider, name: str) -> None:
    grammar, validator = compiled(SCHEMAS[name]), jsonschema_rs.validator_for(SCHEMAS[name])
    calls = [held(grammar, temperature=1.0, seed=seed, max_tokens=140) for seed in range(SEEDS)]
    choices = await asyncio.gather(*(only(engine, call) for call in calls))
    assert {choice.finish for choice in choices} == {FinishReason.STOP}
    assert all(validator.is_valid(json.loads(choice.text)) for choice in choices)
    assert len({choice.text for choice in choices}) > 1


async def test_an_answer_cut_by_the_limit_says_so(engine: EngineProvider) -> None:
    grammar = compiled(SCHEMAS["three"])
    whole = await only(engine, held(grammar, seed=3, max_tokens=140))
    cut = await only(engine, held(grammar, seed=3, max_tokens=8))
    assert (whole.finish, cut.finish) == (FinishReason.STOP, FinishReason.LENGTH)
    with pytest.raises(json.JSONDecodeError):
        json.loads(cut.text)


@pytest.mark.parametrize("stream", [False, True])
async def test_the_choice_is_one_of_the_two(engine: EngineProvider, stream: bool) -> None:
    call = held('start: "red" | "blue"', stream=stream, temperature=1.5, max_tokens=20)
    texts = (
        {fold(await chunks(engine, call)).choices[0].text} if stream else {(await only(engine, call)).text}
    )
    assert texts <= {"red", "blue"}


async def test_a_stream_comes_in_pieces_and_holds_to_the_grammar(engine: EngineProvider) -> None:
    call = held(compiled(PERSON), stream=True, seed=1, max_tokens=80)
    texts = [event.text for event in await events(engine, call) if isinstance(event, TextDelta)]
    assert len(texts) > 3
    assert jsonschema_rs.is_valid(PERSON, json.loads("".join(texts)))


async def test_free_and_constrained_requests_share_a_batch(engine: EngineProvider) -> None:
    free = chat("Tell a story.", temperature=0.0, max_tokens=24)
    alone = await only(engine, free)
    calls = (
        held("start: /[0-9]{30}/", max_tokens=60),
        free,
        held('start: "no"'),
        free,
        held("start: /x{9}/"),
    )
    digits, first, no, second, xs = await asyncio.gather(*(only(engine, call) for call in calls))
    assert digits.text.isdecimal()
    assert len(digits.text) == 30
    assert (no.text, xs.text) == ("no", "x" * 9)
    assert all(story.text[:20] == alone.text[:20] for story in (first, second))


async def test_every_choice_of_a_call_is_held(engine: EngineProvider) -> None:
    answer = await whole(engine, held("start: /[0-9]{3}/", n=3, seed=5, temperature=1.5))
    assert len(answer.choices) == 3
    assert all(choice.text.isdecimal() and len(choice.text) == 3 for choice in answer.choices)


async def test_characters_of_many_tokens_keep_to_the_grammar(engine: EngineProvider) -> None:
    choice = await only(engine, held('start: "😀" /[à-ý]{4}/', max_tokens=40))
    assert choice.text[0] == "😀"
    assert len(choice.text) == 5


async def test_a_stop_sequence_may_end_it_before_the_grammar_does(engine: EngineProvider) -> None:
    choice = await only(engine, held('start: "one, two, three"', stop=("two",)))
    assert (choice.text, choice.finish, choice.stop_sequence) == ("one, ", FinishReason.STOP, "two")


@pytest.mark.parametrize("grammar", ["", "start: nowhere", "start: /a(?=b)/", 'root ::= "yes"', "start: ["])
async def test_a_grammar_that_is_none_is_refused_before_anything_is_said(
    engine: EngineProvider, grammar: str
) -> None:
    with pytest.raises(ServerError, match="grammar is refused") as caught:
        await events(engine, held(grammar, stream=True, max_tokens=4))
    assert caught.value.kind is ErrorKind.INVALID_REQUEST
    assert inside(engine).scheduler.active == 0


async def test_a_grammar_that_llama_cpp_gives_up_on_the_way_is_an_error(engine: EngineProvider) -> None:
    # It takes the text for the control token, which llguidance then refuses: the rest would run free.
    with pytest.raises(ServerError, match="failed") as caught:
        await only(engine, held('start: "<|im_start|>"', max_tokens=20))
    assert caught.value.kind is ErrorKind.UPSTREAM_ERROR


async def test_a_grammar_that_counts_tokens_is_unsupported(engine: EngineProvider) -> None:
    with pytest.raises(ServerError, match="max_tokens") as caught:
        await only(engine, held("start: a\na[max_tokens=2]: /[a-z]+/"))
    assert caught.value.kind is ErrorKind.UNSUPPORTED


async def test_leaving_a_constrained_stream_frees_the_slot(engine: EngineProvider) -> None:
    call = held("start: /[0-9]{200}/", stream=True)
    for _ in range(4):  # more often than there are slots
        async with aclosing(engine(call, Context(request_id="test"))) as answers:
            assert isinstance(await anext(answers), Chunk)
            assert inside(engine).scheduler.active == 1
        assert inside(engine).scheduler.active == 0


async def test_without_llguidance_nothing_runs_free(
    engine: EngineProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("llm_server.engine.constraint.available", lambda: False)
    with pytest.raises(ServerError, match="llguidance") as caught:
        await only(engine, held('start: "a"'))
    assert caught.value.kind is ErrorKind.UNSUPPORTED


async def test_a_grammar_is_a_fact_of_one_runtime(engine: EngineProvider) -> None:
    assert engine.facts(MODEL).grammar
    assert not engine.facts(MODEL).json_schema
    assert not EngineProvider(EngineConfig(runtime="openvino")).facts(MODEL).grammar


@pytest_asyncio.fixture(loop_scope="package", scope="module")
async def unheld(configure: Configure) -> AsyncIterator[EngineProvider]:
    """The runtime that takes none."""
    engine = EngineProvider(configure(runtime="openvino"))
    await engine.start()
    yield engine
    await engine.close()


async def test_a_runtime_without_grammars_refuses_them(unheld: EngineProvider) -> None:
    with pytest.raises(ServerError, match="takes no grammars") as caught:
        await anext(inside(unheld).generate(Generation(prompt="a", constraint='start: "b"')))
    assert caught.value.kind is ErrorKind.UNSUPPORTED
    with pytest.raises(ServerError, match="follows a grammar"):
        await only(unheld, held('start: "b"'))
    with pytest.raises(ServerError, match="cannot be held to a grammar") as caught:
        await anext(Structured(unheld)(held('start: "b"'), Context(request_id="test")))
    assert caught.value.kind is ErrorKind.UNSUPPORTED


async def test_a_runtime_without_grammars_is_asked_in_words_and_checked(unheld: EngineProvider) -> None:
    stage, ctx = Structured(unheld, StructuredConfig(max_attempts=1)), Context(request_id="test")
    asked = chat("Is water wet?", temperature=0.0, max_tokens=20)
    texts = []
    with suppress(ServerError):
        async for answer in stage(asked.altered(output=YES_OR_NO), ctx):
            assert isinstance(answer, Completion)
            texts += [choice.text for choice in answer.choices]
    note = ctx.structured
    assert note is not None
    assert (note.method, note.guarantee) == ("prompt", "validated")
    assert (note.outcome == "invalid") == (not texts)
    assert (note.outcome in {"valid", "repaired"}) == (texts in (["yes"], ["no"]))


async def test_a_constraint_follows_a_text() -> None:
    constraint = Constraint('start: "a" "é"?')
    assert (constraint.complete, constraint.takes("a"), constraint.complete) == (False, True, True)
    assert (constraint.takes("é"), constraint.takes("b"), constraint.takes("")) == (True, False, False)
