"""Validation: valid values have no problems, and a problem says where and what."""

import json
import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_server.contract import Problem
from llm_server.structured.effort import Efforts, count_vast, size
from llm_server.structured.schema import load
from llm_server.structured.validation import (
    MAX_DEPTH,
    MAX_EFFORT,
    MAX_PROBLEMS,
    MAX_VAST,
    TOLD_EFFORT,
    VAST_CHARS,
    Validator,
)


def problems(schema: dict[str, Any], value: Any, *, formats: bool = True) -> tuple[Problem, ...]:
    return Validator.of(load(schema), formats).problems(value)


@st.composite
def described(draw: st.DrawFn, depth: int = 3) -> tuple[dict[str, Any], Any]:
    """Draw a schema together with a value that satisfies it."""
    kind = draw(
        st.sampled_from(["integer", "string", "enum", "anyOf", "array", "object"][: 3 if depth == 0 else 6])
    )
    if kind == "integer":
        value = draw(st.integers(-1000, 1000))
        return {"type": "integer", "minimum": value - draw(st.integers(0, 5)), "maximum": value}, value
    if kind == "string":
        text = draw(st.text(max_size=5))
        return {"type": "string", "minLength": draw(st.integers(0, len(text)))}, text
    if kind == "enum":
        values = draw(st.lists(st.integers() | st.text(max_size=3) | st.none(), min_size=1, max_size=4))
        return {"enum": values}, draw(st.sampled_from(values))
    inner = draw(st.lists(described(depth - 1), min_size=1, max_size=3))
    schemas, values = [schema for schema, _ in inner], [value for _, value in inner]
    if kind == "anyOf":
        return {"anyOf": schemas}, values[-1]
    if kind == "array":
        return {"type": "array", "prefixItems": schemas, "items": False}, values
    names = draw(st.lists(st.text(max_size=4), min_size=len(inner), max_size=len(inner), unique=True))
    shape = {"type": "object", "properties": dict(zip(names, schemas, strict=True)), "required": names}
    return {**shape, "additionalProperties": False}, dict(zip(names, values, strict=True))


@given(described())
def test_a_value_made_for_its_schema_has_no_problems(pair: tuple[dict[str, Any], Any]) -> None:
    schema, value = pair
    assert problems(schema, value) == ()


@given(described(), st.lists(st.text(min_size=1, max_size=3) | st.integers(0, 2), max_size=3))
def test_the_pointer_leads_to_what_is_wrong(pair: tuple[dict[str, Any], Any], path: list[str | int]) -> None:
    """Whatever the schema, wrap it in objects and arrays and put something that it refuses inside.

    Names are not empty: jsonschema-rs leaves the empty name out of its paths.
    """
    schema: dict[str, Any] = {"allOf": [pair[0], {"not": {"const": pair[1]}}]}
    value: Any = pair[1]
    for step in reversed(path):
        if isinstance(step, str):
            schema, value = {"properties": {step: schema}}, {step: value}
        else:
            schema, value = {"prefixItems": [*[{}] * step, schema]}, [*[None] * step, value]
    place = "".join("/" + str(step).replace("~", "~0").replace("/", "~1") for step in path)
    assert [problem.pointer for problem in problems(schema, value)] == [place]


