"""Anthropic bodies as real clients send them, and what they mean."""

import json
from typing import Any

import pytest

from llm_server.contract import (
    ChatCall,
    CountCall,
    Image,
    Message,
    Opaque,
    Reasoning,
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
from llm_server.wire import ANTHROPIC_COUNT, ANTHROPIC_MESSAGES
from llm_server.wire.anthropic.types import OPAQUE_BLOCKS

USER = {"role": "user", "content": "hi"}
VERSIONS = ["2023-06-01", "2026-10-21"]


def ask(**fields: Any) -> ChatCall:
    body = json.dumps({"model": "m", "max_tokens": 9, "messages": [USER], **fields}).encode()
    call = ANTHROPIC_MESSAGES.decode(body, {})
    assert isinstance(call, ChatCall)
    return call


def parts(*blocks: dict[str, Any], role: str = "user") -> tuple[object, ...]:
    return ask(messages=[{"role": role, "content": list(blocks)}]).messages[0].parts


@pytest.mark.parametrize("version", VERSIONS)
def test_the_smallest_request(version: str) -> None:
    body = b'{"model":"m","max_tokens":9,"messages":[{"role":"user","content":"hi"}]}'
    headers = {"anthropic-beta": "a-1,b-2", "anthropic-version": version, "x-api-key": "secret"}
    assert ANTHROPIC_MESSAGES.decode(body, headers) == ChatCall(
        model="m",
        dialect="anthropic",
        raw=body,
        headers=(("anthropic-version", version), ("anthropic-beta", "a-1,b-2")),
        messages=(Message(Role.USER, (Text("hi"),)),),
        sampling=Sampling(max_tokens=9),
    )


@pytest.mark.parametrize("system", ["Be kind.", [{"type": "text", "text": "Be kind."}]])
def test_the_system_prompt_comes_first(system: object) -> None:
    assert ask(system=system).messages == (
        Message(Role.SYSTEM, (Text("Be kind."),)),
        Message(Role.USER, (Text("hi"),)),
    )


def test_instructions_in_the_middle_stay_in_place() -> None:
    call = ask(
        messages=[
            USER,
            {"role": "system", "content": "Now in French."},
            {"role": "assistant", "content": "O"},
        ]
    )
    assert [message.role for message in call.messages] == [Role.USER, Role.SYSTEM, Role.ASSISTANT]


def test_a_turn_of_tool_use() -> None:
    assert parts(
        {"type": "thinking", "thinking": "hm", "signature": "s1"},
        {"type": "redacted_thinking", "data": "cipher"},
        {"type": "text", "text": "Let me look."},
        {
            "type": "tool_use",
            "id": "t1",
            "name": "f",
            "input": {"city": "Köln"},
            "caller": {"type": "direct"},
        },
        {"type": "tool_use", "id": "t2", "name": "g", "input": {}},
        role="assistant",
    ) == (
        Thinking(text="hm", signature="s1"),
        Thinking(signature="cipher", redacted=True),
        Text("Let me look."),
        ToolCall("t1", "f", '{"city": "K\\u00f6ln"}'),
        ToolCall("t2", "g", "{}"),
    )


def test_tool_results() -> None:
    picture = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AA=="}}
    assert parts(
        {"type": "tool_result", "tool_use_id": "t1", "content": "sunny"},
        {
            "type": "tool_result",
            "tool_use_id": "t2",
            "is_error": True,
            "content": [{"type": "text", "text": "no"}],
        },
        {
            "type": "tool_result",
            "tool_use_id": "t3",
            "content": [picture, {"type": "document", "source": {}}],
        },
        {"type": "tool_result", "tool_use_id": "t4"},
        {"type": "text", "text": "Go on."},
    ) == (
        ToolResult(call_id="t1", parts=(Text("sunny"),)),
        ToolResult(call_id="t2", parts=(Text("no"),), is_error=True),
        ToolResult(call_id="t3", parts=(Image(data="AA==", media_type="image/png"),)),
        Opaque("document"),
        ToolResult(call_id="t4", parts=()),
        Text("Go on."),
    )


def test_images() -> None:
    assert parts(
        {"type": "image", "source": {"type": "url", "url": "https://x.test/a.png"}},
        {"type": "image", "source": {"type": "base64", "media_type": "image/webp", "data": "AAAA"}},
        {"type": "image", "source": {"type": "file", "file_id": "file_1"}},
        {"type": "image", "source": {"type": "hologram"}},
    ) == (
        Image(url="https://x.test/a.png"),
        Image(data="AAAA", media_type="image/webp"),
        Opaque("image from file"),
        Opaque("image from hologram"),
    )


@pytest.mark.parametrize("kind", [*OPAQUE_BLOCKS, "invented_tomorrow"])
def test_blocks_that_nobody_models_are_named(kind: str) -> None:
    assert parts({"type": kind, "content": [{"a": 1}]}, {"type": "text", "text": "and"}) == (
        Opaque(kind),
        Text("and"),
    )


def test_tools() -> None:
    schema = {"type": "object", "properties": {"city": {"type": "string"}}}
    call = ask(
        tools=[
            {"name": "f", "description": "d", "input_schema": schema, "strict": True, "defer_loading": True},
            {"type": "custom", "name": "g", "input_schema": {}},
            {"type": "web_search_20250305", "name": "web_search", "max_uses": 3},
            {"type": "computer_toolset_20260801"},
        ]
    )
    first, second, *others = call.tools
    assert (first.name, first.description, first.strict, second.name) == ("f", "d", True, "g")
    assert json.loads(bytes(first.parameters)) == schema
    assert others == [
        Tool(name="web_search", type="web_search_20250305"),
        Tool(name="computer_toolset_20260801", type="computer_toolset_20260801"),
    ]


@pytest.mark.parametrize(
    ("choice", "expected", "parallel"),
    [
        (None, None, None),
        ({"type": "auto"}, ToolChoice("auto"), None),
        ({"type": "any", "disable_parallel_tool_use": True}, ToolChoice("required"), False),
        ({"type": "tool", "name": "f", "disable_parallel_tool_use": False}, ToolChoice("tool", "f"), True),
        ({"type": "none"}, ToolChoice("none"), None),
    ],
)
def test_tool_choice(choice: object, expected: ToolChoice | None, parallel: bool | None) -> None:
    call = ask(tool_choice=choice, tools=[{"name": "f", "input_schema": {}}])
    assert (call.tool_choice, call.parallel_tools) == (expected, parallel)


@pytest.mark.parametrize("choice", [{"type": "any"}, {"type": "tool", "name": "f"}])
def test_a_tool_cannot_be_required_without_tools(choice: object) -> None:
    with pytest.raises(ServerError) as raised:
        ask(tool_choice=choice)
    assert raised.value.param == "tool_choice"
    assert ask(tool_choice={"type": "auto"}).tools == ()


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, None),
        ({"thinking": {"type": "enabled", "budget_tokens": 2048}}, Reasoning(budget_tokens=2048)),
        ({"thinking": {"type": "adaptive"}}, Reasoning()),
        ({"thinking": {"type": "between_tools"}}, Reasoning()),
        ({"thinking": {"type": "disabled"}}, Reasoning(enabled=False)),
        ({"output_config": {"effort": "high"}}, Reasoning(effort="high")),
        ({"thinking": {"type": "adaptive"}, "output_config": {"effort": "max"}}, Reasoning(effort="max")),
    ],
)
def test_thinking(fields: dict[str, Any], expected: Reasoning | None) -> None:
    assert ask(**fields).reasoning == expected


