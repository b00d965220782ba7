"""Rules beyond schemas: lists, lengths, forbidden words, languages, Python; and where they are refused."""

import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from pydantic import ValidationError

from llm_server.contract import ErrorKind, Problem, ServerError
from llm_server.settings import SettingsError, load
from llm_server.structured import languages
from llm_server.structured.config import RuleConfig, StructuredConfig
from llm_server.structured.rules import Rules
from llm_server.structured.validation import MAX_PROBLEMS

INVOICE = {
    "start": 3,
    "end": 2,
    "paid": True,
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
        ({"one_of": [3.0, 2.0], "at": "/end"}, []),
        ({"one_of": [0, 1], "at": "/paid"}, [("/paid", "one_of")]),
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
    assert problems(**rule) == found


def test_a_problem_says_what_was_expected_and_found() -> None:
    rule = RuleConfig(at="/end", check="value > answer.start", message="an end after the start")
    (problem,) = Rules([rule]).of("x").problems(INVOICE)
    assert problem == Problem("/end", "check", "an end after the start", "2")


@pytest.mark.parametrize(
    "rule",
    [
        {},
        {"message": "says nothing"},
        {"check": "value ="},
        {"forbidden": ["fine", "("]},
        {"forbidden": [r"(a)\1"]},
        {"check": "True", "at": "no/slash"},
        {"python": "no colon"},
        {"language": "German"},
        {"one_of": []},
        {"min_length": 2, "max_length": 1},
        {"check": "True", "unknown": 1},
    ],
)
def test_a_rule_that_means_nothing_is_refused_where_it_is_written(rule: dict[str, Any]) -> None:
    with pytest.raises(ValidationError) as raised:
        StructuredConfig.model_validate({"rules": [{"check": "True"}, rule]})
    assert {each["loc"][:2] for each in raised.value.errors()} == {("rules", 1)}


@pytest.fixture
def mine(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("mine")

    async def later(value: Any) -> None: ...

    functions = {"odd": odd, "later": later, "none": lambda: None, "two": lambda value, other: None}
    module.__dict__.update(functions, broken=lambda value: 1 / 0, VALUE=1)
    monkeypatch.setitem(sys.modules, "mine", module)


UNFIT = [
    ("nowhere.module:f", "'nowhere.module' cannot be imported: No module named 'nowhere'; is it installed"),
    ("json.nowhere:f", "'json.nowhere' cannot be imported: No module named 'json.nowhere'; is it installed"),
    ("json:nothing", "there is no 'nothing' in the module 'json'"),
    ("mine:VALUE", "'mine:VALUE' is no function"),
    ("mine:later", "'mine:later' is asynchronous"),
    ("mine:none", "'mine:none' cannot be called with .*a value: too many positional arguments"),
]


@pytest.mark.usefixtures("mine")
@pytest.mark.parametrize(
    ("name", "words"),
    [
        *UNFIT,
        ("mine:two", "'mine:two' cannot be called with nothing but a value: missing a required argument"),
    ],
)
def test_a_function_that_cannot_be_called_is_a_problem_of_its_setting(name: str, words: str) -> None:
    with pytest.raises(SettingsError) as raised:
        load({"structured.rules": ("a flag", [{"check": "True"}, {"python": name}])}, env={})
    (problem,) = raised.value.problems
    assert problem.path == ("structured", "rules", 1, "python")
    assert re.match(f"is not valid: {words}", problem.words)


@pytest.mark.usefixtures("mine")
@pytest.mark.parametrize(("name", "words"), UNFIT)
def test_so_it_is_with_transformers(name: str, words: str) -> None:
    with pytest.raises(SettingsError) as raised:
        load({"structured.transformers": ("a flag", {"mine": name})}, env={})
    (problem,) = raised.value.problems
    assert problem.path == ("structured", "transformers", "mine")
    assert re.match(f"is not valid: {words}", problem.words)


@pytest.mark.usefixtures("mine")
def test_what_can_be_called_is_taken() -> None:
    transformers = {"odd": "mine:odd", "two": "mine:two", "text": "builtins:str"}
    rules = [{"python": "mine:odd"}, {"python": "builtins:str"}]
    given = {"structured.transformers": ("", transformers), "structured.rules": ("", rules)}
    assert load(given, env={}).settings.structured.transformers == transformers


def test_a_module_that_fails_says_how(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tmp_path.joinpath("failing_rule.py").write_text("import no_such_package\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ValidationError, match="No module named 'no_such_package'") as raised:
        RuleConfig(python="failing_rule:f")
    assert "is it installed" not in str(raised.value)


def test_a_name_that_is_built_in_cannot_be_taken() -> None:
    with pytest.raises(ValidationError, match="there is a transformer of this name already"):
        StructuredConfig(transformers={"trim": "json:loads"})


def test_without_the_package_a_language_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "py3langid", None)
    languages._model.cache_clear()
    with pytest.raises(SettingsError, match=r"rules\[0\]\.language is not valid: .*'llm-server\[language\]'"):
        load({"structured.rules": ("", [{"language": "de"}])}, env={})


@pytest.mark.usefixtures("mine")
def test_a_function_that_fails_is_not_the_answers_fault() -> None:
    rules = Rules([RuleConfig(python="mine:broken")])
    with pytest.raises(ServerError) as raised:
        rules.problems(INVOICE)
    assert raised.value.kind is ErrorKind.INTERNAL
    assert "mine:broken: ZeroDivisionError" in raised.value.detail
    assert "mine" not in raised.value.message


def test_problems_are_few_and_patterns_fast() -> None:
    texts = ["a" * 100_000 + "!"] * 50
    forbidden = Rules([RuleConfig(at="/*", forbidden=("b+$", "(a+)+!"))])
    assert len(forbidden.problems(texts)) == MAX_PROBLEMS
    assert Rules([RuleConfig(at="/*", forbidden=("(a+)+$",))]).problems(texts) == ()


def test_rules_of_many_names_stay_few() -> None:
    rules = Rules([RuleConfig(check="True")])
    for number in range(1_500):
        rules.of(f"name-{number}")
    assert len(rules._known) <= 1_000
