"""Models that are held to grammars, and providers that take the words of grammars."""

import json
from typing import Any

import msgspec
import pytest

from llm_server.contract import ChatCall, ErrorKind, Facts, FinishReason, OutputFormat, ToolCall
from llm_server.structured.grammar import accepts, prepare
from tests.structured.answering import GOOD, PERSON, ask, call, forcing, schema

ENGINE = Facts(tools=False, json_schema=False, json_object=False, grammar=True)
GUIDED = Facts(guided=True)
OPEN = {**PERSON, "additionalProperties": True}
LARK = OutputFormat(kind="grammar", grammar='start: "yes" | "no"')


@pytest.mark.parametrize(
    ("output", "good"),
    [
        (schema(PERSON), GOOD),
        (OutputFormat(kind="json_object"), GOOD),
        (OutputFormat(kind="choice", choices=("red", "green")), "red"),
        (OutputFormat(kind="regex", pattern="[0-9]{3}"), "123"),
        (LARK, "yes"),
    ],
    ids=["json_schema", "json_object", "choice", "regex", "grammar"],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_an_engine_is_given_a_grammar_that_compiles(
    output: OutputFormat, good: str, stream: bool
) -> None:
    told, provider = await ask(call(output, stream=stream), good, facts=ENGINE)
    assert told.text == good
    assert told.note == "grammar valid 1"
    (asked,) = provider.calls
    assert isinstance(asked, ChatCall)
    assert asked.output is not None
    assert asked.output.kind == "grammar"
    assert asked.output.grammar == (await prepare(output)).text
    if stream:
        assert len(told.answers) > 3, "its tokens go on as they come"


async def test_an_engine_serves_a_forced_tool_call() -> None:
    for stream in (False, True):
        told, provider = await ask(forcing(PERSON, stream=stream), GOOD, facts=ENGINE)
        (part,) = told.choice.parts
        assert part.name == "person"
        assert json.loads(part.arguments) == json.loads(GOOD)
        assert told.choice.finish is FinishReason.TOOL_CALLS
        (asked,) = provider.calls
        assert isinstance(asked, ChatCall)
        assert asked.tools == ()
        assert asked.tool_choice is None
        assert "person" in asked.messages[0].text, "the model is told what it fills in"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("asked", [call(schema(OPEN)), forcing(OPEN)], ids=["format", "tool"])
async def test_of_an_undeclared_name_that_is_said_twice_the_last_counts(
    asked: ChatCall, stream: bool
) -> None:
    twice = GOOD[:-1] + ', "more": [1], "other": 2, "more": 3}'
    told, _ = await ask(msgspec.structs.replace(asked, stream=stream), twice, facts=ENGINE)
    assert told.error is None
    assert told.note == "grammar valid 1"
    (part,) = told.choice.parts
    assert (part.arguments if isinstance(part, ToolCall) else part.text) == twice


async def test_a_large_schema_is_not_shown_to_a_small_model() -> None:
    large = {**PERSON, "description": "x" * 5_000}
    _, provider = await ask(call(schema(large)), GOOD, facts=ENGINE)
    (asked,) = provider.calls
    assert isinstance(asked, ChatCall)
    assert len(asked.messages) == 1


@pytest.mark.parametrize("facts", [ENGINE, GUIDED], ids=["engine", "guided"])
async def test_an_engine_that_runs_free_is_caught(facts: Facts) -> None:
    told, _ = await ask(call(LARK), "perhaps", facts=facts)
    assert told.error is not None
    assert told.error.kind is ErrorKind.OUTPUT_INVALID
    assert told.error.problems[0].keyword == "grammar"
    streamed, _ = await ask(call(LARK, stream=True, stream_structured="partial"), "perhaps", facts=facts)
    assert streamed.error is not None


@pytest.mark.parametrize("facts", [ENGINE, GUIDED], ids=["engine", "guided"])
async def test_a_grammar_that_is_none_is_the_callers_fault(facts: Facts) -> None:
    told, provider = await ask(call(OutputFormat(kind="grammar", grammar="start: (")), "x", facts=facts)
    assert told.error is not None
    assert told.error.kind is ErrorKind.INVALID_REQUEST
    assert provider.calls == []


@pytest.mark.parametrize("output", [LARK, OutputFormat(kind="regex", pattern="yes|no")])
async def test_a_provider_is_asked_in_its_own_words_and_checked(output: OutputFormat) -> None:
    asked: Any = call(output)
    told, provider = await ask(asked, "perhaps", "yes", facts=GUIDED)
    assert told.text == "yes"
    assert told.note == "native valid 2"
    assert provider.calls[0] == asked


async def test_grammars_judge_texts() -> None:
    compiled = await prepare(LARK)
    assert accepts(compiled, "yes")
    assert not accepts(compiled, "yes!")
