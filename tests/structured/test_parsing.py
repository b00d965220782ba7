"""Reading what a model wrote: strictly, partly, leniently; never inventing."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_server.structured import parsing
from llm_server.structured.validation import MAX_DEPTH

JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)
GOOD = '{"a": [1, "}]"]}'


@given(JSON)
def test_what_is_json_is_read_as_it_is(value: Any) -> None:
    assert parsing.strict(json.dumps(value)) == value
    assert parsing.strict(f" \n{json.dumps(value, ensure_ascii=False)}\t") == value
    assert parsing.strict(parsing.written(value)) == value


@pytest.mark.parametrize(
    "text", ["", "x", "NaN", "[1,]", "{'a': 1}", '{"a":1,"a":2}', "1 2", '"\x01"', "[1", "// x\n1"]
)
def test_what_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the library's message is not ours
        parsing.strict(text)


@pytest.mark.parametrize(
    "text",
    [
        f"```json\n{GOOD}\n```",
        f"```\n{GOOD}```",
        f"Sure! Here it is: {GOOD} Anything else?",
        f"Sure!\n```JSON\n{GOOD}\n```\nI used [a].",
        '{"a": [1, "}]"],}',
        '{"a": [1 "}]"]}',
        '{a: [1, "}]"]}',
    ],
)
def test_slips_are_forgiven(text: str) -> None:
    assert parsing.lenient(text) == {"a": [1, "}]"]}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "None of it.",
        '{"a": [1, "x"',
        '{"a": "the end is miss',
        "[1, 2",
        '{"a": 1} and {"b": 2}',
        f"```json\n{GOOD}\n```\nor\n```json\n[]\n```",
        "{" * 300_000,
    ],
)
def test_nothing_is_invented(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - whichever reader says no
        parsing.lenient(text)


@given(JSON.filter(lambda value: isinstance(value, dict | list) and value), st.data())
def test_a_text_that_is_cut_off_is_never_completed(value: Any, data: st.DataObject) -> None:
    text = json.dumps(value)
    cut = text[: data.draw(st.integers(0, len(text) - 1))]
    with pytest.raises(ValueError):  # noqa: PT011 - whichever reader says no
        parsing.lenient(cut)


@pytest.mark.parametrize(
    ("text", "read"),
    [(" red\n", "red"), ('"red"', "red"), ("`red`", "red"), ("```\nred\n```", "red"), ("'", "'")],
)
def test_a_bare_answer_loses_its_dress(text: str, read: str) -> None:
    assert parsing.bare(text) == read


def test_the_beginning_of_a_text_is_read_as_far_as_it_goes() -> None:
    assert parsing.partial('{"a": "be') == {"a": "be"}
    with pytest.raises(ValueError):  # noqa: PT011 - the library's message is not ours
        parsing.partial("no")


@pytest.mark.parametrize("opening", ["[", '{"a":'])
@pytest.mark.parametrize("levels", [MAX_DEPTH + 1, 20_000])
def test_no_value_is_nested_deeper_than_its_readers_go(opening: str, levels: int) -> None:
    text = opening * levels + "1" + {"[": "]"}.get(opening, "}") * levels
    for read in (parsing.strict, parsing.partial, parsing.lenient):
        with pytest.raises(ValueError):  # noqa: PT011 - the library's message is not ours
            read(text)
    with pytest.raises(ValueError, match="deep"):
        parsing.lenient(f"Here: {text}")


@pytest.mark.parametrize("number", ["1e999", "-1E+400", "1" * 310 + ".5"])
@pytest.mark.parametrize("read", [parsing.strict, parsing.partial, parsing.lenient])
def test_a_number_that_no_double_holds_is_none(read: Callable[[str], Any], number: str) -> None:
    with pytest.raises(ValueError, match="number"):
        read(f'{{"a": [{number}]}}')


def test_a_text_that_only_looks_like_such_a_number_is_read() -> None:
    assert parsing.strict('{"a": "1e999", "b": 1e308}') == {"a": "1e999", "b": 1e308}


@pytest.mark.parametrize("read", [parsing.strict, parsing.lenient])
def test_half_of_a_surrogate_pair_is_no_text(read: Callable[[str], Any]) -> None:
    with pytest.raises(ValueError, match=r"escape|surrogate"):
        read('{"a": "\\ud800"}')
