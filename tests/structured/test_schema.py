"""Loading schemas: which are taken, which are refused and where, and that hostile ones cost nothing."""

import json
import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_server.contract import ErrorKind, ServerError
from llm_server.structured.bounds import MAX_BYTES, MAX_DEPTH, MAX_ENUM, MAX_PATTERN, MAX_PROPERTIES
from llm_server.structured.schema import load

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


def refusal(source: Any) -> ServerError:
    with pytest.raises(ServerError) as caught:
        load(source)
    assert caught.value.kind is ErrorKind.INVALID_REQUEST
    assert str(caught.value.param) in caught.value.message
    return caught.value


def nested(keyword: str, depth: int) -> dict[str, Any]:
    schema: dict[str, Any] = {}
    for _ in range(depth - 1):
        schema = {keyword: schema} if keyword == "not" else {keyword: {"a": schema}}
    return schema


def doubling(keyword: str, levels: int) -> dict[str, Any]:
    """Return a schema of a few lines that stands for 2**levels schemas."""
    steps = {f"a{at}": {keyword: [{"$ref": f"#/$defs/a{at + 1}"}] * 2} for at in range(levels)}
    return {"$ref": "#/$defs/a0", "$defs": {**steps, f"a{levels}": {"type": "integer"}}}


def test_bytes_and_mappings_of_one_schema_are_the_same() -> None:
    spaced = load(b' { "type" : "object",\n "properties": {"b": {}, "a": {}} } ')
    mapped = load({"properties": {"a": {}, "b": {}}, "type": "object"})
    assert spaced.id == mapped.id
    assert spaced.canonical == mapped.canonical == b'{"properties":{"a":{},"b":{}},"type":"object"}'
    assert list(spaced.value["properties"]) == ["b", "a"]


@given(st.dictionaries(st.sampled_from(["default", "examples", "x-a", "x-b"]), JSON, min_size=1))
def test_the_id_does_not_depend_on_the_order_of_keys(schema: dict[str, Any]) -> None:
    schema["examples"] = [schema.get("examples")]
    reverse = json.loads(json.dumps(schema), object_pairs_hook=lambda pairs: dict(reversed(pairs)))
    assert load(json.dumps(schema).encode()).id == load(json.dumps(reverse).encode()).id


def test_a_schema_seen_before_is_not_read_again() -> None:
    assert load(b'{"type": "null"}') is load(b'{"type": "null"}')


@pytest.mark.parametrize(
    ("schema", "draft"),
    [
        ({}, "2020-12"),
        ({"$schema": "https://json-schema.org/draft/2019-09/schema"}, "2019-09"),
        ({"$schema": "http://json-schema.org/draft-07/schema#"}, "7"),
        ({"$schema": "http://json-schema.org/draft-07/schema"}, "7"),
        ({"$schema": "http://json-schema.org/draft-06/schema#"}, "6"),
        ({"$schema": "http://json-schema.org/draft-04/schema#"}, "4"),
        ({"items": [{}]}, "2019-09"),
        ({"minimum": 1, "exclusiveMinimum": True}, "4"),
        ({"$schema": "http://example.com/own"}, "2020-12"),
    ],
)
def test_the_draft_is_declared_or_the_newest_that_fits(schema: dict[str, Any], draft: str) -> None:
    assert load(schema).draft == draft


