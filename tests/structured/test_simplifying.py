"""A simplified schema takes exactly the values that the original takes."""

from typing import Any

import jsonschema_rs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_server.structured.disjoint import Comparison
from llm_server.structured.negation import negated
from llm_server.structured.schema import load
from llm_server.structured.simplifying import simplified
from llm_server.structured.validation import Validator

DRAFT4 = "http://json-schema.org/draft-04/schema#"
DRAFT7 = "http://json-schema.org/draft-07/schema#"
DRAFT2019 = "https://json-schema.org/draft/2019-09/schema"

SCALARS = st.sampled_from([None, True, False, 0, 1, 2, 1.5, "", "a", "b", "ab"])
NAMES = st.sampled_from(["a", "b", "c"])
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=6,
)
TYPES = ["null", "boolean", "integer", "number", "string", "array", "object"]


def inner_schemas(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Draw the keywords that rules rewrite, and those that they meet."""
    several = st.lists(inner, min_size=1, max_size=3)
    names = st.lists(NAMES, max_size=2, unique=True)
    return st.fixed_dictionaries(
        {},
        optional={
            "type": st.sampled_from(TYPES)
            | st.lists(st.sampled_from(TYPES), min_size=1, max_size=2, unique=True),
            "enum": st.lists(SCALARS, min_size=1, max_size=3),
            "properties": st.dictionaries(NAMES, inner, max_size=2),
            "required": names,
            "additionalProperties": inner,
            "oneOf": several,
            "anyOf": several,
            "allOf": several,
            "not": inner,
            "if": inner,
            "then": inner,
            "else": inner,
            "dependentRequired": st.dictionaries(NAMES, names, max_size=2),
            "dependentSchemas": st.dictionaries(NAMES, inner, max_size=2),
            "propertyNames": st.sampled_from([{"pattern": "^a"}, {"pattern": "b", "type": "string"}, {}]),
            "minProperties": st.integers(0, 2),
            "uniqueItems": st.booleans(),
            "maxItems": st.integers(0, 2),
        },
    ).map(lambda schema: dict(list(schema.items())[:5]))


SCHEMAS = st.recursive(
    st.booleans()
    | st.sampled_from([{}, {"const": 1}, {"type": "integer"}, {"required": ["a"]}, {"enum": ["a", "b"]}]),
    inner_schemas,
    max_leaves=10,
).filter(lambda schema: isinstance(schema, dict))


def takes(schema: Any, value: Any) -> bool:
    return jsonschema_rs.Draft202012Validator(schema, validate_formats=True).is_valid(value)


@settings(max_examples=300)
@given(SCHEMAS, st.lists(VALUES, min_size=5, max_size=5))
def test_the_meaning_stays(schema: dict[str, Any], values: list[Any]) -> None:
    loaded = load(schema)
    assert [takes(simplified(loaded), value) for value in values] == [
        not Validator.of(loaded).problems(value) for value in values
    ]


@settings(max_examples=200)
@given(SCHEMAS, VALUES)
def test_an_opposite_refuses_what_the_schema_takes(schema: dict[str, Any], value: Any) -> None:
    opposite = negated(schema, {})
    assert opposite is None or takes(opposite, value) != takes(schema, value)


@settings(max_examples=200)
@given(SCHEMAS, SCHEMAS, st.lists(VALUES, min_size=5, max_size=5))
def test_disjoint_schemas_share_no_value(
    one: dict[str, Any], other: dict[str, Any], values: list[Any]
) -> None:
    document = load({"oneOf": [one, other]}).document
    apart = Comparison(document).disjoint(one, other)
    assert not (apart and any(takes(one, value) and takes(other, value) for value in values))


CASES: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"title": "t", "description": "d", "default": 1, "$id": "http://a/b", "type": "null"}, {"type": "null"}),
    ({"properties": {"title": {"title": "x"}}}, {"properties": {"title": {}}}),
    (
        {"$schema": DRAFT7, "items": [{"type": "null"}], "additionalItems": False},
        {"prefixItems": [{"type": "null"}], "items": False},
    ),
    ({"$schema": DRAFT7, "items": {}, "additionalItems": False}, {"items": {}}),
    ({"$schema": DRAFT4, "minimum": 1, "exclusiveMinimum": True}, {"exclusiveMinimum": 1}),
    ({"$schema": DRAFT4, "minimum": 1, "exclusiveMinimum": False}, {"minimum": 1}),
    ({"$schema": DRAFT4, "const": 1, "if": {}, "then": False}, {}),
    ({"format": "int64"}, {}),
    ({"format": "date"}, {"format": "date"}),
    ({"uniqueItems": False, "if": {}, "minProperties": 1, "required": ["a"]}, {"required": ["a"]}),
    ({"uniqueItems": True, "maxItems": 1}, {"maxItems": 1}),
    (
        {"propertyNames": {"pattern": "^a"}, "additionalProperties": {"type": "null"}},
        {"additionalProperties": False, "patternProperties": {"^a": {"type": "null"}}},
    ),
    (
        {"$schema": DRAFT7, "dependencies": {"a": ["b"]}},
        {"allOf": [{"anyOf": [{"properties": {"a": False}}, {"required": ["b"]}]}]},
    ),
    ({"not": {"type": ["string", "number"]}}, {"allOf": [{"type": ["null", "boolean", "array", "object"]}]}),
    ({"enum": ["a", "b"], "not": {"const": "a"}}, {"enum": ["a", "b"], "allOf": [{"enum": ["b"]}]}),
    ({"not": {"pattern": "a"}}, {"not": {"pattern": "a"}}),
    ({"oneOf": [{"type": "null"}, {"type": "string"}]}, {"anyOf": [{"type": "null"}, {"type": "string"}]}),
    ({"oneOf": [{"minimum": 0}, {"type": "string"}]}, {"oneOf": [{"minimum": 0}, {"type": "string"}]}),
    (
        {"$schema": DRAFT7, "definitions": {"a": {"type": "null"}}, "$ref": "#/definitions/a", "minimum": 1},
        {"$ref": "#/$defs/0", "$defs": {"0": {"type": "null"}}},
    ),
    (
        {"$defs": {"a": {"$anchor": "x", "type": "null"}}, "$ref": "#x", "minimum": 1},
        {"$ref": "#/$defs/0", "minimum": 1, "$defs": {"0": {"type": "null"}}},
    ),
    ({"properties": {"a": {"$ref": "#"}}}, {"properties": {"a": {"$ref": "#"}}}),
    (
        {"$schema": DRAFT2019, "items": {"$recursiveRef": "#"}, "$defs": {"unused": {}}},
        {"items": {"$ref": "#"}},
    ),
    (
        {"type": "object", "anyOf": [{"type": "object", "minProperties": 1}, {"$ref": "#/$defs/a"}],
         "$defs": {"a": {"type": "object"}}},
        {"anyOf": [{"type": "object", "minProperties": 1}, {"$ref": "#/$defs/0"}],
         "$defs": {"0": {"type": "object"}}},
    ),
    (
        {"$ref": "#/$defs/a", "type": "object", "x-note": 1, "$defs": {"a": {"type": "object"}}},
        {"$ref": "#/$defs/0", "$defs": {"0": {"type": "object"}}},
    ),
    (
        {"$ref": "#/$defs/a", "type": "object", "$defs": {"a": {}}},
        {"$ref": "#/$defs/0", "type": "object", "$defs": {"0": {}}},
    ),
]  # fmt: skip


@pytest.mark.parametrize(("schema", "said"), CASES)
def test_each_rule_says_it_so(schema: dict[str, Any], said: dict[str, Any]) -> None:
    assert simplified(load(schema)) == said


CONDITION = {
    "properties": {"kind": {"enum": ["a", "b"]}},
    "required": ["kind"],
    "if": {"properties": {"kind": {"const": "a"}}},
    "then": {"required": ["x"]},
    "else": {"required": ["y"]},
}


def test_a_condition_on_an_enumerated_property_is_spelled_out() -> None:
    said = simplified(load(CONDITION))
    assert said.keys() == {"properties", "required", "allOf"}
    for value in ({"kind": "a", "x": 1}, {"kind": "b", "y": 1}):
        assert takes(said, value)
    for value in ({"kind": "a", "y": 1}, {"kind": "b", "x": 1}, {"kind": "c", "x": 1, "y": 1}):
        assert not takes(said, value)


@pytest.mark.parametrize("count", [4, 40])
def test_what_would_grow_too_large_is_left_alone(count: int) -> None:
    schema = {"dependentRequired": {f"a{at}": ["b"] for at in range(count)}}
    assert simplified(load(schema)) == schema


@pytest.mark.parametrize(
    ("one", "other", "apart"),
    [
        ({"type": "string"}, {"type": "integer"}, True),
        ({"type": "number"}, {"type": "integer"}, False),
        ({"const": 1}, {"const": True}, True),
        ({"const": 1}, {"const": 1.0}, False),
        ({"enum": ["a", "b"]}, {"enum": ["c"]}, True),
        ({"enum": ["a"]}, {"type": "integer"}, True),
        (False, {}, True),
        (
            {"type": "object", "properties": {"k": {"const": 1}}, "required": ["k"]},
            {"type": "object", "properties": {"k": {"const": 2}}},
            True,
        ),
        (
            {"type": "object", "properties": {"k": {"const": 1}}},
            {"type": "object", "properties": {"k": {"const": 2}}},
            False,
        ),
        ({"type": "object", "required": ["k"]}, {"type": "object", "additionalProperties": False}, True),
        ({"type": "object", "properties": {"k": False}}, {"type": "object", "required": ["k"]}, True),
        ({"$ref": "#/$defs/text"}, {"type": "null"}, True),
        ({"anyOf": [{"type": "null"}, {"type": "string"}]}, {"type": "array"}, True),
        ({"anyOf": [{"type": "null"}, {"type": "array"}]}, {"type": "array"}, False),
    ],
)
def test_what_is_seen_to_be_disjoint(one: Any, other: Any, apart: bool) -> None:
    schema = load({"$defs": {"text": {"type": "string"}}, "oneOf": [one, other]})
    assert Comparison(schema.document).disjoint(*schema.value["oneOf"]) is apart
    assert Comparison(schema.document).disjoint(*reversed(schema.value["oneOf"])) is apart