TABLE: list[tuple[dict[str, Any], Any, str, str, str, str]] = [
    ({"type": ["integer", "null"]}, "x", "", "type", "integer or null", '"x"'),
    ({"properties": {"a": {"type": "string"}}}, {"a": 1}, "/a", "type", "string", "1"),
    ({"enum": [1, "a"]}, 2, "", "enum", 'one of 1, "a"', "2"),
    ({"const": {"a": 1}}, 2, "", "const", '{"a":1}', "2"),
    ({"required": ["a"]}, {}, "", "required", 'the property "a"', "no such property"),
    ({"additionalProperties": False}, {"b": 1}, "", "additionalProperties", "only declared properties", "1"),
    (
        {"properties": {"a": {}}, "additionalProperties": False}, {"b": 1},
        "", "additionalProperties", "only declared properties", '"b"',
    ),
    ({"minimum": 3}, 2, "", "minimum", "a number of at least 3", "2"),
    ({"maximum": 3}, 4, "", "maximum", "a number of at most 3", "4"),
    ({"exclusiveMinimum": 3}, 3, "", "exclusiveMinimum", "a number above 3", "3"),
    ({"exclusiveMaximum": 3}, 3, "", "exclusiveMaximum", "a number below 3", "3"),
    ({"multipleOf": 0.5}, 0.7, "", "multipleOf", "a multiple of 0.5", "0.7"),
    ({"minLength": 2}, "a", "", "minLength", "at least 2 characters", '"a"'),
    ({"maxLength": 1}, "ab", "", "maxLength", "at most 1 characters", '"ab"'),
    ({"pattern": "^a"}, "b", "", "pattern", "text that matches ^a", '"b"'),
    ({"format": "email"}, "b", "", "format", "text in the format email", '"b"'),
    ({"minItems": 1}, [], "", "minItems", "at least 1 items", "[]"),
    ({"maxItems": 1}, [1, 2], "", "maxItems", "at most 1 items", "[1,2]"),
    ({"uniqueItems": True}, [1, 1], "", "uniqueItems", "no item twice", "[1,1]"),
    (
        {"contains": {"const": 1}}, [2],
        "", "contains", "enough items of the form that it must contain", "[2]",
    ),
    ({"minProperties": 1}, {}, "", "minProperties", "at least 1 properties", "{}"),
    ({"maxProperties": 0}, {"a": 1}, "", "maxProperties", "at most 0 properties", '{"a":1}'),
    (
        {"propertyNames": {"maxLength": 1}}, {"ab": 1},
        "", "propertyNames", "property names: at most 1 characters", '"ab"',
    ),
    ({"properties": {"a": False}}, {"a": 1}, "/a", "falseSchema", "nothing here", "1"),
    ({"not": {"const": 1}}, 1, "", "not", 'anything but {"const":1}', "1"),
    (
        {"unevaluatedProperties": False}, {"a": 1},
        "", "unevaluatedProperties", "only declared properties", '"a"',
    ),
    ({"unevaluatedItems": False}, [1], "", "unevaluatedItems", "only declared items", "[1]"),
    (
        {"anyOf": [{"type": "null"}, {"properties": {"a": {"type": "null"}}}]}, {"a": 1},
        "", "anyOf", "any of 2 alternatives; the nearest wants null at /a", '{"a":1}',
    ),
    ({"oneOf": [{}, {"minimum": 1}]}, 2, "", "oneOf", "exactly one: any of 2 alternatives", "2"),
    (
        {"items": [{}], "additionalItems": False}, [1, 2],
        "", "additionalItems", "at most 1 items", "[1,2]",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("schema", "value", "pointer", "keyword", "expected", "found"), TABLE)
def test_each_keyword_has_its_words(
    schema: dict[str, Any], value: Any, pointer: str, keyword: str, expected: str, found: str
) -> None:
    assert problems(schema, value) == (Problem(pointer, keyword, expected, found),)


def test_formats_are_asserted_by_choice() -> None:
    schema = {"format": "date"}
    assert problems(schema, "yesterday", formats=False) == ()
    assert [problem.keyword for problem in problems(schema, "yesterday")] == ["format"]


def test_texts_are_short_and_problems_few() -> None:
    found = problems({"items": {"type": "null"}}, ["x" * 10_000] * 1_000)
    assert len(found) == MAX_PROBLEMS
    assert max(len(problem.found) for problem in found) == 160


def test_a_pattern_that_needs_too_many_steps_is_not_satisfied() -> None:
    (problem,) = problems({"pattern": r"^(a|a)*\1b$"}, "a" * 5_000)
    assert (problem.keyword, problem.expected) == ("pattern", "text that its pattern can judge")


REDOS = [r"^(a+)+$", r"(a|aa)+$", r"(.*a){20}", r"^(\w+\s?)*$", r"^(([a-z])+.)+[A-Z]([a-z])+$", r"(x+x+)+y"]


@pytest.mark.parametrize("pattern", REDOS)
def test_catastrophic_patterns_end(pattern: str) -> None:
    text = "a" * 20_000 + "!"
    assert isinstance(problems({"pattern": pattern}, text), tuple)


@pytest.mark.parametrize("schema", [{"items": {"$ref": "#"}}, {}])
def test_what_is_nested_too_deep_is_a_problem(schema: dict[str, Any]) -> None:
    value: Any = []
    for _ in range(MAX_DEPTH - 1):
        value = [value]
    assert problems(schema, value) == ()
    for _ in range(100_000):
        value = [value]
    (problem,) = problems(schema, value)
    assert problem.keyword == "depth"


def test_numbers_of_any_size_are_judged() -> None:
    assert problems({"type": "integer"}, json.loads("1" + "0" * 400)) == ()
    (problem,) = problems({"maximum": 5}, json.loads("1" + "0" * 40))
    assert problem.found == "1" + "0" * 40


def test_validators_are_shared_and_forgotten() -> None:
    assert Validator.of(load({"minimum": 1})) is Validator.of(load({"minimum": 1}))

    def fill(start: int) -> int:
        for at in range(start, start + 600):
            problems({"const": f"value {at}"}, 1)
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        fill(0)
        full = fill(600)
        assert fill(1_200) < full * 1.1
    finally:
        tracemalloc.stop()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=4),
    max_leaves=30,
)


