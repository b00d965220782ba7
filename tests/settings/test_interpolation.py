import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_server.settings.interpolation import InterpolationError, interpolate

NAMES = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,8}", fullmatch=True)
ENV = {"HOST": "example.org", "EMPTY": "", "ODD": "a$$b ${HOST}"}


@pytest.mark.parametrize(
    ("text", "value", "names"),
    [
        ("http://${HOST}:80", "http://example.org:80", ("HOST",)),
        ("${HOST}${HOST}", "example.orgexample.org", ("HOST",)),
        ("${NONE:-x}", "x", ("NONE",)),
        ("${NONE:-}", "", ("NONE",)),
        ("${NONE:-a:-b}", "a:-b", ("NONE",)),
        ("${EMPTY:-x}", "x", ("EMPTY",)),
        ("[${EMPTY}]", "[]", ("EMPTY",)),
        ("${ODD}", "a$$b ${HOST}", ("ODD",)),
        ("$HOST costs 5$", "$HOST costs 5$", ()),
        ("$${HOST}", "${HOST}", ()),
        ("$$$${HOST}", "$${HOST}", ()),
        ("$$${HOST}", "$example.org", ("HOST",)),
        ("", "", ()),
    ],
)
def test_variables_are_replaced_once(text: str, value: str, names: tuple[str, ...]) -> None:
    assert interpolate(text, ENV) == (value, names)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("${NONE}", ["NONE"]),
        ("${NONE} ${NIL}", ["NONE", "NIL"]),
        ("${", ["without a name"]),
        ("${1A}", ["without a name"]),
        ("${HOST:x}", ["without a name"]),
        ("${} ${NONE}", ["without a name", "NONE"]),
    ],
)
def test_what_cannot_be_replaced_is_named_all_at_once(text: str, words: list[str]) -> None:
    with pytest.raises(InterpolationError) as caught:
        interpolate(text, ENV)
    assert [word for word in words if word not in str(caught.value)] == []
    assert "example.org" not in str(caught.value)


@given(st.text())
def test_doubling_every_dollar_keeps_any_text(text: str) -> None:
    assert interpolate(text.replace("$", "$$"), {}) == (text, ())


@given(
    NAMES,
    st.text(),
    st.text(st.characters(exclude_characters="$")),
    st.text(st.characters(exclude_characters="$")),
)
def test_a_value_stands_where_its_variable_stood(name: str, value: str, before: str, after: str) -> None:
    assert interpolate(f"{before}${{{name}}}{after}", {name: value}) == (before + value + after, (name,))
