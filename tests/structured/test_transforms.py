"""Transformers convert, purely; plans apply them in order and hold the result to a target."""

import copy
import json
import sys
from datetime import date
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_server.contract import ErrorKind, ServerError, TransformStep
from llm_server.structured.coercing import coerced
from llm_server.structured.places import NotConvertibleError
from llm_server.structured.transformers import BUILT_IN
from llm_server.structured.transforms import Conversions

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


def applied(name: str, value: Any, **parameters: Any) -> Any:
    return Conversions().plan([TransformStep(name, parameters)])(value)


@pytest.mark.parametrize(
    ("name", "parameters", "value", "result"),
    [
        ("lowercase_strings", {}, {"A": "Ab", "b": [1, "C"]}, {"A": "ab", "b": [1, "c"]}),
        ("lowercase_strings", {"at": ["/a"]}, {"a": "AB", "b": "AB"}, {"a": "ab", "b": "AB"}),
        (
            "lowercase_strings",
            {"at": ["/a/*/x", "/b"]},
            {"a": [{"x": "A", "y": "A"}]},
            {"a": [{"x": "a", "y": "A"}]},
        ),
        ("trim", {}, [" a ", {"k ": "\tb\n"}], ["a", {"k ": "b"}]),
        ("collapse_whitespace", {}, {"a": "  x \n y  "}, {"a": "x y"}),
        (
            "format_dates",
            {},
            ["2024-02-29T23:59:00Z", "2024-02-30", "no date"],
            ["2024-02-29", "2024-02-30", "no date"],
        ),
        ("format_dates", {"inputs": ["%d.%m.%Y"]}, {"d": "1.2.2024"}, {"d": "2024-02-01"}),
        ("format_dates", {"output": "date-time"}, "2024-02-01T10:00:00+02:00", "2024-02-01T10:00:00+02:00"),
        ("format_dates", {"output": "date-time"}, "2024-02-01", "2024-02-01T00:00:00Z"),
        ("format_dates", {"output": "%d/%m/%Y"}, "2024-02-01", "01/02/2024"),
        (
            "rename_keys",
            {"names": {"a": "b", "b": "a"}},
            [{"a": 1, "b": {"a": 2}}],
            [{"b": 1, "a": {"b": 2}}],
        ),
        (
            "rename_keys",
            {"names": {"a": "z"}, "at": ["/x"]},
            {"a": 1, "x": {"a": 2}},
            {"a": 1, "x": {"z": 2}},
        ),
        ("drop_nulls", {}, {"a": None, "b": [None, {"c": None}]}, {"b": [None, {}]}),
        ("drop_nulls", {"items": True}, {"b": [None, 1]}, {"b": [1]}),
        ("defaults", {"values": {"a": 1, "b": [2]}}, {"a": None}, {"a": None, "b": [2]}),
        (
            "defaults",
            {"values": {"a": 1}, "at": ["/x/*"]},
            {"x": [{}, {"a": 2}]},
            {"x": [{"a": 1}, {"a": 2}]},
        ),
        ("coerce_types", {"types": {"/a": "integer"}}, {"a": " 12 "}, {"a": 12}),
        ("coerce_types", {"types": {"/a": "integer"}}, {"a": 12.0}, {"a": 12}),
        ("coerce_types", {"types": {"/a": "number"}}, {"a": "1e3"}, {"a": 1000.0}),
        ("coerce_types", {"types": {"/a": "boolean"}}, {"a": "True"}, {"a": True}),
        ("coerce_types", {"types": {"/a": "null"}}, {"a": "null"}, {"a": None}),
        (
            "coerce_types",
            {"types": {"/*": "string"}},
            {"a": 1, "b": True, "c": "x"},
            {"a": "1", "b": "true", "c": "x"},
        ),
        ("coerce_types", {"types": {"/a": "array", "/a/*": "integer"}}, {"a": "7"}, {"a": [7]}),
        ("coerce_types", {"types": {"/nowhere": "integer"}}, {"a": "x"}, {"a": "x"}),
        ("trim", {"at": ["/a~1b/m~0n"]}, {"a/b": {"m~n": " x "}}, {"a/b": {"m~n": "x"}}),
    ],
)
def test_what_each_makes_of_a_value(name: str, parameters: Any, value: Any, result: Any) -> None:
    before = copy.deepcopy(value)
    made = applied(name, value, **parameters)
    assert made == result
    assert json.dumps(made) == json.dumps(result), "in type and order as well"
    assert value == before, "what was given is left alone"


