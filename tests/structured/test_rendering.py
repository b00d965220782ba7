"""Rendered types say what the schema says: the Pydantic source is executed here, and only here."""

import itertools
import json
import re
import sys
from types import ModuleType
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, assume, event, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from llm_server.contract import ServerError
from llm_server.structured.rendering import render
from llm_server.structured.schema import load
from llm_server.structured.validation import Validator
from tests.structured.schemas import schemas, values

_NUMBERS = itertools.count()

ORDER = {
    "title": "Order line",
    "description": 'An "order" """with""" \\ quotes\n*/ and ends.',
    "type": "object",
    "properties": {
        "id": {"type": "integer", "minimum": 1, "maximum": 9.5},
        "code": {"type": "string", "maxLength": 5, "pattern": "^\\d+$", "description": "The */ code"},
        "class": {"enum": ["a", "b", None]},
        "model_dump": {"type": "boolean"},
        "list": {"type": "array", "items": {"type": "string"}, "minItems": 1},
        "2nd-name": {"const": "x"},
        "price": {"type": "number", "exclusiveMinimum": 0, "multipleOf": 0.5},
        "pair": {
            "type": "array",
            "prefixItems": [{"type": "number"}, {"type": "string"}],
            "minItems": 2,
            "maxItems": 2,
        },
        "table": {"type": "object", "additionalProperties": {"type": "integer"}, "maxProperties": 2},
        "maybe": {"anyOf": [{"type": "string"}, {"type": "null"}, {"$ref": "#/$defs/tree"}]},
        "lines": {
            "type": "array",
            "items": {"type": "object", "properties": {"q": {"type": "integer"}}, "required": ["q"]},
        },
        "chain": {"$ref": "#/$defs/node"},
    },
    "required": ["id", "class"],
    "additionalProperties": False,
    "$defs": {
        "node": {
            "type": "object",
            "properties": {"v": {"type": "integer"}, "next": {"$ref": "#/$defs/node"}},
            "required": ["v"],
            "additionalProperties": {"type": "boolean"},
        },
        "tree": {"anyOf": [{"type": "integer"}, {"type": "array", "items": {"$ref": "#/$defs/tree"}}]},
    },
}  # fmt: skip


def executed(source: str) -> ModuleType:
    """Return the module that ``source`` is. Pydantic looks names up in the module, so it must be one."""
    module = ModuleType(f"rendered_{next(_NUMBERS)}")
    sys.modules[module.__name__] = module
    try:
        exec(compile(source, module.__name__, "exec"), module.__dict__)
        _built(module)
    finally:
        del sys.modules[module.__name__]
    return module


def _built(module: ModuleType) -> None:
    for each in list(vars(module).values()):
        if isinstance(each, type) and issubclass(each, BaseModel) and each.__module__ == module.__name__:
            each.model_rebuild(_types_namespace=module.__dict__)


def model_of(schema: dict[str, Any], name: str = "Answer") -> tuple[type[BaseModel], str]:
    source = render(load(schema), "pydantic", name)
    root = re.match(r'"""(\w+):', source)
    assert root is not None
    found: type[BaseModel] = getattr(executed(source), root[1])
    return found, source


def accepts(model: type[BaseModel], value: Any) -> bool:
    try:
        model.model_validate_json(msgspec.json.encode(value))
    except ValidationError:
        return False
    return True


GOOD: list[dict[str, Any]] = [
    {},
    {"id": 9},
    {"class": "b", "code": "12345", "model_dump": True, "list": ["x"], "2nd-name": "x", "price": 1.5},
    {"pair": [1, "a"], "table": {"a": 1}, "maybe": None, "lines": [{"q": 1, "more": [1]}]},
    {"maybe": [1, [2, []]], "chain": {"v": 1, "next": {"v": 2, "x": True}}},
]
BAD: list[dict[str, Any]] = [
    {"id": 0},
    {"id": 10},
    {"id": True},
    {"id": "1"},
    {"id": None},
    {"class": "c"},
    {"code": "12a"},
    {"code": "123456"},
    {"code": "٣"},
    {"code": None},
    {"model_dump": 1},
    {"list": []},
    {"list": [1]},
    {"2nd-name": "y"},
    {"second": 1},
    {"price": 0},
    {"price": 0.7},
    {"pair": [1]},
    {"pair": ["a", 1]},
    {"table": {"a": "1"}},
    {"table": {"a": 1, "b": 2, "c": 3}},
    {"maybe": 1.5},
    {"maybe": [[["x"]]]},
    {"lines": [{}]},
    {"chain": {"v": 1, "next": {}}},
    {"chain": {"v": 1, "x": 1}},
]


def test_the_model_takes_and_refuses_what_the_schema_does() -> None:
    model, source = model_of(ORDER)
    validator = Validator.of(load(ORDER))
    assert "Not expressed" not in source
    for more, good in [*((each, True) for each in GOOD), *((each, False) for each in BAD)]:
        value = {"id": 1, "class": None, **more}
        assert (validator.problems(value) == ()) is good, value
        assert accepts(model, value) is good, value


