"""Calls of other dialects as OpenAI-compatible servers are sent them."""

from typing import Any

import pytest
from msgspec import Raw, json

from llm_server.contract import (
    ErrorKind,
    Facts,
    HttpRequest,
    Image,
    Message,
    Opaque,
    OutputFormat,
    Part,
    Reasoning,
    Refusal,
    Role,
    Sampling,
    ServerError,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
)
from llm_server.providers import ROWS
from llm_server.providers.dialects.openai import OpenAI
from llm_server.providers.quirks import Quirks
from tests.providers.calls import assistant, chat, system, tool, user

PLAIN = Quirks()
SCHEMA = Raw(b'{"type":"object","properties":{"a":{"type":"integer"}}}')


def encode(call: Any, q: Quirks = PLAIN, facts: Facts | None = None) -> HttpRequest:
    return OpenAI(q).encode(call, facts or Facts())


def sent(call: Any, q: Quirks = PLAIN, facts: Facts | None = None) -> dict[str, Any]:
    return json.decode(encode(call, q, facts).body)  # type: ignore[no-any-return]  # a JSON object


def row(name: str) -> Quirks:
    return ROWS[name].quirks


def messages_of(*messages: Message, q: Quirks = PLAIN) -> list[dict[str, Any]]:
    return sent(chat(*messages), q)["messages"]  # type: ignore[no-any-return]  # a list of objects


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (system("Be brief"), [{"role": "system", "content": "Be brief"}]),
        (
            Message(Role.SYSTEM, (Text("a"), Text("b"))),
            [{"role": "system", "content": "a\n\nb"}],
        ),
        (user(Text("a")), [{"role": "user", "content": "a"}]),
        (
            user(Text("a"), Text("b")),
            [{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}],
        ),
        (
            user(Image(url="https://x/y.png", detail="low")),
            [
                {
                    "role": "user",
                    "content": [
                        {"type": "image_url", "image_url": {"url": "https://x/y.png", "detail": "low"}}
                    ],
                }
            ],
        ),
        (
            user(Text("see"), Image(data="QUJD", media_type="image/png")),
            [
                {
                    "role": "user",
                    "content": [
                        {"type": "text", "text": "see"},
                        {"type": "image_url", "image_url": {"url": "data:image/png;base64,QUJD"}},
                    ],
                }
            ],
        ),
        (Message(Role.USER, (), "ada"), [{"role": "user", "content": "", "name": "ada"}]),
        (assistant(Text("a"), Text("b")), [{"role": "assistant", "content": "ab"}]),
        (assistant(), [{"role": "assistant", "content": ""}]),
        (assistant(Refusal("no")), [{"role": "assistant", "content": "no"}]),
        (
            assistant(ToolCall("t1", "f", "")),
            [
                {
                    "role": "assistant",
                    "content": None,
                    "tool_calls": [
                        {"id": "t1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
                    ],
                }
            ],
        ),
        (
            user(
                ToolResult(call_id="t1", parts=(Text("a"), Text("b"))),
                ToolResult(call_id="t2", parts=()),
                Text("go on"),
            ),
            [
                {"role": "tool", "tool_call_id": "t1", "content": "a\nb"},
                {"role": "tool", "tool_call_id": "t2", "content": ""},
                {"role": "user", "content": "go on"},
            ],
        ),
        (
            tool(ToolResult(call_id="t1", parts=(Text("a"), Image(url="https://x/y.png")))),
            [
                {"role": "tool", "tool_call_id": "t1", "content": "a\nSee the image in the next message."},
                {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://x/y.png"}}]},
            ],
        ),
    ],
)
def test_turns_are_translated(message: Message, expected: list[dict[str, Any]]) -> None:
    assert messages_of(message) == expected
    assert encode(chat(message)).dropped == ()


@pytest.mark.parametrize(
    ("part", "lost"),
    [
        (Thinking(text="hm", signature="sig"), "thinking"),
        (Thinking(text="hm"), "thinking"),
        (Thinking(signature="x", redacted=True), "thinking"),
    ],
)
def test_thinking_in_history_is_left_out_and_named(part: Part, lost: str) -> None:
    request = encode(chat(assistant(part, Text("a"))))
    assert json.decode(request.body)["messages"] == [{"role": "assistant", "content": "a"}]
    assert request.dropped == (lost,)


def test_thinking_without_a_signature_goes_back_where_it_is_taken() -> None:
    request = encode(chat(assistant(Thinking(text="hm"), Text("a"))), row("deepseek"))
    assert json.decode(request.body)["messages"] == [
        {"role": "assistant", "content": "a", "reasoning_content": "hm"}
    ]
    assert request.dropped == ()


def test_failed_tool_result_keeps_its_text_and_loses_its_flag() -> None:
    request = encode(chat(user(ToolResult(call_id="t", parts=(Text("boom"),), is_error=True))))
    assert json.decode(request.body)["messages"] == [{"role": "tool", "tool_call_id": "t", "content": "boom"}]
    assert request.dropped == ("tool_result.is_error",)


