"""A caller's own body with a few things written over: the rest of it survives."""

import json
from typing import Any

import pytest
from msgspec import Raw

from llm_server.contract import (
    ChatCall,
    ErrorKind,
    Facts,
    Message,
    OutputFormat,
    Role,
    Sampling,
    ServerError,
    Text,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
)
from llm_server.providers.dialects.anthropic import Anthropic
from llm_server.providers.dialects.cohere import Cohere
from llm_server.providers.dialects.gemini import Gemini
from llm_server.providers.dialects.openai import OpenAI
from llm_server.providers.quirks import Quirks
from llm_server.wire import ANTHROPIC_MESSAGES, OPENAI_CHAT

SCHEMA = OutputFormat(kind="json_schema", schema=Raw(b'{"type":"object"}'), name="n", strict=True)
ANSWER = Tool(name="answer", parameters=Raw(b'{"type":"object"}'))
HELLO = [{"role": "user", "content": "Hi", "own": 1}]
VLLM = Facts(guided=True)


def openai(facts: Facts = VLLM, changes: dict[str, Any] | None = None, **fields: Any) -> dict[str, Any]:
    call = OPENAI_CHAT.decode(json.dumps({"model": "m", "messages": HELLO, **fields}).encode(), {})
    sent = OpenAI(Quirks()).encode(call.amend(**changes) if changes else call, facts)
    return dict(json.loads(sent.body))


def anthropic(changes: dict[str, Any], **fields: Any) -> tuple[dict[str, Any], tuple[str, ...]]:
    body = {"model": "m", "max_tokens": 9, "messages": HELLO, **fields}
    call = ANTHROPIC_MESSAGES.decode(json.dumps(body).encode(), {})
    sent = Anthropic().encode(call.amend(**changes), Facts())
    return json.loads(sent.body), sent.dropped


def test_nothing_amended_is_nothing_changed() -> None:
    assert openai(store=True) == {"model": "m", "messages": HELLO, "store": True}


def test_only_the_form_is_written_anew() -> None:
    sent = openai(changes={"output": SCHEMA}, store=True, response_format={"type": "json_object"})
    form = {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object"}, "strict": True}}
    assert sent == {"model": "m", "messages": HELLO, "store": True, "response_format": form}
    assert "response_format" not in openai(changes={"output": None}, response_format={"type": "json_object"})


def test_tools_choices_and_turns_are_written_anew() -> None:
    turns = (Message(Role.USER, (Text("Hi"),)), Message(Role.ASSISTANT, (ToolCall("c", "answer", "{}"),)))
    turns += (Message(Role.TOOL, (ToolResult(call_id="c", parts=(Text("No."),), is_error=True),)),)
    changes = {
        "messages": turns,
        "tools": (ANSWER,),
        "tool_choice": ToolChoice("tool", "answer"),
        "parallel_tools": False,
        "sampling": Sampling(n=1),
    }
    sent = openai(changes=changes, n=3, service_tier="flex", tools=[])
    assert [message["role"] for message in sent["messages"]] == ["user", "assistant", "tool"]
    assert sent["tools"][0]["function"]["name"] == "answer"
    assert sent["tool_choice"] == {"type": "function", "function": {"name": "answer"}}
    assert sent["parallel_tool_calls"] is False
    assert sent["service_tier"] == "flex"
    assert "n" not in sent


@pytest.mark.parametrize(
    ("asked", "sent"),
    [
        ({"guided_regex": "a+"}, {"structured_outputs": {"regex": "a+"}}),
        ({"guided_choice": ["a"]}, {"structured_outputs": {"choice": ["a"]}}),
        ({"guided_grammar": "g"}, {"structured_outputs": {"grammar": "g"}}),
        ({"structured_outputs": {"regex": "a"}}, {"structured_outputs": {"regex": "a"}}),
        (
            {"guided_json": {}, "stream_structured": "partial"},
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "answer", "schema": {}, "strict": True},
                }
            },
        ),
    ],
)
def test_words_that_servers_ignore_in_silence_are_said_in_those_they_know(
    asked: dict[str, Any], sent: dict[str, Any]
) -> None:
    assert openai(**asked) == {"model": "m", "messages": HELLO, **sent}


@pytest.mark.parametrize(
    "dialect", [OpenAI(Quirks()), Gemini(), Cohere(), Anthropic()], ids=lambda each: each.name
)
@pytest.mark.parametrize("kind", ["regex", "choice", "grammar"])
def test_a_form_without_a_word_for_it_is_refused(dialect: Any, kind: Any) -> None:
    call = ChatCall(
        model="m",
        messages=(Message(Role.USER, (Text("Hi"),)),),
        output=OutputFormat(kind=kind, pattern="a", choices=("a",), grammar="a"),
    )
    with pytest.raises(ServerError) as raised:
        dialect.encode(call, Facts())
    assert raised.value.kind is ErrorKind.UNSUPPORTED


def test_anthropic_s_fields_are_amended_too() -> None:
    config = {"effort": "low", "format": {"type": "json_schema", "schema": {}}}
    sent, _ = anthropic({"output": SCHEMA}, output_config=config, container="c")
    assert sent["output_config"]["format"] == {"type": "json_schema", "schema": {"type": "object"}}
    assert sent["messages"] == HELLO
    assert sent["container"] == "c"


def test_a_tool_that_is_forced_excludes_thinking() -> None:
    changes = {"output": None, "tools": (ANSWER,), "tool_choice": ToolChoice("tool", "answer")}
    thinking = {"type": "enabled", "budget_tokens": 1024}
    sent, dropped = anthropic(changes, thinking=thinking, output_format={"type": "json_schema", "schema": {}})
    assert sent["tool_choice"] == {"type": "tool", "name": "answer"}
    assert "thinking" not in sent
    assert "output_format" not in sent
    assert dropped == ("reasoning",)


def test_opaque_turns_do_not_hinder_what_is_amended_beside_them() -> None:
    document = [{"role": "user", "content": [{"type": "document", "source": {"type": "text", "data": "x"}}]}]
    sent, _ = anthropic({"output": SCHEMA}, messages=document)
    assert sent["messages"] == document