@pytest.mark.parametrize("where", ["output_config", "output_format"])
def test_output_format(where: str) -> None:
    form = {"type": "json_schema", "schema": {"type": "object"}}
    output = ask(**{where: {"format": form} if where == "output_config" else form}).output
    assert output is not None
    assert (output.kind, output.strict) == ("json_schema", True)
    assert json.loads(bytes(output.schema)) == {"type": "object"}


def test_sampling_and_user() -> None:
    call = ask(
        temperature=1, top_p=0.9, top_k=5, stop_sequences=["a"], metadata={"user_id": "u"}, stream=True
    )
    assert call.sampling == Sampling(max_tokens=9, temperature=1.0, top_p=0.9, top_k=5, stop=("a",))
    assert (call.user, call.stream) == ("u", True)


def test_a_count_needs_no_limit() -> None:
    body = json.dumps({"model": "m", "messages": [USER], "system": "s"}).encode()
    assert ANTHROPIC_COUNT.decode(body, {"anthropic-version": VERSIONS[0]}) == CountCall(
        model="m",
        dialect="anthropic",
        raw=body,
        headers=(("anthropic-version", VERSIONS[0]),),
        messages=(Message(Role.SYSTEM, (Text("s"),)), Message(Role.USER, (Text("hi"),))),
    )


CLAUDE_CODE = {
    "model": "claude-sonnet-4-5",
    "max_tokens": 32000,
    "stream": True,
    "system": [
        {"type": "text", "text": "x-anthropic-billing-header: cc_version=2; cch=abc;"},
        {"type": "text", "text": "You are an agent.", "cache_control": {"type": "ephemeral"}},
    ],
    "messages": [
        {"role": "user", "content": [{"type": "text", "text": "hi", "cache_control": {"type": "ephemeral"}}]},
        {
            "role": "assistant",
            "content": [{"type": "tool_use", "id": "t", "name": "Bash", "input": {"command": "ls"}}],
        },
        {
            "role": "user",
            "content": [
                {
                    "type": "tool_result",
                    "tool_use_id": "t",
                    "content": [{"type": "tool_reference", "tool_name": "Web"}],
                }
            ],
        },
        {"role": "system", "content": "The date changed."},
    ],
    "tools": [
        {
            "name": "Bash",
            "description": "d",
            "input_schema": {"type": "object"},
            "eager_input_streaming": True,
        }
    ],
    "thinking": {"type": "adaptive", "display": "summarized"},
    "context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
    "output_config": {"effort": "medium"},
    "metadata": {"user_id": "user_x"},
}
LANGCHAIN = {
    "model": "m",
    "max_tokens": 64000,
    "messages": [USER],
    "tools": [{"name": "Answer", "input_schema": {"type": "object"}, "description": ""}],
    "tool_choice": {"type": "tool", "name": "Answer"},
}


@pytest.mark.parametrize("body", [CLAUDE_CODE, LANGCHAIN])
def test_bodies_of_real_clients_are_read(body: dict[str, Any]) -> None:
    raw = json.dumps(body).encode()
    assert ANTHROPIC_MESSAGES.decode(raw, {}).raw == raw


def test_what_nothing_models_is_listed_once_by_path() -> None:
    assert ANTHROPIC_MESSAGES.unmodelled(json.dumps(CLAUDE_CODE).encode()) == (
        "system[].cache_control",
        "messages[].content[].cache_control",
        "tools[].eager_input_streaming",
        "thinking.display",
        "context_management",
    )