def test_long_tool_ids_are_fitted_in_translations_too() -> None:
    long = "toolu_" + "x" * 60
    call = chat(assistant(ToolCall(long, "f", "{}")), tool(ToolResult(call_id=long, parts=())))
    calls, result = sent(call)["messages"]
    assert calls["tool_calls"][0]["id"] == result["tool_call_id"]
    assert len(result["tool_call_id"]) == PLAIN.tool_id_length


def test_opaque_content_is_refused_by_name() -> None:
    with pytest.raises(ServerError) as caught:
        encode(chat(user(Text("a"), Opaque("document"))))
    assert caught.value.kind is ErrorKind.UNSUPPORTED
    assert "'document'" in caught.value.message


ADD = Tool(name="add", description="Adds.", parameters=SCHEMA, strict=True)


def test_tools_are_translated() -> None:
    call = chat(
        tools=(ADD, Tool(name="now"), Tool(name="web_search", type="web_search_20250305")),
        tool_choice=ToolChoice("tool", "add"),
        parallel_tools=False,
    )
    body = sent(call)
    assert body["tools"] == [
        {
            "type": "function",
            "function": {
                "name": "add",
                "description": "Adds.",
                "parameters": json.decode(SCHEMA),
                "strict": True,
            },
        },
        {"type": "function", "function": {"name": "now", "parameters": {"type": "object", "properties": {}}}},
    ]
    assert body["tool_choice"] == {"type": "function", "function": {"name": "add"}}
    assert body["parallel_tool_calls"] is False
    assert encode(call).dropped == ("tools[web_search_20250305]",)


@pytest.mark.parametrize("mode", ["auto", "none", "required"])
def test_tool_choice_modes_have_the_same_words(mode: Any) -> None:
    assert sent(chat(tools=(ADD,), tool_choice=ToolChoice(mode)))["tool_choice"] == mode


def test_tool_choice_without_tools_is_not_sent() -> None:
    assert set(sent(chat(tool_choice=ToolChoice("auto"), parallel_tools=True))) == {"model", "messages"}


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        (OutputFormat(kind="json_object"), {"type": "json_object"}),
        (
            OutputFormat(kind="json_schema", schema=SCHEMA),
            {"type": "json_schema", "json_schema": {"name": "answer", "schema": json.decode(SCHEMA)}},
        ),
        (
            OutputFormat(kind="json_schema", schema=SCHEMA, name="n", description="d", strict=False),
            {
                "type": "json_schema",
                "json_schema": {
                    "name": "n",
                    "description": "d",
                    "schema": json.decode(SCHEMA),
                    "strict": False,
                },
            },
        ),
    ],
)
def test_output_formats_are_translated(output: OutputFormat, expected: dict[str, Any]) -> None:
    assert sent(chat(output=output))["response_format"] == expected


def test_sampling_is_translated() -> None:
    sampling = Sampling(
        max_tokens=9,
        temperature=0.0,
        top_p=0.5,
        top_k=40,
        seed=0,
        stop=("a", "b", "c", "d", "e"),
        frequency_penalty=0.1,
        presence_penalty=-0.1,
        n=2,
        logprobs=3,
        logit_bias={"5": -100},
    )
    request = encode(chat(sampling=sampling, user="u", stream=True))
    assert json.decode(request.body) == {
        "model": "m",
        "messages": [{"role": "user", "content": "Hi"}],
        "stream": True,
        "stream_options": {"include_usage": True},
        "max_tokens": 9,
        "temperature": 0.0,
        "top_p": 0.5,
        "top_k": 40,
        "seed": 0,
        "stop": ["a", "b", "c", "d"],
        "frequency_penalty": 0.1,
        "presence_penalty": -0.1,
        "n": 2,
        "logprobs": True,
        "top_logprobs": 3,
        "logit_bias": {"5": -100.0},
        "user": "u",
    }
    assert request.dropped == ("stop[4:]",)
    assert encode(chat(sampling=Sampling(top_k=40)), row("openai")).dropped == ("top_k",)


@pytest.mark.parametrize(
    ("reasoning", "effort"),
    [
        (Reasoning(effort="high"), "high"),
        (Reasoning(effort="max"), "xhigh"),
        (Reasoning(effort="none", enabled=False), "none"),
        (Reasoning(budget_tokens=1024), "low"),
        (Reasoning(budget_tokens=4096), "medium"),
        (Reasoning(budget_tokens=32000), "high"),
        (Reasoning(enabled=False), None),
        (Reasoning(), None),
    ],
)
def test_reasoning_becomes_effort(reasoning: Reasoning, effort: str | None) -> None:
    assert sent(chat(reasoning=reasoning)).get("reasoning_effort") == effort


def test_reasoning_is_left_out_for_a_model_that_does_not_think() -> None:
    request = encode(chat(reasoning=Reasoning(budget_tokens=9000)), facts=Facts(reasoning=False))
    assert "reasoning_effort" not in json.decode(request.body)
    assert request.dropped == ("reasoning",)
