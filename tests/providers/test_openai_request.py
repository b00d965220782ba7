"""What an OpenAI-compatible server is sent: the caller's own bytes, little changed; text and embeddings."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw, json

from llm_server.contract import (
    CountCall,
    EmbedCall,
    ErrorKind,
    Facts,
    HttpRequest,
    Sampling,
    ServerError,
    Text,
    TextCall,
)
from llm_server.providers import ROWS
from llm_server.providers.building import quirks
from llm_server.providers.dialects.openai import OpenAI
from llm_server.providers.quirks import Quirks
from tests.providers.calls import chat, from_openai, user

PLAIN = Quirks()
SCHEMA = Raw(b'{"type":"object","properties":{"a":{"type":"integer"}}}')


def encode(call: Any, q: Quirks = PLAIN, facts: Facts | None = None) -> HttpRequest:
    return OpenAI(q).encode(call, facts or Facts())


def sent(call: Any, q: Quirks = PLAIN, facts: Facts | None = None) -> dict[str, Any]:
    return json.decode(encode(call, q, facts).body)  # type: ignore[no-any-return]  # a JSON object


def row(name: str) -> Quirks:
    return ROWS[name].quirks


# --- the caller's own fields -------------------------------------------------------------------------------


def test_callers_fields_go_on_unchanged_but_for_the_model() -> None:
    call = from_openai("gpt-x", temperature=0.1, future_field={"a": [1, None]}, metadata={"k": "v"})
    assert sent(call) == {
        "model": "gpt-x",
        "messages": [{"role": "user", "content": "Hi"}],
        "temperature": 0.1,
        "future_field": {"a": [1, None]},
        "metadata": {"k": "v"},
    }
    assert encode(call).dropped == ()


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.from_regex(r"x_[a-z]{1,6}", fullmatch=True), json_values, max_size=4))
def test_unknown_fields_survive_whatever_they_hold(extra: dict[str, Any]) -> None:
    body = sent(from_openai("gpt-x", **extra))
    assert {name: body[name] for name in extra} == extra


def test_numbers_and_spacing_inside_a_field_are_the_callers_own_bytes() -> None:
    raw = b'{"model":"p","messages":[ {"role":"user","content":"Hi"} ], "x":1.0000000000000000001}'
    body = encode(chat(dialect="openai", raw=raw)).body
    assert b'"messages":[ {"role":"user","content":"Hi"} ]' in body
    assert b'"x":1.0000000000000000001' in body


def test_altered_call_is_translated() -> None:
    call = from_openai(future_field=1).altered(messages=(user(Text("changed")),))
    assert sent(call) == {"model": "m", "messages": [{"role": "user", "content": "changed"}]}


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (None, {"include_usage": True}),
        ({"include_usage": False}, {"include_usage": True}),
        ({"include_obfuscation": False}, {"include_obfuscation": False, "include_usage": True}),
    ],
)
def test_usage_is_always_asked_for_in_streams(
    options: dict[str, Any] | None, expected: dict[str, Any]
) -> None:
    call = from_openai(stream=True, stream_options=options)
    assert sent(call)["stream_options"] == expected
    assert "stream_options" not in sent(call, Quirks(stream_options=False))
    assert encode(call, Quirks(stream_options=False)).dropped == ()


def test_refused_sampling_parameters_are_left_out_and_named_but_not_when_null() -> None:
    call = from_openai(temperature=0.1, top_p=None, presence_penalty=0.5)
    request = encode(call, facts=Facts(refuses=frozenset({"temperature", "top_p", "stop"})))
    assert set(json.decode(request.body)) == {"model", "messages", "presence_penalty"}
    assert request.dropped == ("temperature",)


@pytest.mark.parametrize(
    ("provider", "given", "expected"),
    [
        ("openai", {"max_tokens": 5}, {"max_completion_tokens": 5}),
        ("openai", {"max_completion_tokens": 5}, {"max_completion_tokens": 5}),
        ("openai", {"max_tokens": 5, "max_completion_tokens": 6}, {"max_completion_tokens": 6}),
        ("deepseek", {"max_completion_tokens": 5}, {"max_tokens": 5}),
        ("deepseek", {"max_tokens": 5}, {"max_tokens": 5}),
        ("mistral", {"seed": 3, "max_completion_tokens": 5}, {"random_seed": 3, "max_tokens": 5}),
    ],
)
def test_fields_have_the_names_that_the_server_knows(
    provider: str, given: dict[str, Any], expected: dict[str, Any]
) -> None:
    body = sent(from_openai(**given), row(provider))
    assert {name: value for name, value in body.items() if name not in {"model", "messages"}} == expected


def test_functions_get_parameters_where_they_may_not_be_left_out() -> None:
    bare = {"type": "function", "function": {"name": "now"}}
    full = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "x": 1}}}
    own = from_openai(tools=[bare, full])
    assert sent(own)["tools"] == [bare, full]
    empty = {"type": "object", "properties": {}}
    clothed = {"type": "function", "function": {"name": "now", "parameters": empty}}
    assert sent(own, row("mistral"))["tools"] == [clothed, full]


def test_strict_server_gets_only_the_fields_it_knows() -> None:
    request = encode(from_openai(user="u", store=True, top_p=0.5, stream=True), row("mistral"))
    assert set(json.decode(request.body)) == {"model", "messages", "top_p", "stream"}
    assert request.dropped == ("store", "user")


@pytest.mark.parametrize(
    ("provider", "role"), [("openai", "developer"), ("azure", "developer"), ("groq", "system")]
)
def test_developer_becomes_system_where_it_is_unknown(provider: str, role: str) -> None:
    messages = [{"role": "developer", "content": "Be brief"}, {"role": "user", "content": "developer"}]
    body = sent(from_openai(messages=messages), row(provider))
    assert [message["role"] for message in body["messages"]] == [role, "user"]
    assert body["messages"][1] == messages[1]


TOOL_TURNS: list[dict[str, Any]] = [
    {
        "role": "assistant",
        "content": None,
        "x": 1,
        "tool_calls": [
            {
                "id": "call_5uxEBMFySqqQGu02I5QHA8k6",
                "type": "function",
                "function": {"name": "f", "arguments": "{}"},
            },
            {"id": "abcDEF123", "type": "function", "function": {"name": "f", "arguments": "{}"}},
        ],
    },
    {"role": "tool", "tool_call_id": "call_5uxEBMFySqqQGu02I5QHA8k6", "content": "1"},
    {"role": "tool", "tool_call_id": "abcDEF123", "content": "2"},
]


def test_tool_call_ids_are_fitted_the_same_way_in_calls_and_results() -> None:
    body = sent(from_openai(messages=TOOL_TURNS), row("mistral"))["messages"]
    first, second = (call["id"] for call in body[0]["tool_calls"])
    assert (len(first), first.isalnum(), second) == (9, True, "abcDEF123")
    assert [message["tool_call_id"] for message in body[1:]] == [first, second]
    assert body[0]["x"] == 1
    assert sent(from_openai(messages=TOOL_TURNS), row("openai"))["messages"] == TOOL_TURNS


def test_names_are_left_out_where_they_are_refused() -> None:
    messages = [{"role": "user", "content": "Hi", "name": "ada"}]
    request = encode(from_openai(messages=messages), row("groq"))
    assert json.decode(request.body)["messages"] == [{"role": "user", "content": "Hi"}]
    assert request.dropped == ("messages.name",)
    assert sent(from_openai(messages=messages), row("openai"))["messages"] == messages


# --- where it is sent --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("q", "path"),
    [
        (row("openai"), "chat/completions"),
        (row("ollama"), "v1/chat/completions"),
        (row("azure"), "openai/v1/chat/completions"),
        (
            quirks(ROWS["azure"], "2024-10-21"),
            "openai/deployments/a%2Fb%3F..%0D%0A/chat/completions?api-version=2024-10-21",
        ),
    ],
)
def test_path_has_the_model_only_as_data(q: Quirks, path: str) -> None:
    assert encode(from_openai("a/b?..\r\n"), q).path == path


@pytest.mark.parametrize(
    ("q", "path"),
    [
        (row("openai"), "models"),
        (row("ollama"), "api/tags"),
        (row("azure"), "openai/v1/models"),
        (quirks(ROWS["azure"], "2024-10-21"), "openai/models?api-version=2024-10-21"),
    ],
)
def test_models_are_listed_where_the_server_lists_them(q: Quirks, path: str) -> None:
    request = OpenAI(q).models_request()
    assert (request.method, request.path, request.body) == ("GET", path, b"")


# --- other calls -------------------------------------------------------------------------------------------


def test_counting_is_refused() -> None:
    with pytest.raises(ServerError) as caught:
        encode(CountCall(model="m", messages=()))
    assert caught.value.kind is ErrorKind.UNSUPPORTED


def test_text_calls_are_translated() -> None:
    call = TextCall(
        model="m",
        prompts=("a",),
        sampling=Sampling(max_tokens=5, logprobs=2),
        suffix="z",
        echo=True,
        stream=True,
    )
    request = encode(call, row("openai"))
    assert request.path == "completions"
    assert json.decode(request.body) == {
        "model": "m",
        "prompt": "a",
        "stream": True,
        "stream_options": {"include_usage": True},
        "max_tokens": 5,
        "logprobs": 2,
        "suffix": "z",
        "echo": True,
    }
    assert sent(TextCall(model="m", prompts=("a", (1, 2))))["prompt"] == ["a", [1, 2]]


def test_text_calls_go_on_as_they_came() -> None:
    raw = b'{"model":"public","prompt":"a","best_of":2,"max_tokens":5}'
    call = TextCall(model="m", dialect="openai", raw=raw, prompts=("a",))
    assert sent(call, row("openai")) == {"model": "m", "prompt": "a", "best_of": 2, "max_tokens": 5}


def test_embedding_calls() -> None:
    call = EmbedCall(model="m", inputs=("a", (1, 2)), dimensions=8, base64=True, user="u")
    body = {"model": "m", "input": ["a", [1, 2]], "dimensions": 8, "user": "u", "encoding_format": "base64"}
    assert encode(call).path == "embeddings"
    assert sent(call) == body
    own = EmbedCall(
        model="m",
        dialect="openai",
        raw=b'{"model":"public","input":"a","dimensions":8,"encoding_format":"base64","x":1}',
        inputs=("a",),
        base64=True,
    )
    assert sent(own, row("mistral")) == {
        "model": "m",
        "input": "a",
        "output_dimension": 8,
        "encoding_format": "base64",
    }
    assert encode(own, row("mistral")).dropped == ("x",)
    # Numbers are asked for where base64 is unknown; they are packed on the way out.
    assert sent(own, row("together")) == {"model": "m", "input": "a", "dimensions": 8, "x": 1}
    assert encode(own, row("together")).dropped == ()


def test_a_group_of_embedding_calls_keeps_what_they_have_in_common() -> None:
    raw = b'{"model":"public","input":"a","dimensions":8,"x":1}'
    call = EmbedCall(model="m", dialect="openai", raw=raw, inputs=("a",), dimensions=8)
    group = call.amend(inputs=("a", "b"))
    assert sent(group, row("openai")) == {"model": "m", "input": ["a", "b"], "dimensions": 8, "x": 1}