@pytest.mark.parametrize(
    ("name", "parameters", "value", "pointer"),
    [
        ("rename_keys", {"names": {"a": "b"}}, {"x": [{"a": 1, "b": 2}]}, "/x/0"),
        ("defaults", {"values": {"a": 1}, "at": ["/x"]}, {"x": [1]}, "/x"),
        ("coerce_types", {"types": {"/a": "integer"}}, {"a": "twelve"}, "/a"),
        ("coerce_types", {"types": {"/a": "integer"}}, {"a": 1.5}, "/a"),
        ("coerce_types", {"types": {"/a": "boolean"}}, {"a": 1}, "/a"),
        ("coerce_types", {"types": {"/a/*": "string"}}, {"a": [{"b": 1}]}, "/a/0"),
    ],
)
def test_what_cannot_be_converted_says_where(name: str, parameters: Any, value: Any, pointer: str) -> None:
    with pytest.raises(ServerError) as raised:
        applied(name, value, **parameters)
    assert raised.value.kind is ErrorKind.OUTPUT_INVALID
    assert [(each.pointer, each.keyword) for each in raised.value.problems] == [(pointer, name)]


@pytest.mark.parametrize(
    ("name", "parameters", "words"),
    [
        ("shout", {}, "Unknown transformer 'shout'. There are: coerce_types, collapse"),
        ("x" * 9999, {}, "Unknown transformer 'xxx"),
        ("trim", {"wher": 1}, "unknown field `wher`"),
        ("trim", {"at": 1}, "Expected `str | array`"),
        ("trim", {"at": ["/a", "b"]}, "'b' is no JSON pointer: write '/b'"),
        ("coerce_types", {"types": {"a": "integer"}}, "'a' is no JSON pointer"),
        ("format_dates", {"output": "iso"}, "no form of dates"),
        ("rename_keys", {}, "missing required field `names`"),
        ("rename_keys", {"names": {"a": 1}}, "Expected `str`"),
        ("drop_nulls", {"items": "yes"}, "Expected `bool`"),
        ("coerce_types", {"types": {"/a": "integr"}}, "Invalid enum value 'integr'"),
        ("format_dates", {"output": "%999999999Y"}, "no form of dates"),
        ("format_dates", {"inputs": ["%"]}, "no form of dates"),
        ("format_dates", {"output": "%Y" * 99}, "no form of dates"),
    ],
)
def test_steps_that_mean_nothing_are_refused(name: str, parameters: Any, words: str) -> None:
    with pytest.raises(ServerError) as raised:
        Conversions().plan([TransformStep("trim"), TransformStep(name, parameters)])
    assert raised.value.kind is ErrorKind.INVALID_REQUEST
    assert raised.value.param is not None
    assert raised.value.param.startswith("transformers[1]")
    assert words in raised.value.message
    assert len(raised.value.message) < 500


def test_too_many_steps_are_refused() -> None:
    with pytest.raises(ServerError, match="At most 32"):
        Conversions().plan([TransformStep("trim")] * 33)


TARGET = b"""{
    "type": "object",
    "properties": {"age": {"type": "integer"}, "tags": {"type": "array", "items": {"$ref": "#/$defs/tag"}},
                   "any": {"type": ["string", "integer"]}},
    "required": ["age"], "$defs": {"tag": {"type": "string", "maxLength": 3}}
}"""


def test_steps_are_applied_in_order_and_the_target_checked_at_the_end() -> None:
    steps = [TransformStep("rename_keys", {"names": {"years": "age"}}), TransformStep("coerce_types")]
    convert = Conversions().plan(steps, TARGET)
    assert convert({"years": "36", "tags": "abc", "any": "7"}) == {"age": 36, "tags": ["abc"], "any": "7"}
    with pytest.raises(ServerError) as raised:
        convert({"age": 1, "tags": ["abcd"]})
    assert (raised.value.kind, raised.value.problems[0].pointer) == (ErrorKind.OUTPUT_INVALID, "/tags/0")
    reverse = Conversions().plan([TransformStep("coerce_types"), steps[0]], TARGET)
    with pytest.raises(ServerError) as raised:
        reverse({"years": "36"})
    assert raised.value.problems[0].pointer == "/age"


