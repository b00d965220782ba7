"""Breaking changes are named and placed, and none is overlooked."""

from typing import Any

import pytest
from hypothesis import HealthCheck, assume, event, given, settings
from hypothesis import strategies as st

from llm_server.contract import ServerError
from llm_server.structured.compatibility import narrowings
from llm_server.structured.schema import Schema, load
from llm_server.structured.validation import Validator
from tests.structured.schemas import changed, schemas, values

TEXT = {"type": "string"}
WHOLE = {"type": "integer"}
NUMBER = {"type": "number"}


def closed(properties: dict[str, Any], *required: str) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(required),
        "additionalProperties": False,
    }


def told(old: Any, new: Any) -> list[tuple[str, str]]:
    return [(each.pointer, each.keyword) for each in narrowings(load(old), load(new))]


@pytest.mark.parametrize(
    ("old", "new", "changes"),
    [
        (NUMBER, WHOLE, [("/type", "type_narrowed")]),
        (WHOLE, NUMBER, []),
        ({"type": ["string", "null"]}, TEXT, [("/type", "type_narrowed")]),
        (TEXT, {"anyOf": [TEXT, {"type": "null"}]}, []),
        ({"anyOf": [TEXT, {"type": "null"}]}, TEXT, [("/type", "type_narrowed")]),
        ({"enum": ["a", "b"]}, {"enum": ["b", "c"]}, [("/enum", "enum_value_removed")]),
        ({"enum": ["a"]}, TEXT, []),
        (TEXT, {"enum": ["a"]}, [("/type", "type_narrowed"), ("/enum", "enum_added")][1:]),
        ({"const": 1}, {"enum": [1.0, 2]}, []),
        ({"const": True}, {"const": 1}, [("/const", "enum_value_removed")]),
        ({"type": "boolean"}, {"enum": [True, False]}, []),
        (WHOLE, {**WHOLE, "minimum": 1}, [("/minimum", "minimum_raised")]),
        ({**WHOLE, "minimum": 1}, {**WHOLE, "exclusiveMinimum": 0}, []),
        (
            {**WHOLE, "minimum": 1},
            {**WHOLE, "exclusiveMinimum": 1},
            [("/exclusiveMinimum", "minimum_raised")],
        ),
        ({**WHOLE, "maximum": 9}, {**WHOLE, "maximum": 8}, [("/maximum", "maximum_lowered")]),
        (
            {"$schema": "http://json-schema.org/draft-04/schema#", **WHOLE, "minimum": 1},
            {
                "$schema": "http://json-schema.org/draft-04/schema#",
                **WHOLE,
                "minimum": 1,
                "exclusiveMinimum": True,
            },
            [("/minimum", "minimum_raised")],
        ),
        ({**NUMBER, "multipleOf": 4}, {**NUMBER, "multipleOf": 2}, []),
        ({**NUMBER, "multipleOf": 2}, {**NUMBER, "multipleOf": 4}, [("/multipleOf", "multiple_of_changed")]),
        (WHOLE, {**WHOLE, "multipleOf": 0.5}, []),
        (TEXT, {**TEXT, "maxLength": 5}, [("/maxLength", "max_length_lowered")]),
        ({**TEXT, "minLength": 2}, {**TEXT, "minLength": 1}, []),
        (TEXT, {**TEXT, "pattern": "^a"}, [("/pattern", "pattern_added")]),
        ({**TEXT, "format": "date"}, {**TEXT, "format": "time"}, [("/format", "format_changed")]),
        (WHOLE, {**WHOLE, "minLength": 5}, []),
        (closed({"a": TEXT}), closed({"a": TEXT, "b": WHOLE}), []),
        (closed({"a": TEXT}), closed({"a": TEXT, "b": WHOLE}, "b"), [("/required", "required_added")]),
        (closed({"a": TEXT, "b": WHOLE}), closed({"a": TEXT}), [("/properties/b", "property_removed")]),
        (closed({"a": TEXT}, "a"), closed({"a": TEXT}), []),
        (closed({"a/b": NUMBER}), closed({"a/b": WHOLE}), [("/properties/a~1b/type", "type_narrowed")]),
        (
            {"type": "object", "properties": {"a": TEXT}},
            closed({"a": TEXT}),
            [("/additionalProperties", "object_closed")],
        ),
        (
            {"type": "object", "properties": {}},
            {"type": "object", "properties": {"a": TEXT}},
            [("/properties/a", "property_added_to_open_object")],
        ),
        ({"type": "object"}, {"type": "object", "properties": {"a": {}}}, []),
        (
            {"type": "object"},
            {"type": "object", "patternProperties": {"^a": TEXT}},
            [("/patternProperties/^a", "pattern_added")],
        ),
        (
            {"type": "object"},
            {"type": "object", "propertyNames": {"maxLength": 3}},
            [("/propertyNames/maxLength", "max_length_lowered")],
        ),
        (
            {"type": "array", "items": TEXT},
            {"type": "array", "items": {**TEXT, "minLength": 1}},
            [("/items/minLength", "min_length_raised")],
        ),
        ({"type": "array"}, {"type": "array", "uniqueItems": True}, [("/uniqueItems", "unique_items_added")]),
        ({"type": "array"}, {"type": "array", "maxItems": 3}, [("/maxItems", "max_items_lowered")]),
        (
            {"type": "array", "items": TEXT},
            {"type": "array", "prefixItems": [TEXT], "items": False},
            [("/items", "items_refused")],
        ),
        ({"type": "array", "maxItems": 1}, {"type": "array", "prefixItems": [{}], "items": False}, []),
        (
            {"anyOf": [TEXT, {"type": "null"}]},
            {"anyOf": [{**TEXT, "maxLength": 1}, {"type": "null"}]},
            [("/anyOf/0/maxLength", "max_length_lowered")],
        ),
        ({"oneOf": [TEXT, WHOLE]}, {"oneOf": [WHOLE, TEXT, {"type": "null"}]}, []),
        ({"oneOf": [TEXT]}, {"oneOf": [TEXT, {"maxLength": 2}]}, [("/oneOf", "one_of_changed")]),
        ({"not": TEXT}, {"not": {**TEXT, "title": "x"}}, []),
        ({"not": TEXT}, {"not": WHOLE}, [("/not", "not_changed")]),
        ({}, {"if": TEXT, "then": {"maxLength": 1}}, [("/if", "if_changed")]),
        ({"allOf": [closed({"a": TEXT})]}, closed({"a": TEXT}), []),
        ({"$ref": "#/$defs/x", "$defs": {"x": TEXT}}, {"$ref": "#/$defs/y", "$defs": {"y": TEXT}}, []),
        (
            {"$ref": "#/$defs/x", "maxLength": 3, "$defs": {"x": TEXT}},
            {"$ref": "#/$defs/x", "maxLength": 2, "$defs": {"x": TEXT}},
            [("/maxLength", "max_length_lowered")],
        ),
        (
            TEXT,
            {**TEXT, "$schema": "http://json-schema.org/draft-07/schema#"},
            [("/$schema", "draft_changed")],
        ),
        ({"title": "A", "description": "b", **TEXT}, TEXT, []),
    ],
)
def test_changes_are_named_and_placed(old: Any, new: Any, changes: list[tuple[str, str]]) -> None:
    assert told(old, new) == changes


