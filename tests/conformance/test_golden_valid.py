"""The golden requests are right: each vendor's own SDK would have written them.

What is checked are the SDKs' own request types, so a golden file that was updated without thought fails here.
"""

import inspect
import json
from collections.abc import Iterable, Iterator
from functools import cache
from typing import Any

import pytest
from anthropic.types import message_count_tokens_params, message_create_params
from cohere import types as cohere
from cohere.v2.client import V2Client
from google.genai import types as gemini
from groq.types.chat import completion_create_params as groq
from mistralai.client import models as mistral
from openai.types import completion_create_params as openai_text
from openai.types import embedding_create_params as openai_embedding
from openai.types.chat import completion_create_params as openai
from pydantic import TypeAdapter, ValidationError

from tests.conformance.enrolled import ENROLLED
from tests.conformance.golden import GOLDEN

Body = dict[str, Any]

CALLERS_OWN = {"audio", "unmodelled"}
"""Calls whose point is that the caller's bytes go on, whether or not this vendor knows what they say."""

BEYOND: dict[str, set[str]] = {
    "anthropic": {"temperature", "top_p", "top_k"},  # gone from the SDK with the models that refuse them
    "groq": {"stream_options"},  # taken by the API, though its SDK cannot say it
    "openai": {"top_k", "reasoning"},  # taken by the servers that copied the API
}
"""Top-level fields that a vendor takes beyond what its SDK's types name."""


def sent(*names: str) -> Iterator[Any]:
    """Yield the golden requests of these rows as test parameters."""
    for who in ENROLLED:
        for path in sorted((GOLDEN / who.id).rglob("*.json")) if who.row.name in names else ():
            if path.stem in CALLERS_OWN:
                continue
            for request in json.loads(path.read_text()).get("requests", ()):
                if request["body"] is not None:
                    marks = f"{path.relative_to(GOLDEN).with_suffix('')}"
                    yield pytest.param(request["target"].partition("?")[0], request["body"], id=marks)


def bodies(*names: str) -> pytest.MarkDecorator:
    """Parametrise ``path, body`` over the golden requests of these rows."""
    return pytest.mark.parametrize(("path", "body"), list(sent(*names)))


OWN_SDK = {"anthropic", "cohere", "gemini", "groq", "mistral"}
COMPATIBLE = tuple(who.row.name for who in ENROLLED if who.row.name not in OWN_SDK)


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def fits(body: Body, kind: Any, extra: set[str]) -> None:
    """Check a body against an SDK's TypedDict, and that it has no other top-level fields but ``extra``."""
    _read(_adapter(kind).validate_python(body))
    known = {name for base in (kind, *kind.__orig_bases__) for name in getattr(base, "__annotations__", ())}
    assert set(body) <= known | extra


def _read(value: Any) -> None:
    """Read all that was validated: what the SDKs' types call ``Iterable`` is checked when it is read."""
    if isinstance(value, dict):
        value = value.values()
    if isinstance(value, Iterable) and not isinstance(value, str | bytes):
        for item in value:
            _read(item)


@bodies(*COMPATIBLE)
def test_openai(path: str, body: Body) -> None:
    kind: Any = openai.CompletionCreateParamsNonStreaming
    if path.endswith("/embeddings"):
        kind = openai_embedding.EmbeddingCreateParams
        _adapter(str | list[str] | list[int] | list[list[int]]).validate_python(body.pop("input"))
        body["input"] = "checked: its type says Iterable of Iterable, which pydantic cannot tell apart"
    elif not path.endswith("/chat/completions"):
        kind = openai_text.CompletionCreateParamsNonStreaming
    elif body.get("stream"):
        kind = openai.CompletionCreateParamsStreaming
    fits(body, kind, BEYOND["openai"])


@bodies("groq")
def test_groq(path: str, body: Body) -> None:
    assert path.endswith("/openai/v1/chat/completions")
    fits(body, groq.CompletionCreateParams, BEYOND["groq"])


@bodies("anthropic")
def test_anthropic(path: str, body: Body) -> None:
    kind: Any = message_create_params.MessageCreateParamsNonStreaming
    if path.endswith("/count_tokens"):
        kind = message_count_tokens_params.MessageCountTokensParams
    elif body.get("stream"):
        kind = message_create_params.MessageCreateParamsStreaming
    fits(body, kind, BEYOND["anthropic"])


@bodies("mistral")
def test_mistral(path: str, body: Body) -> None:
    kind: Any = mistral.ChatCompletionStreamRequest if body.get("stream") else mistral.ChatCompletionRequest
    if path.endswith("/embeddings"):
        kind = mistral.EmbeddingRequest
    kind.model_validate(body)
    assert set(body) <= {*kind.model_fields, *(field.alias for field in kind.model_fields.values())}


GEMINI: dict[str, Any] = {
    "contents": list[gemini.Content],
    "systemInstruction": gemini.Content,
    "tools": list[gemini.Tool],
    "toolConfig": gemini.ToolConfig,
    "generationConfig": gemini.GenerationConfig,
}
"""The fields of a ``GenerateContentRequest``; the types refuse unknown ones."""


@bodies("gemini")
def test_gemini(path: str, body: Body) -> None:
    if path.endswith(":batchEmbedContents"):
        for request in body["requests"]:
            assert set(request) <= {"model", "content", "outputDimensionality", "taskType", "title"}
            _adapter(gemini.Content).validate_python(request["content"])
        return
    if path.endswith(":countTokens"):
        body = body["generateContentRequest"]
        assert body.pop("model").startswith("models/")
    for name, value in body.items():
        _adapter(GEMINI[name]).validate_python(value)


COHERE: dict[str, Any] = {
    "messages": list[cohere.ChatMessageV2],
    "tools": list[cohere.ToolV2],
    "response_format": cohere.ResponseFormatV2,
    "thinking": cohere.Thinking,
}


@bodies("cohere")
def test_cohere(path: str, body: Body) -> None:
    method = V2Client.embed if path.endswith("/embed") else V2Client.chat
    assert set(body) <= {*inspect.signature(method).parameters, "stream"}
    for name in COHERE.keys() & body.keys():
        _adapter(COHERE[name]).validate_python(body[name])


def test_every_row_is_checked_by_some_sdk() -> None:
    assert {who.row.name for who in ENROLLED} == OWN_SDK | set(COMPATIBLE)


def test_these_checks_can_fail() -> None:
    chat: Body = {"model": "m", "messages": [{"role": "user", "content": 5}]}
    with pytest.raises(ValidationError):
        fits(chat, openai.CompletionCreateParamsNonStreaming, set())
    with pytest.raises(AssertionError):
        fits({"model": "m", "messages": [], "other": 1}, openai.CompletionCreateParamsNonStreaming, set())
    with pytest.raises(ValidationError):
        _adapter(GEMINI["generationConfig"]).validate_python({"maxTokens": 1})
    with pytest.raises(ValidationError):
        mistral.ChatCompletionRequest.model_validate({"model": "m"})
