"""OpenAI bodies as real clients send them, and what they mean."""

import json
from typing import Any

import pytest

from llm_server.contract import (
    ChatCall,
    EmbedCall,
    Image,
    Message,
    Opaque,
    OutputFormat,
    Reasoning,
    Refusal,
    Role,
    Sampling,
    ServerError,
    Text,
    TextCall,
    Thinking,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
)
from llm_server.wire import OPENAI_CHAT, OPENAI_COMPLETIONS, OPENAI_EMBEDDINGS

USER = {"role": "user", "content": "hi"}


def chat(**fields: Any) -> ChatCall:
    call = OPENAI_CHAT.decode(json.dumps({"model": "m", "messages": [USER], **fields}).encode(), {})
    assert isinstance(call, ChatCall)
    return call


def said(*messages: dict[str, Any]) -> tuple[Message, ...]:
    return chat(messages=list(messages)).messages


def parts(message: dict[str, Any]) -> tuple[object, ...]:
    return said(message)[0].parts


def test_the_smallest_request() -> None:
    body = b'{"model":"m","messages":[{"role":"user","content":"hi"}]}'
    assert OPENAI_CHAT.decode(body, {"anthropic-beta": "x"}) == ChatCall(
        model="m", dialect="openai", raw=body, messages=(Message(Role.USER, (Text("hi"),)),)
    )


def test_a_conversation_with_every_role() -> None:
    messages = said(
        {"role": "system", "content": "Be kind.", "name": "house"},
        {"role": "developer", "content": [{"type": "text", "text": "Be brief."}]},
        {
            "role": "user",
            "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}],
            "name": "ann",
        },
        {
            "role": "assistant",
            "content": "c",
            "reasoning_content": "because",
            "tool_calls": [
                {"id": "1", "type": "function", "function": {"name": "f", "arguments": '{"x": 1}'}},
                {"id": "2", "type": "function", "function": {"name": "g", "arguments": ""}},
            ],
        },
        {"role": "tool", "tool_call_id": "1", "content": "sunny"},
        {
            "role": "tool",
            "tool_call_id": "2",
            "content": [{"type": "text", "text": "x"}, {"type": "text", "text": "y"}],
        },
    )
    assert messages == (
        Message(Role.SYSTEM, (Text("Be kind."),), "house"),
        Message(Role.SYSTEM, (Text("Be brief."),)),
        Message(Role.USER, (Text("a"), Text("b")), "ann"),
        Message(
            Role.ASSISTANT,
            (Thinking(text="because"), Text("c"), ToolCall("1", "f", '{"x": 1}'), ToolCall("2", "g", "")),
        ),
        Message(Role.TOOL, (ToolResult(call_id="1", parts=(Text("sunny"),)),)),
        Message(Role.TOOL, (ToolResult(call_id="2", parts=(Text("x"), Text("y"))),)),
    )


def test_an_answer_of_the_sdk_can_be_sent_back_with_all_its_nulls() -> None:
    message = {
        "role": "assistant",
        "content": None,
        "refusal": "No.",
        "annotations": [],
        "audio": None,
        "function_call": None,
        "tool_calls": None,
    }
    assert parts(message) == (Refusal("No."),)


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning"])
def test_both_names_of_reasoning_are_read(field: str) -> None:
    assert parts({"role": "assistant", field: "hm"}) == (Thinking(text="hm"),)


