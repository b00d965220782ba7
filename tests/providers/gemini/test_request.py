"""Requests: golden files, the vendor's own types as judge, tables of the fine print, and refusals."""

import json
from pathlib import Path
from typing import Any

import pytest
from google.genai import types
from msgspec import Raw

from llm_server.contract import (
    Call,
    ChatCall,
    EmbedCall,
    ErrorKind,
    Facts,
    Image,
    Message,
    Opaque,
    Reasoning,
    Role,
    Sampling,
    ServerError,
    Text,
    TextCall,
    ToolCall,
    ToolResult,
)
from llm_server.providers.dialects.gemini import Gemini
from tests.providers.gemini.calls import CALLS, HELLO, model, user

GOLDEN = Path(__file__).parent / "golden"
DIALECT = Gemini()
ANY = Facts()


def encoded(call: Call, facts: Facts = ANY) -> dict[str, Any]:
    request = DIALECT.encode(call, facts)
    assert request.method == "POST"
    return {"path": request.path, "body": json.loads(request.body), "dropped": list(request.dropped)}


@pytest.mark.parametrize("name", CALLS)
def test_the_request_is_the_golden_one(name: str) -> None:
    assert encoded(CALLS[name]) == json.loads((GOLDEN / f"{name}.json").read_text(encoding="utf-8"))


def test_every_golden_file_has_its_call() -> None:
    assert {file.stem for file in GOLDEN.iterdir()} == set(CALLS)


def _validate(body: dict[str, Any]) -> None:
    """Give each field to Google's own type of it (they refuse unknown names); nothing may be left over."""
    judges: dict[str, Any] = {
        "contents": types.Content,
        "systemInstruction": types.Content,
        "tools": types.Tool,
        "toolConfig": types.ToolConfig,
        "generationConfig": types.GenerationConfig,
    }
    for field, value in body.items():
        for item in value if isinstance(value, list) else [value]:
            judges[field].model_validate_json(json.dumps(item))


@pytest.mark.parametrize("name", [name for name, call in CALLS.items() if isinstance(call, ChatCall)])
def test_googles_types_accept_the_request(name: str) -> None:
    body = encoded(CALLS[name])["body"]
    if inner := body.get("generateContentRequest"):
        assert inner.pop("model") == f"models/{CALLS[name].model}"
        assert set(body) == {"generateContentRequest"}
    _validate(inner or body)


@pytest.mark.parametrize("name", ["embed", "embed_dimensions"])
def test_googles_types_accept_what_is_embedded(name: str) -> None:
    for request in encoded(CALLS[name])["body"]["requests"]:
        assert types.Content.model_validate(request.pop("content")).parts
        assert request.pop("model") == "models/gemini-embedding-001"
        types.EmbedContentConfig.model_validate(request)


def test_googles_types_do_refuse_unknown_names() -> None:
    with pytest.raises(ValueError, match="extra"):
        _validate({"generationConfig": {"maxTokens": 1}})


def test_the_model_list_is_one_page() -> None:
    request = DIALECT.models_request()
    assert (request.method, request.path, request.body) == ("GET", "models?pageSize=1000", b"")


@pytest.mark.parametrize(
    ("name", "reasoning", "config", "dropped"),
    [
        ("gemini-3-pro", Reasoning(), {"includeThoughts": True}, []),
        (
            "gemini-3-pro",
            Reasoning(effort="minimal"),
            {"includeThoughts": True, "thinkingLevel": "LOW"},
            [],
        ),
        (
            "gemini-3-pro",
            Reasoning(effort="medium"),
            {"includeThoughts": True, "thinkingLevel": "MEDIUM"},
            [],
        ),
        (
            "gemini-3-pro",
            Reasoning(effort="xhigh"),
            {"includeThoughts": True, "thinkingLevel": "HIGH"},
            ["reasoning"],
        ),
        ("gemini-3-pro", Reasoning(budget_tokens=9), {"includeThoughts": True, "thinkingBudget": 9}, []),
        ("gemini-3-pro", Reasoning(enabled=False), {"thinkingLevel": "LOW"}, ["reasoning"]),
        (
            "gemini-flash-latest",
            Reasoning(effort="high"),
            {"includeThoughts": True, "thinkingLevel": "HIGH"},
            [],
        ),
        ("gemini-10-pro", Reasoning(effort="high"), {"includeThoughts": True, "thinkingLevel": "HIGH"}, []),
        ("gemini-2.5-pro", Reasoning(), {"includeThoughts": True}, []),
        (
            "gemini-2.5-pro",
            Reasoning(effort="minimal"),
            {"includeThoughts": True, "thinkingBudget": 1024},
            [],
        ),
        ("gemini-2.5-pro", Reasoning(effort="medium"), {"includeThoughts": True, "thinkingBudget": 8192}, []),
        ("gemini-2.5-pro", Reasoning(effort="high"), {"includeThoughts": True, "thinkingBudget": 24576}, []),
        (
            "gemini-2.5-pro",
            Reasoning(effort="max"),
            {"includeThoughts": True, "thinkingBudget": 24576},
            ["reasoning"],
        ),
        ("gemini-2.5-pro", Reasoning(effort="none"), {"thinkingBudget": 0}, []),
        ("gemini-2.5-pro", Reasoning(enabled=False), {"thinkingBudget": 0}, []),
        ("gemma-4-31b-it", Reasoning(effort="low"), {"includeThoughts": True, "thinkingBudget": 1024}, []),
    ],
)
def test_reasoning(name: str, reasoning: Reasoning, config: dict[str, Any], dropped: list[str]) -> None:
    request = encoded(ChatCall(model=name, messages=HELLO, reasoning=reasoning))
    assert request["body"]["generationConfig"] == {"thinkingConfig": config}
    assert request["dropped"] == dropped


