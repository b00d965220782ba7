"""Every word for the form of an answer, in both dialects, becomes one constraint."""

import json
from typing import Any

import pytest
from msgspec import Raw

from llm_server.contract import ChatCall, ErrorKind, OutputFormat, ServerError
from llm_server.wire import ANTHROPIC_MESSAGES, OPENAI_CHAT

HELLO = [{"role": "user", "content": "Hi"}]
SCHEMA = {"type": "object"}
RAW = Raw(b'{"type":"object"}')


def openai(headers: dict[str, str] | None = None, **fields: Any) -> ChatCall:
    body = json.dumps({"model": "m", "messages": HELLO, **fields}, separators=(",", ":")).encode()
    call = OPENAI_CHAT.decode(body, headers or {})
    assert isinstance(call, ChatCall)
    return call


def anthropic(headers: dict[str, str] | None = None, **fields: Any) -> ChatCall:
    body = json.dumps({"model": "m", "max_tokens": 9, "messages": HELLO, **fields}, separators=(",", ":"))
    call = ANTHROPIC_MESSAGES.decode(body.encode(), headers or {})
    assert isinstance(call, ChatCall)
    return call


REGISTERED = {"schema_id": "person", "schema_version": 3}
LATEST = {"schema_id": "person", "schema_version": "latest"}


@pytest.mark.parametrize(
    ("fields", "form"),
    [
        ({"guided_json": SCHEMA}, OutputFormat(kind="json_schema", schema=RAW, strict=True)),
        ({"guided_regex": "a+"}, OutputFormat(kind="regex", pattern="a+")),
        ({"guided_choice": ["a", "b"]}, OutputFormat(kind="choice", choices=("a", "b"))),
        ({"guided_grammar": "start: x"}, OutputFormat(kind="grammar", grammar="start: x")),
        ({"structured_outputs": {"json": SCHEMA}}, OutputFormat(kind="json_schema", schema=RAW, strict=True)),
        ({"guided_json": '{"type":"object"}'}, OutputFormat(kind="json_schema", schema=RAW, strict=True)),
        ({"structured_outputs": {"json_object": True}}, OutputFormat(kind="json_object")),
        ({"structured_outputs": {"json_object": False, "structural_tag": None}}, None),
        ({"structured_outputs": {"regex": "a+"}}, OutputFormat(kind="regex", pattern="a+")),
        ({"structured_outputs": {"choice": ["a"]}}, OutputFormat(kind="choice", choices=("a",))),
        ({"structured_outputs": {"grammar": "g"}}, OutputFormat(kind="grammar", grammar="g")),
        ({"structured_outputs": {}, "guided_json": None, "guided_regex": None}, None),
        (
            {"response_format": {"type": "json_schema", "json_schema": REGISTERED}},
            OutputFormat(kind="json_schema", schema_id="person", schema_version=3),
        ),
        (
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {**LATEST, "name": "n", "strict": True},
                }
            },
            OutputFormat(kind="json_schema", schema_id="person", name="n", strict=True),
        ),
        ({"response_format": {"type": "text"}, "guided_regex": "x"}, OutputFormat(kind="regex", pattern="x")),
    ],
)
def test_openai_s_words_and_vllm_s(fields: dict[str, Any], form: OutputFormat | None) -> None:
    assert openai(**fields).output == form


@pytest.mark.parametrize("place", ["output_config", "output_format"])
def test_anthropic_s_words(place: str) -> None:
    def asked(form: dict[str, Any]) -> OutputFormat | None:
        given = {"type": "json_schema", **form}
        return anthropic(**{place: {"format": given} if place == "output_config" else given}).output

    assert asked({"schema": SCHEMA}) == OutputFormat(kind="json_schema", schema=RAW, strict=True)
    named = OutputFormat(kind="json_schema", schema_id="person", schema_version=3, strict=True)
    assert asked(REGISTERED) == named


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"guided_regex": "a", "guided_choice": ["a"]}, "guided_choice"),
        ({"guided_regex": "a", "response_format": {"type": "json_object"}}, "guided_regex"),
        ({"structured_outputs": {"regex": "a", "json": {}}}, "structured_outputs.regex"),
        ({"guided_json": [1]}, "guided_json"),
        ({"guided_json": "no schema"}, "guided_json"),
        ({"structured_outputs": {"structural_tag": "{}"}}, "structured_outputs.structural_tag"),
        ({"structured_outputs": {"json_object": True, "regex": "a"}}, "structured_outputs.json_object"),
        ({"guided_choice": []}, "guided_choice"),
        ({"guided_regex": "a" * 513}, "guided_regex"),
        ({"response_format": {"type": "json_schema", "json_schema": {}}}, "response_format.json_schema.name"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {**REGISTERED, "schema": {}}}},
            "response_format.json_schema.schema",
        ),
        (
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"schema_id": "x", "schema_version": 0},
                }
            },
            "response_format.json_schema.schema_version",
        ),
        ({"stream_structured": "never"}, "stream_structured"),
    ],
)
def test_what_cannot_be_meant_is_refused(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(ServerError) as raised:
        openai(**fields)
    assert raised.value.kind is ErrorKind.INVALID_REQUEST
    assert raised.value.param == param


@pytest.mark.parametrize("read", [openai, anthropic])
def test_how_to_stream_is_said_in_the_body_or_a_header(read: Any) -> None:
    header = "x-llm-server-stream-structured"
    assert read().stream_structured is None
    assert read(stream_structured="partial").stream_structured == "partial"
    assert read({header: "validated"}).stream_structured == "validated"
    assert read({header: "validated"}, stream_structured="partial").stream_structured == "partial"
    with pytest.raises(ServerError, match=header):
        read({header: "maybe"})