def tree(**more: Any) -> dict[str, Any]:
    value = {**WHOLE, **more}
    node = closed(
        {"value": value, "next": {"$ref": "#/$defs/node"}, "all": {"items": {"$ref": "#/$defs/node"}}}
    )
    return {"$ref": "#/$defs/node", "$defs": {"node": node}}


def test_recursive_schemas_are_compared() -> None:
    assert told(tree(), tree()) == []
    assert told(tree(minimum=0), tree()) == []
    assert ("/properties/value/minimum", "minimum_raised") in told(tree(), tree(minimum=0))


def test_a_discriminated_union_may_grow() -> None:
    """As Pydantic writes one: the kinds tell the branches apart."""

    def union(*kinds: str) -> dict[str, Any]:
        return {"oneOf": [closed({"kind": {"const": kind}}, "kind") for kind in kinds]}

    assert told(union("a", "b"), union("a", "b", "c")) == []
    assert told(union("a", "b"), union("a")) != []


def test_what_multiplies_without_end_is_too_complex() -> None:
    """Each level has two alternatives on either side, none of which is the same."""

    def deep(depth: int, most: int) -> dict[str, Any]:
        if depth == 0:
            return {**TEXT, "maxLength": most}
        return {"anyOf": [{"items": deep(depth - 1, most + side)} for side in range(2)]}

    changes = told(deep(9, 5), deep(9, 4))
    assert changes
    assert len(changes) <= 100


@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
@given(st.data())
def test_where_nothing_is_told_what_was_valid_stays_valid(data: st.DataObject) -> None:
    old, new, both = _two(data)
    changes = narrowings(old, new)
    event("compatible" if not changes else "breaking")
    before, after = Validator.of(old), Validator.of(new)
    for value in both:
        if not before.problems(value) and after.problems(value):
            assert changes, f"{value!r} was valid by {old.value} and is not by {new.value}"


def _two(data: st.DataObject) -> tuple[Schema, Schema, list[Any]]:
    first = data.draw(schemas())
    try:
        old, new = load(first), load(data.draw(changed(first)))
    except ServerError:  # a reference to itself without end, which nobody can use
        assume(False)
        raise
    return old, new, data.draw(st.lists(values, min_size=5, max_size=20))


@given(schemas())
def test_a_schema_is_compatible_with_itself(schema: dict[str, Any]) -> None:
    try:
        loaded = load(schema)
    except ServerError:
        assume(False)
        raise
    assert narrowings(loaded, loaded) == ()
