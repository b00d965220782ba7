import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_server.settings import SettingsError
from llm_server.settings.document import MAX_BYTES, parse, read
from llm_server.settings.tree import at, origin, plain

WORDS = st.text(st.characters(max_codepoint=0xD7FF, exclude_characters="$"), max_size=9)
"""Text of the plane that JSON escapes without surrogate pairs, which PyYAML does not join; no variables."""
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3),
    max_leaves=10,
)


def values(text: str, **env: str) -> Any:
    node, problems = parse(text.encode(), "x.yaml", env)
    assert problems == []
    return plain(node)


def wrong(text: str, **env: str) -> list[str]:
    _, problems = parse(text.encode(), "x.yaml", env)
    return [str(problem) for problem in problems]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("no", "no"), ("on", "on"), ("2024-10-21", "2024-10-21"), ("12:30", "12:30"), ("1_000", "1_000"),
        ("true", True), ("FALSE", False), ("null", None), ("~", None), ("", None),
        ("8080", 8080), ("-1", -1), ("007", 7), ("0o17", 15), ("0xff", 255),
        ("1.5", 1.5), (".5", 0.5), ("1e3", 1000.0), ("1.5.2", "1.5.2"),
        ("'8080'", "8080"), ('"true"', "true"), ("!!str 8080", "8080"), ("!!int '8080'", 8080),
        ("[a, 1]", ["a", 1]), ("{b: c}", {"b": "c"}), ("|\n  two\n  lines", "two\nlines"),
    ],
)  # fmt: skip
def test_scalars_are_read_by_the_core_schema(text: str, value: Any) -> None:
    assert values(f"a: {text}") == {"a": value}


@settings(max_examples=50)
@given(st.dictionaries(WORDS, JSON, max_size=4))
def test_json_is_read_as_json_reads_it(value: Any) -> None:
    assert values(json.dumps(value)) == value


@pytest.mark.parametrize("text", ["", "# nothing\n", "---\n", "null\n", "~"])
def test_an_empty_file_has_no_values(text: str) -> None:
    assert values(text) == {}


def test_every_value_knows_its_line() -> None:
    node, _ = parse(b"server:\n  port: 1\n\nlist:\n  - a\n  - ${B:-x}\n", "x.yaml", {})
    assert str(origin(node, ("server",))) == "file x.yaml:1"
    assert str(origin(node, ("server", "port"))) == "file x.yaml:2"
    assert str(origin(node, ("list", 1))) == "file x.yaml:6 (${B})"


def test_variables_are_resolved_in_values_and_not_in_names() -> None:
    assert values("'${A}': '${A}'\nb: ['x${A}']\nc: >-\n  ${A}", A="1") == {
        "${A}": "1",
        "b": ["x1"],
        "c": "1",
    }


def test_what_a_variable_holds_is_text_whatever_it_looks_like() -> None:
    assert values("a: ${A}\nb: ${B}", A="x: [1, {y: !!int 2}]", B="${A}") == {
        "a": "x: [1, {y: !!int 2}]",
        "b": "${A}",
    }


def test_every_problem_of_a_file_is_told_with_its_line() -> None:
    text = "a: ${X}\na: 2\nb:\n  - ${Y}\n  - {c: 1, c: 2}\nd: !secret x\n<<: {e: 1}\n? [f]\n: 1\ng: !!int x\n"
    assert wrong(text) == [
        "x.yaml:1: a needs the environment variable X, which is not set",
        "x.yaml:2: a is written twice, first in line 1",
        "x.yaml:4: b[0] needs the environment variable Y, which is not set",
        "x.yaml:5: b[1].c is written twice, first in line 5",
        "x.yaml:6: d has the tag !secret, which means nothing here",
        "x.yaml:7: has a merge key (<<): write the values out instead",
        "x.yaml:8: has a name that is a list or a mapping",
        "x.yaml:10: g is not what its tag or its form says",
    ]


def test_names_that_yaml_would_take_for_values_are_names() -> None:
    assert values("{8080: a, true: b, null: c}") == {"8080": "a", "true": "b", "null": "c"}


def test_aliases_stand_for_what_they_name() -> None:
    assert values("a: &x {b: 1}\nc: *x") == {"a": {"b": 1}, "c": {"b": 1}}


BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 10)
)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (BOMB, "holds more than"),
        ("a: &a [*a]", "nested too deeply"),
        ("a: " + "[" * 60 + "]" * 60, "x.yaml:1: is nested too deeply"),
        ("a: " + "[" * 5000, "x.yaml: is nested too deeply"),
        ("a: [1", "x.yaml:1: is not valid YAML"),
        ("a: 1\n b: 2", "x.yaml:2: is not valid YAML"),
        ("a: *b", "x.yaml:1: is not valid YAML: found undefined alias 'b'"),
        ("- 1", "x.yaml:1: should be a mapping"),
        ("text", "x.yaml:1: should be a mapping"),
        ("a: 1\n---\nb: 2", "x.yaml:2: is not valid YAML"),
        ("a: \x01", "x.yaml: is not valid YAML"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused_in_one_line(text: str, words: str) -> None:
    with pytest.raises(SettingsError) as caught:
        parse(text.encode(), "x.yaml", {})
    assert words in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_a_number_of_absurd_length_is_a_problem_and_no_crash() -> None:
    assert wrong("a: " + "9" * 5000) == ["x.yaml:1: a is not what its tag or its form says"]


def test_bytes_that_are_no_text_are_refused() -> None:
    with pytest.raises(SettingsError, match=r"x\.yaml: is not valid YAML"):
        parse(b"a: \xff\xfe\xfa", "x.yaml", {})


def test_a_file_that_is_missing_or_too_large_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot be read: No such file"):
        read(tmp_path / "none.yaml", {})
    with pytest.raises(SettingsError, match="cannot be read: Is a directory"):
        read(tmp_path, {})
    large = tmp_path / "large.yaml"
    large.write_bytes(b"a: '" + b"x" * MAX_BYTES + b"'")
    with pytest.raises(SettingsError, match="is larger than"):
        read(large, {})


def test_a_problem_leaves_nothing_in_the_place_of_the_value() -> None:
    node, problems = parse(b"a: ['${X}', b]", "x.yaml", {})
    assert len(problems) == 1
    assert plain(node) == {"a": [None, "b"]}
    assert at(node, ("a", 1)) is not None
