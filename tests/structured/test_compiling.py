"""Compiling constraints: what is promised, what is dropped and said, and that nothing hostile lasts."""

import asyncio
import json
import random
import threading
import tracemalloc
from typing import Any

import pytest
from msgspec import Raw

from llm_server.contract import ErrorKind, OutputFormat, ServerError
from llm_server.structured import grammar
from llm_server.structured.ending import ended
from llm_server.structured.grammar import Compiled, accepts, compile_output, engine, prepare
from llm_server.structured.schema import load
from llm_server.structured.validation import Validator


def of_schema(schema: dict[str, Any]) -> Compiled:
    return compile_output(OutputFormat(kind="json_schema", schema=Raw(json.dumps(schema).encode())))


def lets(compiled: Compiled, *values: Any) -> list[bool]:
    return [accepts(compiled, json.dumps(value)) for value in values]


def test_a_schema_is_enforced_exactly() -> None:
    compiled = of_schema({"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]})
    assert (compiled.kind, compiled.guarantee, compiled.dropped) == ("json_schema", "exact", ())
    assert lets(compiled, {"a": 1}, {"a": 1, "b": 2}, {"a": "1"}, {}, []) == [True, True, False, False, False]


def test_json_is_laid_out_in_one_way() -> None:
    compiled = of_schema({"type": "array", "items": {"type": "object"}})
    spellings = ['[{"a": 1}, {}]', '[{"a":1}, {}]', '[{"a":  1}, {}]', '[{"a": 1},{}]', "[ ]", "[]\n"]
    assert [accepts(compiled, each) for each in spellings] == [True, False, False, False, False, False]


def test_properties_come_in_the_order_of_the_schema() -> None:
    shapes = [{"type": "object", "properties": {key: {} for key in order}} for order in ("ab", "ba")]
    first, second = map(of_schema, shapes)
    assert lets(first, {"a": 1, "b": 2}, {"b": 1, "a": 2}) == [True, False]
    assert lets(second, {"a": 1, "b": 2}, {"b": 1, "a": 2}) == [False, True]


@pytest.mark.parametrize(
    ("schema", "dropped"),
    [
        ({"type": "array", "uniqueItems": True}, ("uniqueItems",)),
        ({"oneOf": [{"type": "integer"}, {"type": "number"}]}, ("oneOf",)),
        ({"type": "string", "not": {"pattern": "a"}}, ("not",)),
        ({"type": "string", "format": "regex"}, ("format regex",)),
        ({"type": "string", "pattern": "^(?!a)b"}, ("pattern",)),
        ({"patternProperties": {"^(?!a)b": {}}}, ("additionalProperties", "patternProperties")),
        ({"type": "array", "maxItems": 10**9}, ("maxItems",)),
        ({"type": "string", "maxLength": 10**12}, ("maxLength",)),
        ({"type": "number", "minimum": 1e-300}, ("minimum",)),
        ({"type": "object", "properties": {"a": {}}, "minProperties": 2}, ("maxProperties", "minProperties")),
        ({"type": "string", "allOf": [{"pattern": f"{at}.*{at}"} for at in range(60)]}, ("pattern",)),
        (
            {"$schema": "http://json-schema.org/draft-07/schema#", "items": {"contentEncoding": "base64"}},
            ("contentEncoding",),
        ),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_is_not_enforced_is_named(schema: dict[str, Any], dropped: tuple[str, ...]) -> None:
    compiled = of_schema(schema)
    assert (compiled.guarantee, compiled.dropped) == ("relaxed", dropped)


@pytest.mark.parametrize(
    "schema",
    [
        {"oneOf": [{"type": "null"}, {"$ref": "#/$defs/a"}], "$defs": {"a": {"type": "string"}}},
        {"type": "object", "properties": {"a": {}, "b": {}}, "dependentRequired": {"a": ["b"]}},
        {"type": "object", "not": {"required": ["a"]}, "properties": {"a": {}, "b": {}}},
        {"type": "string", "format": "uri"},
        {"type": "string", "format": "json-pointer"},
        {"type": "string", "format": "int64"},
        {"type": "object", "propertyNames": {"pattern": "^x-"}},
        {"oneOf": [{"required": ["a"]}, {"required": ["b"]}], "type": "object"},
        {"type": "string", "contentEncoding": "base64", "x-guidance": {"lenient": True}},
    ],
)
def test_what_can_be_said_otherwise_is_exact(schema: dict[str, Any]) -> None:
    assert of_schema(schema).guarantee == "exact"


@pytest.mark.parametrize(
    ("kind", "before", "longest"), [("email", "ada@", 254), ("hostname", "", 253)], ids=["email", "hostname"]
)
def test_an_address_and_a_host_come_to_an_end(kind: str, before: str, longest: int) -> None:
    good = (before + ".".join(["b" * 50] * 6))[:longest]
    schema = {"type": "object", "properties": {"a": {"anyOf": [{"type": "null"}, {"format": kind}]}}}
    compiled, validator = of_schema(schema), Validator.of(load(schema))
    assert compiled.guarantee == "exact"
    assert lets(compiled, {"a": good}, {"a": good + "b"}) == [True, False]
    assert validator.problems({"a": good}) == ()


def test_a_length_that_a_schema_says_itself_stays() -> None:
    compiled = of_schema({"format": "hostname", "maxLength": 4})
    assert lets(compiled, "b.cd", "bb.cd") == [True, False]
    assert ended({"format": "email", "minLength": 300}) == {"format": "email", "minLength": 300}
    untouched = {"items": True, "const": {"format": "email"}}
    assert ended(untouched) == untouched


@pytest.mark.parametrize(
    "more",
    [
        {"pattern": r"@example\.com$"},  # with a length beside it, llguidance gives up
        {"allOf": [{"pattern": r"@example\.com$"}]},
        {"pattern": r"^[a-z]+@example\.com$", "maxLength": 60},
    ],
)
def test_an_end_is_nothing_that_a_schema_is_refused_for(more: dict[str, Any]) -> None:
    compiled = of_schema({"type": "string", "format": "email", **more})
    assert compiled.guarantee == "exact"
    assert lets(compiled, "ada@example.com", "ada@example.org") == [True, False]


WALKED: list[dict[str, Any]] = [
    {"type": "object", "properties": {"a": {"type": "boolean"}, "b": {"enum": ["x", "y"]}}, "required": ["b"],
     "additionalProperties": False},
    {"oneOf": [{"required": ["a"]}, {"required": ["b"]}], "type": "object", "additionalProperties": False,
     "properties": {"a": {"type": "null"}, "b": {"type": "null"}}},
    {"type": "array", "items": {"type": "integer", "minimum": 5, "maximum": 99}, "minItems": 2},
    {"type": "string", "pattern": "^[a-c]{2}(-[0-9]+)?$", "maxLength": 8},
    {"type": "string", "format": "uri", "maxLength": 20},
    {"type": "string", "format": "hostname"},
]  # fmt: skip


@pytest.mark.parametrize("schema", WALKED, ids=lambda schema: str(schema)[:40])
def test_whatever_an_exact_grammar_writes_is_valid(schema: dict[str, Any]) -> None:
    """Write fifty answers byte by byte, choosing at random among what the grammar allows."""
    compiled, validator = of_schema(schema), Validator.of(load(schema))
    assert compiled.guarantee == "exact"
    chance = random.Random(1)
    for _ in range(50):
        answer = written(compiled, chance)
        assert validator.problems(json.loads(answer)) == (), answer


def written(compiled: Compiled, chance: random.Random) -> bytes:
    matcher = engine().LLMatcher(grammar._bytes_tokenizer(), compiled.text)
    answer = bytearray()
    while not matcher.is_stopped():
        bias = matcher.compute_logit_bias()
        allowed = [byte for byte in range(256) if bias[byte]]
        plain = [byte for byte in allowed if 32 <= byte < 127 and byte != ord("\\")]
        if matcher.is_accepting() and (not plain or chance.random() < 0.3):
            break
        answer.append(chance.choice(plain or allowed))
        assert matcher.consume_token(answer[-1])
    return bytes(answer)


def test_any_object_is_a_json_object() -> None:
    compiled = compile_output(OutputFormat(kind="json_object"))
    assert compiled.guarantee == "exact"
    assert lets(compiled, {}, {"a": [1, {"b": None}]}, [1], "a") == [True, True, False, False]


@pytest.mark.parametrize(
    ("pattern", "good", "bad"),
    [
        ("[a-z]+/[0-9]{3}", "ab/123", "ab/12"),
        ("^a|b$", "b", "ab"),
        (r"\d+\.\d{2}", "3.14", "٣.14"),
        ("é|日本", "日本", "日"),
        (r"costs \$", "costs $", "costs "),
        ("(a+)+", "aaaa", "aab"),
    ],
)
def test_a_regular_expression_matches_the_whole_answer(pattern: str, good: str, bad: str) -> None:
    compiled = compile_output(OutputFormat(kind="regex", pattern=pattern))
    assert compiled.guarantee == "exact"
    assert (accepts(compiled, good), accepts(compiled, bad)) == (True, False)


def test_a_choice_is_one_of_its_texts() -> None:
    choices = ("yes", "no", 'a "quoted"\nline', "back\\slash", "日本", "")
    compiled = compile_output(OutputFormat(kind="choice", choices=choices))
    assert all(accepts(compiled, choice) for choice in choices)
    assert not any(accepts(compiled, text) for text in ("ye", "yesno", "Yes", "back"))


@pytest.mark.parametrize(
    "text",
    [
        'start: "a" NUMBER\nNUMBER: /[0-9]+/',
        '%llguidance {}\nstart: "a" /[0-9]+/',
        'root ::= "a" digit+\ndigit ::= [0-9]',
    ],
)
def test_grammars_are_taken_as_lark_or_ebnf(text: str) -> None:
    compiled = compile_output(OutputFormat(kind="grammar", grammar=text))
    assert (accepts(compiled, "a12"), accepts(compiled, "b12")) == (True, False)


@pytest.mark.parametrize(
    ("output", "kind", "words"),
    [
        (OutputFormat(kind="regex", pattern="(?=a)b"), ErrorKind.INVALID_REQUEST, "regex"),
        (OutputFormat(kind="regex", pattern="("), ErrorKind.INVALID_REQUEST, "regex"),
        (OutputFormat(kind="regex", pattern=""), ErrorKind.INVALID_REQUEST, "0 characters"),
        (OutputFormat(kind="regex", pattern="a" * 5_000), ErrorKind.INVALID_REQUEST, "5000 characters"),
        (OutputFormat(kind="regex", pattern="a{99999}"), ErrorKind.INVALID_REQUEST, "repetitions"),
        (OutputFormat(kind="choice"), ErrorKind.INVALID_REQUEST, "0 choices"),
        (OutputFormat(kind="choice", choices=("a",) * 2_001), ErrorKind.INVALID_REQUEST, "2001 choices"),
        (OutputFormat(kind="choice", choices=("a" * 70_000,)), ErrorKind.INVALID_REQUEST, "70000 characters"),
        (OutputFormat(kind="grammar", grammar="start: missing"), ErrorKind.INVALID_REQUEST, "missing"),
        (OutputFormat(kind="grammar", grammar="root ::= missing"), ErrorKind.INVALID_REQUEST, "missing"),
        (OutputFormat(kind="grammar", grammar="hello"), ErrorKind.INVALID_REQUEST, "grammar"),
        (
            OutputFormat(kind="grammar", grammar='start: "a"{0,99999}'),
            ErrorKind.INVALID_REQUEST,
            "repetitions",
        ),
        (OutputFormat(kind="grammar", grammar="x" * 70_000), ErrorKind.INVALID_REQUEST, "70000 bytes"),
        (OutputFormat(kind="grammar", grammar="start: " + "(" * 9_000), ErrorKind.INVALID_REQUEST, "nested"),
        (
            OutputFormat(kind="grammar", grammar="root ::= " + "(" * 9_000 + '"a"' + ")" * 9_000),
            ErrorKind.INVALID_REQUEST,
            "recursion",
        ),
        (OutputFormat(kind="json_schema", schema=Raw(b'{"type": 1}')), ErrorKind.INVALID_REQUEST, "#/type"),
        (
            OutputFormat(
                kind="json_schema",
                schema=Raw(b'{"required": ["a"], "properties": {"a": false}, "type": "object"}'),
            ),
            ErrorKind.INVALID_REQUEST,
            "No value can satisfy",
        ),
    ],
    ids=lambda value: str(value)[:50],
)
def test_a_constraint_that_is_wrong_is_refused(output: OutputFormat, kind: ErrorKind, words: str) -> None:
    with pytest.raises(ServerError) as caught:
        compile_output(output)
    assert caught.value.kind is kind
    assert words in caught.value.message
    assert len(caught.value.message) < 300


def product(parts: int, options: int) -> dict[str, Any]:
    """Return a short schema with options**parts combinations."""
    return {
        "type": "object",
        "allOf": [
            {
                "anyOf": [
                    {"properties": {f"p{part}": {"const": at}}, "required": [f"p{part}"]}
                    for at in range(options)
                ]
            }
            for part in range(parts)
        ],
    }


def twice(at: int) -> dict[str, Any]:
    return {"properties": {"x": {"$ref": f"#/$defs/a{at}"}, "y": {"$ref": f"#/$defs/a{at}"}}}


@pytest.mark.parametrize("schema", [product(20, 2), product(8, 8), product(40, 3)])
def test_combinations_without_end_are_not_compiled(schema: dict[str, Any]) -> None:
    with pytest.raises(ServerError) as caught:
        of_schema(schema)
    assert caught.value.kind is ErrorKind.UNSUPPORTED


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "array", "items": {"type": "array", "maxItems": 9_000}, "minItems": 9_000},
        {"enum": [f"value {at}" for at in range(2_000)]},
        {"allOf": [{"properties": {"a": {"pattern": f"^([a-z]{{0,{at}}}.*b){{3}}"}}} for at in range(60)]},
        {"$defs": {**{f"a{at}": twice(at + 1) for at in range(40)}, "a40": {}}, "$ref": "#/$defs/a0"},
        {"properties": {"l": {"$ref": "#"}, "r": {"$ref": "#"}}},
    ],
    ids=range(5),
)  # fmt: skip
def test_what_is_large_is_compiled_all_the_same(schema: dict[str, Any]) -> None:
    assert of_schema(schema).text


def test_a_constraint_seen_before_is_not_compiled_again() -> None:
    assert of_schema({"const": "again"}) is of_schema({"const": "again"})


def test_a_thousand_grammars_leave_memory_flat() -> None:
    def fill(start: int) -> int:
        for at in range(start, start + 400):
            of_schema({"const": f"value {at}"})
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        fill(0)
        full = fill(400)
        assert fill(800) < full * 1.1
    finally:
        tracemalloc.stop()


async def test_compiling_leaves_the_loop_free(monkeypatch: pytest.MonkeyPatch) -> None:
    """The compiler waits for what only the loop can give: on the loop it would wait for ever."""
    given = threading.Event()

    def slow(output: OutputFormat) -> Compiled:
        assert given.wait(30)
        return Compiled("choice", "exact", output.choices[0])

    monkeypatch.setitem(grammar._COMPILERS, "choice", slow)
    task = asyncio.create_task(prepare(OutputFormat(kind="choice", choices=("slow",))))
    await asyncio.sleep(0)
    given.set()
    assert (await task).text == "slow"
    assert await prepare(OutputFormat(kind="choice", choices=("slow",))) is await task


@pytest.mark.parametrize(
    "schema", [{"multipleOf": 1_000_003}, {"allOf": [{"multipleOf": 997}, {"multipleOf": 991}]}]
)
def test_what_divides_into_too_many_remainders_is_only_checked(schema: dict[str, Any]) -> None:
    compiled = of_schema({"type": "integer", **schema})
    assert (compiled.guarantee, compiled.dropped) == ("relaxed", ("multipleOf",))
    assert lets(compiled, 12) == [True]


@pytest.mark.parametrize("multiple", [0.01, 60, 1_000])
def test_usual_multiples_are_enforced(multiple: float) -> None:
    compiled = of_schema({"type": "number", "multipleOf": multiple})
    assert compiled.guarantee == "exact"
    assert lets(compiled, 3_000, 0.001) == [True, False]


def test_a_regular_expression_without_an_automaton_is_refused_in_words() -> None:
    with pytest.raises(ServerError, match="look-around") as raised:
        compile_output(OutputFormat(kind="regex", pattern="(?=a)a"))
    assert raised.value.kind is ErrorKind.INVALID_REQUEST