@pytest.mark.parametrize(
    ("source", "place", "words"),
    [
        (b"", "#", "not JSON"),
        (b"[]", "#", "must be a JSON object"),
        (b"true", "#", "must be a JSON object"),
        (b'{"type": "text"}', "#/type", '"text"'),
        (b'{"properties": {"a/b": {"minLength": -1}}}', "#/properties/a~1b/minLength", "-1"),
        (b'{"properties": {"a": {"pattern": "("}}}', "#/properties/a/pattern", "regular expression"),
        (b'{"pattern": "^[\\\\p{L}\\\\p{N}]{1,900}$"}', "#/pattern", "regular expression"),
        (b'{"pattern": "(((a{1000}){1000}){1000})"}', "#", "repeats to more"),
        ({"items": {"pattern": "^(a{1,90}){1,90}$"}}, "#/items", "repeats to more"),
        (
            {"patternProperties": {f"^(\\w{{1,9}}){{{at}}}$": {} for at in range(20, 400)}},
            "#",
            "repeat to more",
        ),
        (b"\xff\xfe", "#", "not JSON"),
        ({"a": object()}, "#", "not JSON"),
        ({"$ref": "http://169.254.169.254/latest"}, "#", "leaves the document"),
        ({"items": {"$ref": "file:///etc/passwd"}}, "#/items", "leaves the document"),
        ({"items": {"$ref": "other.json"}}, "#/items", "leaves the document"),
        ({"items": {"$dynamicRef": "http://a/b"}}, "#/items", "leaves the document"),
        ({"items": {"$ref": "#/$defs/none"}}, "#/items", "leads to no schema"),
        ({"items": {"$ref": "#none"}}, "#/items", "leads to no schema"),
        ({"type": "object", "items": {"$ref": "#/type"}}, "#/items", "leads to no schema"),
        ({"$ref": "#"}, "#", "applies itself"),
        ({"allOf": [{"$ref": "#"}]}, "#", "applies itself"),
        ({"$defs": {"a": {"not": {"$ref": "#/$defs/a"}}}}, "#/$defs/a", "applies itself"),
        (doubling("allOf", 30), "#", "expand"),
        (doubling("anyOf", 30), "#", "expand"),
        (doubling("oneOf", 70), "#", "more than 64"),
        (nested("not", MAX_DEPTH + 1), "#/not", "nested deeper"),
        (nested("properties", MAX_DEPTH + 1), "#/properties", "nested deeper"),
        (nested("properties", 5_000), "#", "nested"),
        ({"default": json.loads("[" * 97 + "]" * 97)}, "#", "nested deeper"),
        ({"enum": list(range(MAX_ENUM + 1))}, "#/enum", "values"),
        ({"pattern": "a" * (MAX_PATTERN + 1)}, "#", "characters"),
        ({"patternProperties": {"a" * (MAX_PATTERN + 1): {}}}, "#", "characters"),
        ({"properties": {f"{at}": {} for at in range(MAX_PROPERTIES + 1)}}, "#", "properties"),
        ({"const": "x" * MAX_BYTES}, "#", "bytes"),
        ({"description": "x" * 10_000_000}, "#", "bytes"),
        ({"components": {"a": {"$ref": "http://a/b"}}, "$ref": "#/components/a"}, "#/components/a", "leaves"),
    ],
    ids=range(36),
)
def test_what_is_refused_is_named_with_its_place(source: Any, place: str, words: str) -> None:
    error = refusal(source)
    assert str(error.param).startswith(place)
    assert words in error.message


@pytest.mark.parametrize(
    "schema",
    [
        {"properties": {"next": {"$ref": "#"}}},
        {"$defs": {"a": {"$anchor": "here"}}, "items": {"$ref": "#here"}},
        {"$defs": {"a b": {}}, "items": {"$ref": "#/$defs/a%20b"}},
        {"$defs": {"a/b": {}}, "items": {"$ref": "#/$defs/a~1b"}},
        {"components": {"a": {}}, "items": {"$ref": "#/components/a"}},
        {
            "$schema": "http://json-schema.org/draft-07/schema#",
            "definitions": {"a": {"$id": "#x"}},
            "$ref": "#x",
        },
        {"$defs": {"a": {"$id": "http://a/b", "$defs": {"c": {}}, "items": {"$ref": "#/$defs/c"}}}},
        {"enum": [{"$ref": "http://a/b"}], "properties": {"$ref": {"type": "string"}}},
        {"pattern": r"^[\p{L}]{1,64}$"},
        {"pattern": "^(?!a)b", "allOf": [{"pattern": "^(a+)+$"}]},
        {"pattern": "^.{1,2000}$", "patternProperties": {"^(\\\\{9}|[(){9}]|[]){9}]){9}$": {}}},
        {"description": "x" * MAX_BYTES, "properties": {"a": {"title": "y" * MAX_BYTES}}},
        nested("not", MAX_DEPTH),
        nested("properties", MAX_DEPTH),
        doubling("allOf", 8),
        {"enum": list(range(MAX_ENUM))},
    ],
    ids=lambda schema: str(schema)[:60],
)
def test_what_is_within_the_bounds_is_taken(schema: dict[str, Any]) -> None:
    assert load(schema).value == schema


def test_a_thousand_schemas_leave_memory_flat() -> None:
    def fill(start: int) -> int:
        for at in range(start, start + 500):
            load({"title": f"schema {at}", "enum": [f"{at}-{value}" for value in range(200)]})
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        fill(0)
        full = fill(500)
        assert fill(1_000) < full * 1.1
    finally:
        tracemalloc.stop()
