"""Expressions over answers: what they say, what they may not, and what they may cost."""

from typing import Any

import pytest

from llm_server.structured.expressions import FUNCTIONS, MAX_TEXT, Expression


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1 + 2 * 3 - 4 / 2 % 3 // 1", 5.0),
        ("-value.a < 0 <= value.a", True),
        ("not value.a or value['b'][0] == 'x'", True),
        ("value.a if value.c else [1, (2, 3)]", [1, [2, 3]]),
        ("'x' in value.b and 'y' not in value.b", True),
        ("value.none is None and value.a is not None", True),
        ("sum(n for n in value.n if n > 1)", 5),
        ("[a + b for a in value.n for b in value.n if a == b]", [2, 4, 6]),
        ("distinct(value.n) and any(n == 2 for n in value.n)", True),
        ("starts_with('abc', 'a') and ends_with('abc', 'c') and matches('abc', 'b')", True),
        ("lower('A') == 'a' and upper('a') == 'A' and abs(-1) == round(1.2) == min(1, 2)", True),
    ],
)
def test_expressions_say_what_they_say_in_python(text: str, value: Any) -> None:
    names = {"value": {"a": 1, "b": ["x"], "n": [1, 2, 3]}}
    assert Expression(text)(names) == value


def test_the_functions_are_few_and_harmless() -> None:
    assert not FUNCTIONS.keys() & {"eval", "exec", "open", "getattr", "print", "type", "vars"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("value =", "not an expression: invalid syntax"),
        ("", "not an expression"),
        ("1\x00", "not an expression"),
        ("1" + "+1" * MAX_TEXT, "at most"),
        ("(" * 500 + "1" + ")" * 500, "not an expression"),
        ("not " * 40 + "1", "nested deeper"),
        ("open('x')", "only these functions"),
        ("value.__class__.mro()", "only these functions"),
        ("all(x for x in value, key=1)", "not an expression|only these functions"),
        ("sum(value, start=1)", "only these functions"),
        ("[x async for x in value]", "only 'for name in items'"),
        ("[x for x, y in value]", "only 'for name in items'"),
        ("lambda: 1", "Lambda cannot stand"),
        ("value ** value", "Pow cannot stand"),
        ("f'{value}'", "JoinedStr cannot stand"),
        ("max(*value)", "Starred cannot stand"),
        ("value[1:]", "Slice cannot stand"),
        ("b'x'", "bytes cannot stand"),
        ("(x := 1)", "NamedExpr cannot stand"),
        ("vlaue.x > 1", "'vlaue' is no name here; there are: answer, value"),
        ("size > 1", "'size' is no name here"),
        ("[x for x in value if y for y in x]", "'y' is no name here"),
        ("any(x for x in value) and x", "'x' is no name here"),
        ("size()", "size: missing a required argument"),
        ("starts_with('a')", "starts_with: missing a required argument"),
        ("max()", "max: missing an argument"),
        ("matches(value, '(')", "no regular expression"),
        ("matches(value.text, value.pattern)", "stands in the expression itself"),
        ("value is 1", "write == or !="),
    ],
)
def test_what_cannot_be_meant_is_refused_when_it_is_read(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Expression(text)


HOSTILE = {"value": {"text": "ab" * 50, "number": 10**12, "list": list(range(2_000))}}


@pytest.mark.parametrize(
    "text",
    [
        "value.text * value.number",
        "[0] * value.number",
        "'%1000000000d' % value.number",
        "[1 for a in value.list for b in value.list for c in value.list]",
        "all(all(all(True for c in value.list) for b in value.list) for a in value.list)",
        "value.number.property",
    ],
)
def test_what_an_answer_makes_too_dear_or_senseless_is_an_error(text: str) -> None:
    with pytest.raises((TypeError, ValueError)):
        Expression(text)(HOSTILE)


def test_patterns_take_linear_time() -> None:
    assert not Expression("matches(value, '(a+)+$')")({"value": "a" * 100_000 + "!"})


def test_what_is_not_there_is_none_all_the_way() -> None:
    assert Expression("value.no.such.property is None")(HOSTILE)