def test_images_by_url_and_inline() -> None:
    content = [
        {"type": "image_url", "image_url": {"url": "https://x.test/a.png", "detail": "low"}},
        {"type": "image_url", "image_url": {"url": "data:image/jpeg;base64,/9j/4A=="}},
    ]
    assert parts({"role": "user", "content": content}) == (
        Image(url="https://x.test/a.png", detail="low"),
        Image(data="/9j/4A==", media_type="image/jpeg"),
    )


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        "gs://b/a.png",
        "data:text/html;base64,AA",
        "data:image/png,AA",
        "x",
        "javascript:1",
    ],
)
def test_other_urls_are_refused(url: str) -> None:
    with pytest.raises(ServerError, match="http"):
        parts({"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]})


def test_an_image_in_a_tool_result() -> None:
    content = [{"type": "image_url", "image_url": {"url": "https://x.test"}}, {"type": "file", "file": {}}]
    assert parts({"role": "tool", "tool_call_id": "1", "content": content}) == (
        ToolResult(call_id="1", parts=(Image(url="https://x.test"),)),
        Opaque("file"),
    )


@pytest.mark.parametrize("kind", ["input_audio", "file", "video_url", "opaque"])
def test_parts_that_nobody_models_are_named(kind: str) -> None:
    content = [{"type": kind, kind: {"data": "x"}}, {"type": "text", "text": "and"}]
    assert parts({"role": "user", "content": content}) == (Opaque(kind), Text("and"))


def test_calls_of_other_tools_are_named() -> None:
    calls = [{"id": "1", "type": "custom", "custom": {"name": "c", "input": "x"}}]
    assert parts({"role": "assistant", "tool_calls": calls}) == (Opaque("custom tool call"),)


def test_the_raw_body_stays_whatever_is_unknown() -> None:
    call = chat(messages=[{"role": "user", "content": [{"type": "brand_new", "x": [1.50]}]}], zork={"a": 1})
    assert json.loads(call.raw)["zork"] == {"a": 1}
    assert call.messages[0].parts == (Opaque("brand_new"),)


def test_tools() -> None:
    schema = {"type": "object", "properties": {"city": {"type": "string"}}}
    call = chat(
        tools=[
            {
                "type": "function",
                "function": {"name": "f", "description": "d", "parameters": schema, "strict": True},
            },
            {"type": "function", "function": {"name": "g", "parameters": None}},
            {"type": "web_search", "filters": {}},
            {"type": "custom", "custom": {"name": "c"}},
        ],
        parallel_tool_calls=False,
    )
    first, *others = call.tools
    assert (first.name, first.description, first.strict) == ("f", "d", True)
    assert json.loads(bytes(first.parameters)) == schema
    assert others == [
        Tool(name="g"),
        Tool(name="web_search", type="web_search"),
        Tool(name="custom", type="custom"),
    ]
    assert call.parallel_tools is False


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        (None, None),
        ("auto", ToolChoice("auto")),
        ("none", ToolChoice("none")),
        ("required", ToolChoice("required")),
        ({"type": "function", "function": {"name": "f"}}, ToolChoice("tool", "f")),
    ],
)
def test_tool_choice(choice: object, expected: ToolChoice | None) -> None:
    tools = [{"type": "function", "function": {"name": "f"}}]
    assert chat(tools=tools, tool_choice=choice).tool_choice == expected


@pytest.mark.parametrize(
    "choice",
    [
        "required",
        {"type": "function", "function": {"name": "f"}},
        {"type": "custom", "custom": {"name": "f"}},
        {
            "type": "allowed_tools",
            "allowed_tools": {
                "mode": "required",
                "tools": [{"type": "function", "function": {"name": "f"}}],
            },
        },
    ],
)
@pytest.mark.parametrize("tools", [None, []])
def test_a_tool_cannot_be_required_without_tools(choice: object, tools: object) -> None:
    with pytest.raises(ServerError) as raised:
        chat(tool_choice=choice, tools=tools)
    assert raised.value.param == "tool_choice"
    assert raised.value.message == "tool_choice: a tool can only be required when 'tools' are specified."
    assert [chat(tool_choice=mild).tools for mild in ("auto", "none")] == [(), ()]


def test_allowed_tools_are_the_tools_that_are_left() -> None:
    tools = [{"type": "function", "function": {"name": name}} for name in "abc"]
    allowed = {"mode": "required", "tools": [tools[2], tools[0]]}
    call = chat(tools=tools, tool_choice={"type": "allowed_tools", "allowed_tools": allowed})
    assert [tool.name for tool in call.tools] == ["a", "c"]
    assert call.tool_choice == ToolChoice("required")


def test_sampling() -> None:
    call = chat(
        max_tokens=5,
        temperature=1,
        top_p=0.5,
        top_k=40,
        seed=-7,
        stop=["a", "b"],
        frequency_penalty=-1,
        presence_penalty=2,
        n=3,
        logprobs=True,
        top_logprobs=4,
        logit_bias={"50256": -100},
    )
    assert call.sampling == Sampling(
        max_tokens=5,
        temperature=1.0,
        top_p=0.5,
        top_k=40,
        seed=-7,
        stop=("a", "b"),
        frequency_penalty=-1.0,
        presence_penalty=2.0,
        n=3,
        logprobs=4,
        logit_bias={"50256": -100.0},
    )


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"stop": "x"}, {"stop": ("x",)}),
        ({"stop": None}, {}),
        ({"n": None}, {}),
        ({"logprobs": True}, {"logprobs": 0}),
        ({"logprobs": False, "top_logprobs": 0}, {}),
        ({"max_tokens": 5, "max_completion_tokens": 7}, {"max_tokens": 7}),
        ({"top_k": -1}, {}),
        ({"top_k": 0}, {}),
    ],
)
def test_sampling_at_its_edges(fields: dict[str, Any], expected: dict[str, Any]) -> None:
    assert chat(**fields).sampling == Sampling(**expected)


def test_output_formats() -> None:
    assert chat(response_format={"type": "text"}).output is None
    assert chat(response_format={"type": "json_object"}).output == OutputFormat(kind="json_object")
    wanted = {"name": "n", "description": "d", "schema": {"type": "object"}, "strict": True}
    output = chat(response_format={"type": "json_schema", "json_schema": wanted}).output
    assert output is not None
    assert (output.kind, output.name, output.description, output.strict) == ("json_schema", "n", "d", True)
    assert json.loads(bytes(output.schema)) == {"type": "object"}