def test_a_target_that_is_no_schema_is_refused() -> None:
    with pytest.raises(ServerError) as raised:
        Conversions().plan([], b'{"type": "nothing"}')
    assert raised.value.kind is ErrorKind.INVALID_REQUEST


@pytest.fixture
def mine(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("mine")
    module.__dict__["add"] = lambda value, more=1: {**value, "n": value["n"] + more}
    module.__dict__["fail"] = lambda value: 1 / 0
    monkeypatch.setitem(sys.modules, "mine", module)


@pytest.mark.usefixtures("mine")
def test_functions_of_the_operator_are_transformers_too() -> None:
    conversions = Conversions({"add": "mine:add", "fail": "mine:fail"})
    assert set(conversions.names) == {*BUILT_IN, "add", "fail"}
    steps = [TransformStep("add"), TransformStep("add", {"more": 5})]
    assert conversions.plan(steps)({"n": 1}) == {"n": 7}
    with pytest.raises(ServerError) as raised:
        conversions.plan([TransformStep("fail")])({"n": 1})
    assert (raised.value.kind, "ZeroDivision" in raised.value.detail) == (ErrorKind.INTERNAL, True)
    assert "ZeroDivision" not in raised.value.message


@pytest.mark.usefixtures("mine")
@pytest.mark.parametrize("parameters", [{"less": 1}, {"value": 1}])
def test_parameters_that_a_function_does_not_take_are_the_callers_mistake(parameters: dict[str, Any]) -> None:
    with pytest.raises(ServerError, match=r"transformers\[1\] \(add\)") as raised:
        Conversions({"add": "mine:add"}).plan([TransformStep("trim"), TransformStep("add", parameters)])
    assert (raised.value.kind, raised.value.param) == (ErrorKind.INVALID_REQUEST, "transformers[1]")


IDEMPOTENT: list[tuple[str, dict[str, Any]]] = [
    ("lowercase_strings", {}),
    ("trim", {}),
    ("collapse_whitespace", {}),
    ("format_dates", {}),
    ("format_dates", {"output": "date-time"}),
    ("drop_nulls", {}),
    ("drop_nulls", {"items": True}),
    ("coerce_types", {"types": {"/*": "string"}, "at": ["/a"]}),
]


@pytest.mark.parametrize(("name", "parameters"), IDEMPOTENT)
@given(value=JSON)
def test_twice_is_once(name: str, parameters: Any, value: Any) -> None:
    once = applied(name, value, **parameters)
    assert applied(name, once, **parameters) == once


@given(st.dictionaries(st.text(), JSON, max_size=4), st.dictionaries(st.text(), JSON, max_size=4))
def test_defaults_twice_are_defaults_once(value: Any, lacking: Any) -> None:
    once = applied("defaults", value, values=lacking)
    assert applied("defaults", once, values=lacking) == once
    assert {**once, **value} == once
    assert once.keys() == value.keys() | lacking.keys()


@given(JSON)
def test_renaming_there_and_back_changes_nothing(value: Any) -> None:
    there, back = {"names": {"": "\0new"}}, {"names": {"\0new": ""}}
    assert applied("rename_keys", applied("rename_keys", value, **there), **back) == value


@given(st.dates())
def test_any_date_in_a_form_of_its_own_is_read(day: date) -> None:
    written = f"{day.day}. {day.month}. {day.year:04}"
    assert applied("format_dates", written, inputs=["%d. %m. %Y"]) == day.isoformat()


@given(JSON, st.sampled_from(["string", "integer", "number", "boolean", "null", "array"]))
def test_coercion_gives_the_type_or_refuses(value: Any, kind: str) -> None:
    python = {
        "string": str,
        "integer": int,
        "number": (int, float),
        "boolean": bool,
        "null": type(None),
        "array": list,
    }
    try:
        made = coerced(kind, value, ())
    except NotConvertibleError:
        return
    assert isinstance(made, python[kind])
    assert kind == "boolean" or not isinstance(made, bool)
    assert coerced(kind, made, ()) == made