def test_a_model_that_cannot_think_is_not_asked_to() -> None:
    call = ChatCall(model="gemini-2.0-flash", messages=HELLO, reasoning=Reasoning(effort="low"))
    request = encoded(call, Facts(reasoning=False))
    assert "generationConfig" not in request["body"]
    assert request["dropped"] == ["reasoning"]


def test_refused_sampling_is_left_out_and_named() -> None:
    sampling = Sampling(temperature=0.1, top_p=0.5, seed=3)
    call = ChatCall(model="gemini-9", messages=HELLO, sampling=sampling)
    request = encoded(call, Facts(refuses=frozenset({"temperature", "seed", "top_k"})))
    assert request["body"]["generationConfig"] == {"topP": 0.5}
    assert request["dropped"] == ["temperature", "seed"]


def test_a_message_name_is_named_once() -> None:
    turns = (Message(Role.USER, (Text("a"),), name="ann"), Message(Role.USER, (Text("b"),), name="bob"))
    request = encoded(ChatCall(model="gemini-9", messages=turns))
    assert request["dropped"] == ["messages.name"]


@pytest.mark.parametrize(
    ("call", "kind", "param", "words"),
    [
        (TextCall(model="m", prompts=("x",)), ErrorKind.UNSUPPORTED, None, "text completions"),
        (EmbedCall(model="m", inputs=("x", (1, 2))), ErrorKind.UNSUPPORTED, "input[1]", "token ids"),
        (
            ChatCall(model="m", messages=(*HELLO, user(Opaque("input_audio")))),
            ErrorKind.UNSUPPORTED,
            "messages[1]",
            "'input_audio'",
        ),
        (
            ChatCall(model="m", messages=(user(Image(url="http://example.com/a.png")),)),
            ErrorKind.UNSUPPORTED,
            "messages[0]",
            "inline",
        ),
        (
            ChatCall(model="m", messages=(user(ToolResult(call_id="lost", parts=())),)),
            ErrorKind.INVALID_REQUEST,
            "messages[0]",
            "'lost'",
        ),
        (
            ChatCall(model="m", messages=(*HELLO, model(ToolCall("c", "now", "[1]")))),
            ErrorKind.INVALID_REQUEST,
            "messages[1]",
            "JSON object",
        ),
        (
            ChatCall(model="m", messages=(*HELLO, model(ToolCall("c", "now", '{"half')))),
            ErrorKind.INVALID_REQUEST,
            "messages[1]",
            "'now'",
        ),
    ],
)
def test_what_cannot_be_said_is_refused(call: Call, kind: ErrorKind, param: str | None, words: str) -> None:
    with pytest.raises(ServerError) as refused:
        DIALECT.encode(call, Facts())
    assert (refused.value.kind, refused.value.param) == (kind, param)
    assert words in refused.value.message


def test_a_schema_goes_as_its_bytes() -> None:
    schema = b'{ "type" : "object",\n "properties" : {"n": {"const": 12345678901234567890}} }'
    tool = CALLS["tools"].tools[0]
    call = ChatCall(model="m", messages=HELLO, tools=(type(tool)(name="t", parameters=Raw(schema)),))
    assert schema in DIALECT.encode(call, Facts()).body