@pytest.mark.parametrize(
    ("effort", "expected"),
    [(None, None), ("high", Reasoning(effort="high")), ("none", Reasoning(effort="none", enabled=False))],
)
def test_reasoning_effort(effort: str | None, expected: Reasoning | None) -> None:
    assert chat(reasoning_effort=effort).reasoning == expected


def test_stream_options() -> None:
    assert chat(stream=True, stream_options={"include_usage": True}).include_usage
    assert not chat(stream=True, stream_options={"include_obfuscation": False}).include_usage
    assert not chat(stream=True, stream_options=None).include_usage
    assert chat(stream=True).stream
    assert not chat(stream=None).stream


@pytest.mark.parametrize(
    "fields",
    [
        {"functions": [{"name": "f"}]},
        {"function_call": "auto"},
        {"messages": [{"role": "assistant", "function_call": {"name": "f", "arguments": ""}}]},
    ],
)
def test_legacy_functions_are_refused_with_advice(fields: dict[str, Any]) -> None:
    with pytest.raises(ServerError, match="Use 'tools'"):
        chat(**fields)


def test_what_nothing_models_is_listed_once_by_path() -> None:
    body = {
        "model": "m",
        "store": True,
        "metadata": {},
        "service_tier": None,
        "messages": [
            {
                "role": "user",
                "content": [{"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}}],
            },
            {
                "role": "user",
                "content": [{"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}}],
            },
            {"role": "user", "content": [{"type": "file", "file": {"file_id": "x"}}]},
            {"role": "assistant", "audio": {"id": "a"}, "content": None},
        ],
        "tools": [{"type": "function", "function": {"name": "f", "parameters": {"x-any": 1}, "extra": 1}}],
        "stream_options": {"include_obfuscation": True},
        "logit_bias": {"5": 1},
    }
    assert OPENAI_CHAT.unmodelled(json.dumps(body).encode()) == (
        "store",
        "messages[].content[].cache_control",
        "messages[].audio",
        "tools[].function.extra",
        "stream_options.include_obfuscation",
    )


REAL_BODIES = {
    "openai-python, LangChain structured output": {
        "messages": [{"content": "x", "role": "user"}],
        "model": "gpt-4o",
        "response_format": {
            "type": "json_schema",
            "json_schema": {"schema": {"type": "object"}, "name": "Answer", "strict": True},
        },
        "stream": False,
        "max_completion_tokens": 64000,
    },
    "LlamaIndex, sampling always": {
        "messages": [{"role": "user", "content": "x"}],
        "model": "gpt-4o",
        "stream": False,
        "temperature": 0.1,
    },
    "instructor, forced tool": {
        "messages": [{"role": "user", "content": "x"}],
        "model": "m",
        "tools": [{"type": "function", "function": {"name": "User", "description": "", "parameters": {}}}],
        "tool_choice": {"type": "function", "function": {"name": "User"}},
    },
    "LibreChat": {
        "model": "m",
        "user": "65f",
        "presence_penalty": 0,
        "frequency_penalty": 0,
        "top_p": 1,
        "stream": True,
        "messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "x"}],
    },
    "Vercel AI SDK": {
        "model": "m",
        "max_tokens": 4096,
        "messages": [{"role": "user", "content": [{"type": "text", "text": "x"}]}],
        "tool_choice": "auto",
        "tools": [],
        "stream": True,
        "stream_options": {"include_usage": True},
    },
}


@pytest.mark.parametrize("name", REAL_BODIES)
def test_bodies_of_real_clients_are_read(name: str) -> None:
    body = json.dumps(REAL_BODIES[name]).encode()
    assert OPENAI_CHAT.decode(body, {}).raw == body


def test_a_completions_request() -> None:
    body = json.dumps(
        {
            "model": "m",
            "prompt": ["a", "b"],
            "suffix": "z",
            "echo": True,
            "logprobs": 2,
            "max_tokens": 0,
            "n": 2,
            "stream": True,
            "stream_options": {"include_usage": True},
            "user": "u",
            "best_of": None,
        }
    ).encode()
    assert OPENAI_COMPLETIONS.decode(body, {}) == TextCall(
        model="m",
        dialect="openai",
        raw=body,
        stream=True,
        prompts=("a", "b"),
        sampling=Sampling(max_tokens=0, n=2, logprobs=2),
        suffix="z",
        echo=True,
        user="u",
        include_usage=True,
    )


@pytest.mark.parametrize(
    ("given", "expected"),
    [("a", ("a",)), ([1, 2], ((1, 2),)), ([[1], [2, 3]], ((1,), (2, 3))), (["a"], ("a",))],
)
def test_an_embeddings_request(given: object, expected: tuple[object, ...]) -> None:
    body = json.dumps({"model": "m", "input": given, "encoding_format": "base64", "dimensions": 8}).encode()
    assert OPENAI_EMBEDDINGS.decode(body, {}) == EmbedCall(
        model="m", dialect="openai", raw=body, inputs=expected, dimensions=8, base64=True
    )