def walked(value: Any) -> list[Any]:
    """Every value in ``value``."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [value, *(each for child in inner for each in walked(child))]


@given(JSON)
def test_values_are_counted(value: Any) -> None:
    every = walked(value)
    assert size(value, 64) == len(every)
    assert len(json.dumps(value)) >= len(every), "so that the length of the text is a bound"
    vast = [each for each in every if isinstance(each, int) and not -(2**63) <= each < 2**63]
    assert count_vast(value) == len(vast)


@pytest.mark.parametrize(
    ("schema", "effort"),
    [
        ({"type": "object"}, 1),
        ({"enum": ["a", "b", "c"]}, 1),
        ({"enum": [1, 2, 3]}, 1),
        ({"enum": ["a", 1, None]}, 4),
        ({"enum": [[1], [2]]}, 1 + 2 * 3),
        ({"enum": [0.5, 1.5]}, 1 + 2 * 46),
        ({"enum": [10**30, 1]}, 1 + 46 + 1),
        ({"const": {"a": 1}}, 4),
        ({"patternProperties": {"^a": {}, "^b": {}}}, 3),
        ({"anyOf": [{"type": "string"}, {"enum": [[1]]}], "properties": {"a": {"type": "null"}}}, 1 + 1 + 4),
        ({"$ref": "#/$defs/a", "$defs": {"a": {"not": {"type": "null"}}}}, 3),
    ],
)
def test_the_effort_of_a_schema_is_that_of_all_it_applies_to_one_value(schema: Any, effort: int) -> None:
    assert Efforts(load(schema).document).most() == effort


@pytest.mark.parametrize(
    ("items", "item", "most"),
    [
        ({"enum": [[at] for at in range(2000)]}, [1999], MAX_EFFORT // 6_001),
        ({"enum": [at + 0.5 for at in range(2000)]}, 1999.5, MAX_EFFORT // 92_001),
        ({"anyOf": [{"const": at} for at in range(499)]}, 498, MAX_EFFORT // 500),
    ],
)
def test_what_would_take_seconds_is_not_judged(items: Any, item: Any, most: int) -> None:
    schema = {"type": "array", "items": items}
    values = 2 if isinstance(item, list) else 1
    enough = [item] * ((most - 1) // values)
    assert problems(schema, enough[:20]) == ()
    (problem,) = problems(schema, [*enough, item])
    assert (problem.keyword, problem.pointer) == ("size", "")
    assert problem.expected == f"at most {most} values, by a schema like this"
    assert problem.found == f"{size([*enough, item], 9)} values"
    text = json.dumps([*enough, item])
    assert Validator.of(load(schema)).problems([*enough, item], chars=len(text)) == (problem,)


def test_integers_that_are_compared_each_with_each_are_few() -> None:
    schema = {"type": "array", "uniqueItems": True}
    vast = [10**30 + at for at in range(MAX_VAST)]
    assert problems(schema, [*vast, *range(5000)]) == ()
    assert [each.keyword for each in problems(schema, [*vast, vast[0]])] == ["uniqueItems"]
    for more in (vast * 20, [{"a": 10**30 + at} for at in range(60_000)]):
        (problem,) = Validator.of(load(schema)).problems(more, chars=len(json.dumps(more)))
        assert problem.expected == f"at most {MAX_VAST} integers beyond 64 bits"
        assert problem.found == str(len(more))
    assert problems({"type": "array"}, vast * 20) == ()
    assert len(json.dumps([10**18 * 9] * MAX_VAST)) > VAST_CHARS


def test_many_unique_objects_are_judged() -> None:
    schema = {"type": "array", "uniqueItems": True}
    objects = [{"a": at, "b": [at]} for at in range(20_000)]
    assert problems(schema, objects) == ()
    assert [each.keyword for each in problems(schema, [*objects, objects[7]])] == ["uniqueItems"]


def test_of_a_large_value_the_first_problem_is_told() -> None:
    schema = {"type": "array", "items": {"type": "integer"}}
    few = (TOLD_EFFORT - 1) // 1
    assert len(problems(schema, ["x"] * few)) == MAX_PROBLEMS
    (first,) = problems(schema, [1, *["x"] * few])
    assert (first.pointer, first.keyword, first.found) == ("/1", "type", '"x"')
    assert problems(schema, [1] * 200_000) == ()
