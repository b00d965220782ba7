"""Rules beyond schemas: expressions, lists, lengths, forbidden words, languages, Python."""

from typing import Any

import pytest
from pydantic import ValidationError

from llm_server.contract import Problem
from llm_server.structured.config import RuleConfig, StructuredConfig
from llm_server.structured.expressions import FUNCTIONS, Expression
from llm_server.structured.rules import Rules

INVOICE = {
    "start": 3,
    "end": 2,
    "lines": [{"net": 1, "text": "Tea"}, {"net": -2, "text": "A damned expensive cup"}],
    "note": "Dies ist ein langer Satz, der in deutscher Sprache geschrieben wurde.",
}


def problems(answer: Any = INVOICE, **rule: Any) -> list[tuple[str, str]]:
    found = Rules([RuleConfig.model_validate(rule)]).of("invoice").problems(answer)
    return [(problem.pointer, problem.keyword) for problem in found]


def odd(value: Any) -> str | None:
    return None if value % 2 else "an odd number"


@pytest.mark.parametrize(
    ("rule", "found"),
    [
        ({"check": "value.end >= value.start"}, [("", "check")]),
        ({"check": "value.start >= value.end"}, []),
        (
            {"check": "size(answer.lines) == 2 and value > 0", "at": "/lines/*/net"},
            [("/lines/1/net", "check")],
        ),
        ({"check": "value.missing > 1"}, [("", "check")]),
        ({"check": "value.missing is None or value.missing > 1"}, []),
        ({"one_of": [1, 2], "at": "/end"}, []),
        ({"one_of": [1, True], "at": "/end"}, [("/end", "one_of")]),
        ({"min_length": 4, "at": "/lines/*/text"}, [("/lines/0/text", "length")]),
        ({"max_length": 1, "at": "/lines"}, [("/lines", "length")]),
        ({"max_length": 1, "at": "/end"}, []),
        ({"forbidden": ["DAMN", "x{3}"]}, [("", "forbidden")]),
        ({"forbidden": ["damn"], "at": "/lines/0"}, []),
        ({"language": "de", "at": "/note"}, []),
        ({"language": "en", "at": "/note"}, [("/note", "language")]),
        ({"language": "en", "at": "/lines/0/text"}, []),
        ({"python": f"{__name__}:odd", "at": "/end"}, [("/end", "python")]),
        ({"python": f"{__name__}:odd", "at": "/start"}, []),
        ({"check": "False", "at": "/nowhere/*"}, []),
        ({"check": "False", "schemas": "order*"}, []),
        ({"check": "False", "schemas": "inv*"}, [("", "check")]),
    ],
)
def test_a_rule_finds_what_it_is_about(rule: dict[str, Any], found: list[tuple[str, str]]) -> None:
    if "python" in rule:
        import sys

        sys.modules.setdefault(__name__, sys.modules[__name__])
    assert problems(**rule) == found


def test_a_problem_says_what_was_expected_and_found() -> None:
    rule = RuleConfig(at="/end", check="value > answer.start", message="an end after the start")
    (problem,) = Rules([rule]).of("x").problems(INVOICE)
    assert problem == Problem("/end", "check", "an end after the start", "2")


@pytest.mark.parametrize(
    "rule",
    [
        {"check": "value ="},
        {"check": "open('x')"},
        {"check": "value.__class__.mro()"},
        {"check": "[x async for x in value]"},
        {"check": "lambda: 1"},
        {"check": "value ** value"},
        {"forbidden": ["("]},
        {"at": "no/slash"},
        {"python": "no colon"},
        {"language": "German"},
        {"unknown": 1},
    ],
)
def test_a_rule_that_means_nothing_is_refused_where_it_is_written(rule: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        StructuredConfig.model_validate({"rules": [rule]})


@pytest.mark.parametrize("name", ["no.such.module:f", "json:nothing", "json:__name__"])
def test_a_function_that_is_not_there_is_refused_at_the_start(name: str) -> None:
    with pytest.raises(ValueError, match=r"structured\.rules\[0\]"):
        Rules([RuleConfig(python=name)])


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


def test_rules_of_many_names_stay_few() -> None:
    rules = Rules([RuleConfig(check="True")])
    for number in range(1_500):
        rules.of(f"name-{number}")
    assert len(rules._known) <= 1_000
