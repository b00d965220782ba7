"""The documented models and the wire types are one truth: both accept and refuse the same bodies."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from llm_server.api.schemas import anthropic, openai
from llm_server.contract import ErrorKind, ServerError
from llm_server.wire import (
    ANTHROPIC_COUNT,
    ANTHROPIC_MESSAGES,
    OPENAI_CHAT,
    OPENAI_COMPLETIONS,
    OPENAI_EMBEDDINGS,
    Codec,
)
from tests.wire import bodies

ENDPOINTS = pytest.mark.parametrize(
    ("codec", "model", "valid"),
    [
        pytest.param(OPENAI_CHAT, openai.ChatCompletionRequest, bodies.CHAT, id="chat"),
        pytest.param(OPENAI_COMPLETIONS, openai.CompletionRequest, bodies.COMPLETIONS, id="completions"),
        pytest.param(OPENAI_EMBEDDINGS, openai.EmbeddingRequest, bodies.EMBEDDINGS, id="embeddings"),
        pytest.param(ANTHROPIC_MESSAGES, anthropic.MessageRequest, bodies.MESSAGES, id="messages"),
        pytest.param(ANTHROPIC_COUNT, anthropic.CountTokensRequest, bodies.COUNT, id="count"),
    ],
)


def accepted(codec: Codec, body: bytes) -> bool:
    try:
        codec.decode(body, {})
    except ServerError as refusal:
        if refusal.kind is not ErrorKind.INVALID_REQUEST or not refusal.message:
            raise
        return False
    return True


def documented(model: type[BaseModel], body: bytes) -> bool:
    try:
        model.model_validate_json(body)
    except ValidationError:
        return False
    return True


@ENDPOINTS
@given(data=st.data())
def test_valid_bodies_are_accepted_by_both(
    codec: Codec, model: type[BaseModel], valid: st.SearchStrategy[Any], data: st.DataObject
) -> None:
    body = json.dumps(data.draw(valid)).encode()
    codec.decode(body, {})
    model.model_validate_json(body)


@ENDPOINTS
@settings(max_examples=200)
@given(data=st.data())
def test_bodies_with_one_change_are_accepted_by_both_or_neither(
    codec: Codec, model: type[BaseModel], valid: st.SearchStrategy[Any], data: st.DataObject
) -> None:
    body = json.dumps(data.draw(bodies.mutated(valid))).encode()
    assert accepted(codec, body) == documented(model, body), body.decode()


@ENDPOINTS
def test_the_documented_example_is_accepted(
    codec: Codec, model: type[BaseModel], valid: st.SearchStrategy[Any]
) -> None:
    for example in model.model_json_schema()["examples"]:
        assert accepted(codec, json.dumps(example).encode())