def test_what_is_read_is_written_as_it_was() -> None:
    model, _ = model_of(ORDER)
    for each in GOOD:
        value = {"id": 1, "class": None, **each}
        read = model.model_validate_json(json.dumps(value))
        assert json.loads(read.model_dump_json(by_alias=True)) == value


TYPESCRIPT = '''\
// OrderLine: made from a JSON Schema.

export type Tree = number | Array<Tree>;

export interface OrderLineLine {
  /** @integer */
  q: number;
  [name: string]: unknown;
}

export interface Node {
  /** @integer */
  v: number;
  next?: Node;
  [name: string]: unknown;
}

/**
 * An "order" """with""" \\ quotes
 * *\\/ and ends.
 */
export interface OrderLine {
  /**
   * @integer
   * @minimum 1
   * @maximum 9.5
   */
  id: number;
  /**
   * The *\\/ code
   * @maxLength 5
   * @pattern "^\\\\d+$"
   */
  code?: string;
  class: "a" | "b" | null;
  model_dump?: boolean;
  /** @minItems 1 */
  list?: Array<string>;
  "2nd-name"?: "x";
  /**
   * @exclusiveMinimum 0
   * @multipleOf 0.5
   */
  price?: number;
  pair?: [number, string];
  /** @maxProperties 2 */
  table?: { [name: string]: number };
  maybe?: string | null | Tree;
  lines?: Array<OrderLineLine>;
  chain?: Node;
}
'''


def test_typescript() -> None:
    assert render(load(ORDER), "typescript") == TYPESCRIPT


@pytest.mark.parametrize(
    ("schema", "missed"),
    [
        ({"type": "array", "uniqueItems": True}, "uniqueItems at the root"),
        ({"type": "object", "properties": {"a": {"not": {}}}}, "not at /a"),
        ({"type": "object", "properties": {"a": {"type": "string", "pattern": "^(?=x)"}}}, "pattern ^(?=x)"),
        ({"enum": [{"a": 1}, 2]}, "enum at the root"),
        ({"type": "object", "properties": {"a\nb = 1": {"not": {}}}}, "not at /a\\nb = 1"),
        ({"type": "object", "patternProperties": {"^a": {}}}, "patternProperties at the root"),
    ],
)
def test_what_types_cannot_say_is_named(schema: dict[str, Any], missed: str) -> None:
    _, source = model_of(schema)
    assert f"# Not expressed: {missed}." in source.splitlines()


HOSTILE = [
    '"""\nimport os; os.abort()\n"""',
    "'); import os; os.abort(); ('",
    "*/ process.exit(1); /*",
    "\\",
    "\u2028process.exit(1)",
    "__class__",
    "__import__('os').abort()",
    "{os.abort()}",
    "class",
    "None",
    "Any",
    "BaseModel",
    "é",
    "",
    "0",
    "\ud7ff\U0001f600",
    "\0",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_names_and_words_stay_words(text: str) -> None:
    inner = {
        "type": "object",
        "title": text,
        "properties": {text: {"const": text, "description": text}},
        "required": [text],
    }
    schema = {
        "title": text,
        "description": text,
        "type": "object",
        "properties": {text: inner, f"{text}_": {"enum": [text, None]}, "not": {"not": {"title": text}}},
        "required": [text],
        "$defs": {text: {}},
    }  # fmt: skip
    model, _ = model_of(schema, text)
    assert accepts(model, {text: {text: text}})
    assert not accepts(model, {text: {text: f"{text}?"}})
    shown = render(load(schema), "typescript", text)
    comment = re.compile(r"/\*\*.*?\*/|//[^\n\u2028\u2029]*", re.DOTALL)
    code = re.sub(r'"(?:[^"\\]|\\.)*"', '""', comment.sub("", shown))
    assert "process" not in code
    assert re.fullmatch(r'[\w\s{}\[\]:;?|"=.<>]*', code, re.ASCII), code


@settings(
    max_examples=150, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much], deadline=None
)
@given(schemas() | schemas(plain=True), st.lists(values, min_size=5, max_size=20))
def test_every_valid_value_is_taken_and_only_the_inexpressible_not_refused(
    schema: dict[str, Any], several: list[Any]
) -> None:
    try:
        loaded = load(schema)
    except ServerError:
        assume(False)
        raise
    model, source = model_of(schema)
    exact = "Not expressed" not in source
    event("exact" if exact else "wider")
    validator = Validator.of(loaded)
    for value in several:
        valid, taken = not validator.problems(value), accepts(model, value)
        assert taken or not valid, f"{value!r} is valid by {schema}, but:\n{source}"
        assert valid or not taken or not exact, f"{value!r} is not valid by {schema}, but:\n{source}"
    assert render(loaded, "typescript").startswith("// Answer: made from")
