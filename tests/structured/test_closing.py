"""Objects that are closed where that is what their author means, and left open where it may not be."""

import json
from typing import Any

import pytest
from msgspec import Raw

from llm_server.contract import OutputFormat
from llm_server.structured.closing import closed

A: dict[str, Any] = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
B: dict[str, Any] = {"type": "object", "properties": {"b": {"type": "integer"}}, "required": ["b"]}
SHUT = {"additionalProperties": False}


def output(schema: dict[str, Any]) -> OutputFormat:
    return OutputFormat(kind="json_schema", schema=Raw(json.dumps(schema).encode()))


@pytest.mark.parametrize(
    ("schema", "shut"),
    [
        (A, A | SHUT),
        ({**A, "title": "A", "$schema": "http://json-schema.org/draft-07/schema#"}, A | SHUT),
        ({"type": "array", "items": A}, {"type": "array", "items": A | SHUT}),
        ({"anyOf": [A, {"type": "null"}]}, {"anyOf": [A | SHUT, {"type": "null"}]}),
        ({"$ref": "#/$defs/x", "$defs": {"x": A}}, {"$ref": "#/$defs/0", "$defs": {"0": A | SHUT}}),
    ],
    ids=["object", "notes", "items", "anyOf", "reference"],
)
def test_what_names_its_properties_has_no_others(schema: dict[str, Any], shut: dict[str, Any]) -> None:
    assert json.loads(bytes(closed(output(schema)).schema)) == shut


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object"},
        A | {"additionalProperties": True},
        A | {"additionalProperties": {"type": "string"}},
        A | {"patternProperties": {"^x-": {}}},
        A | {"minProperties": 3},
        A | {"required": ["a", "b"]},
        A | SHUT,
        {"allOf": [A, B]},
        A | {"anyOf": [B, {"required": ["c"]}]},
        {"oneOf": [A, B]},
        A | {"if": {"required": ["b"]}, "then": B},
        A | {"not": B},
        A | {"$ref": "#/$defs/x", "$defs": {"x": B}},
        {"type": "string"},
    ],
    ids=[
        "any object", "open", "a map", "patterns", "at least", "unnamed", "closed", "allOf", "anyOf beside",
        "oneOf", "if", "not", "reference beside", "no object",
    ],
)  # fmt: skip
def test_what_may_mean_others_is_left_as_it_is(schema: dict[str, Any]) -> None:
    asked = output(schema)
    assert closed(asked) is asked


def test_other_constraints_are_left_as_they_are() -> None:
    for asked in (OutputFormat(kind="json_object"), OutputFormat(kind="regex", pattern="a")):
        assert closed(asked) is asked
