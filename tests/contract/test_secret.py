"""A secret never prints."""

import copy
import json
import logging
import pickle
import traceback

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_server.contract import Secret

KEY = "sk-canary-7f3a"


@pytest.mark.parametrize(
    "shown",
    [
        repr(Secret(KEY)),
        str(Secret(KEY)),
        f"{Secret(KEY)}",
        f"{Secret(KEY)!r:>40}",
        "%s %r" % (Secret(KEY), Secret(KEY)),  # noqa: UP031 - the old way must hide it too
        repr({"key": [Secret(KEY)]}),
        repr(getattr(Secret(KEY), "__dict__", {})),
    ],
)
def test_no_way_of_printing_shows_it(shown: str) -> None:
    assert "canary" not in shown


def test_logs_and_tracebacks_do_not_show_it(caplog: pytest.LogCaptureFixture) -> None:
    secret = Secret(KEY)
    logging.getLogger("test").error("key %s", secret)
    try:
        raise ValueError(secret)
    except ValueError:
        shown = traceback.format_exc()
    assert "canary" not in caplog.text + shown


def test_it_is_never_serialised() -> None:
    with pytest.raises(TypeError):
        pickle.dumps(Secret(KEY))
    with pytest.raises(TypeError):
        copy.deepcopy(Secret(KEY))
    with pytest.raises(TypeError):
        json.dumps(Secret(KEY))


def test_only_reveal_shows_it() -> None:
    assert Secret(KEY).reveal() == KEY


@given(st.text(), st.text())
def test_secrets_are_equal_when_their_values_are(one: str, other: str) -> None:
    assert (Secret(one) == Secret(other)) == (one == other)
    assert Secret(one) == Secret(one)
    assert hash(Secret(one)) == hash(Secret(one))
    assert Secret(one) != one


def test_an_empty_secret_is_false_and_redacts_nothing() -> None:
    assert not Secret("")
    assert Secret(KEY)
    assert Secret("").redact("text") == "text"


@given(st.text(), st.text())
def test_redacted_text_does_not_hold_it(before: str, after: str) -> None:
    assert KEY not in Secret(KEY).redact(before + KEY + after + KEY)
