"""Bodies that are passed on by what is remembered: the request is the one that encoding makes, or none."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from llm_server.contract import ChatCall, Facts
from llm_server.providers.dialects.openai import request
from llm_server.providers.dialects.openai.request import MAX_PASSAGE, MAX_PASSAGES, Passages, encode
from llm_server.providers.quirks import Quirks
from tests.providers.calls import from_openai

FIELDS: dict[str, Any] = {
    "max_tokens": 5,
    "max_completion_tokens": 7,
    "temperature": 0.5,
    "top_p": None,
    "seed": 1,
    "stop": ["a"],
    "n": 2,
    "user": "u",
    "stream": False,
    "stream_options": None,
    "tools": [],
    "response_format": {"type": "json_object"},
    "guided_regex": None,
    "stream_structured": None,
    "x_unknown": {"deep": [1, None]},
    "reasoning_effort": "low",
}
MESSAGES = [
    [{"role": "user", "content": "hi"}],
    [{"role": "developer", "content": "be brief"}, {"role": "user", "content": "hi", "name": "ann"}],
    [
        {
            "role": "assistant",
            "tool_calls": [
                {"id": "x" * 60, "type": "function", "function": {"name": "f", "arguments": "{}"}}
            ],
        },
        {"role": "tool", "tool_call_id": "x" * 60, "content": "1"},
    ],
    [{"role": "user", "content": 'the "name" of a "tool_call" \\u0000 é'}],
]
QUIRKS = {
    "older": Quirks(),
    "modern": Quirks(chat_renames={}, developer=True, reasoning="reasoning_content"),
    "refusing": Quirks(refuses=frozenset({"user", "top_p"}), names=False, bare_tools=False),
    "strict": Quirks(accepts=frozenset({"model", "messages", "max_tokens", "temperature"})),
    "deployed": Quirks(prefix="openai/deployments/{model}/", query="?api-version=1", stream_options=False),
}
FACTS = [
    Facts(guided=True),
    Facts(guided=True, refuses=frozenset({"temperature", "seed"})),
    Facts(guided=True, refuses=frozenset({"max_tokens"})),
]


def called(fields: dict[str, Any], messages: Any, model: str) -> ChatCall:
    """Return the call of a caller who sends these fields, addressed to ``model``."""
    call = from_openai(**{"messages": messages, **fields})
    assert isinstance(call, ChatCall)
    return replace(call, model=model)


@pytest.mark.parametrize("name", QUIRKS)
@given(
    asked=st.lists(
        st.tuples(
            st.lists(st.sampled_from(list(FIELDS)), unique=True, max_size=6),
            st.sampled_from(MESSAGES),
            st.sampled_from(["m", "org/model/one", "a b"]),
            st.sampled_from(FACTS),
        ),
        min_size=1,
        max_size=6,
    )
)
def test_what_is_passed_on_is_what_encoding_makes(name: str, asked: Any) -> None:
    """Whatever came before, with the same fields to another model, or the same with other facts."""
    quirks = QUIRKS[name]
    passages = Passages(quirks)
    for names, messages, model, facts in [*asked, *asked]:
        call = called({each: FIELDS[each] for each in names}, messages, model)
        passed = passages.request(call, facts)
        assert passed in {None, encode(call, facts, quirks)}


def test_plain_bodies_are_passed_on() -> None:
    """Else nothing here would be tested at all."""
    passages = Passages(Quirks())
    call = called({"max_completion_tokens": 7, "temperature": 0.5, "x_unknown": 1}, MESSAGES[0], "m")
    passed = passages.request(call, Facts())
    assert passed is not None
    assert json.loads(passed.body)["max_tokens"] == 7
    assert "max_completion_tokens" not in json.loads(passed.body)


def test_names_of_one_deployment_may_refuse_different_fields() -> None:
    """Facts are those of the name that was asked for; the model that is sent is the same."""
    passages, call = Passages(Quirks()), called({"temperature": 0.5}, MESSAGES[0], "deployed")
    assert passages.request(call, Facts()) is not None
    assert passages.request(call, Facts(refuses=frozenset({"temperature"}))) is None
    assert passages.request(call, Facts()) is not None


@pytest.mark.parametrize(
    "change",
    [
        {"stream": True},
        {"dialect": "anthropic"},
        {"raw": b""},
        {"amended": frozenset({"messages"})},
    ],
)
def test_calls_that_are_to_be_encoded(change: Any) -> None:
    call = replace(called({}, MESSAGES[0], "m"), **change)
    assert Passages(Quirks()).request(call, Facts()) is None


def test_what_is_remembered_has_a_bound() -> None:
    passages = Passages(Quirks())
    for at in range(MAX_PASSAGES + 10):
        assert passages.request(called({f"x{at}": 1}, MESSAGES[0], "m"), Facts()) is not None
        assert len(passages._known) <= MAX_PASSAGES
    before = len(passages._known)
    assert passages.request(called({"x" * MAX_PASSAGE: 1}, MESSAGES[0], "m"), Facts()) is not None
    assert len(passages._known) == before


def test_thousands_of_messages_go_on_as_they_stand() -> None:
    many = [{"role": "user", "content": f"message {at}"} for at in range(5000)]
    call = called({}, many, "m")
    passed = Passages(Quirks()).request(call, Facts())
    assert passed == request.encode(call, Facts(), Quirks())
    assert passed is not None
    assert json.loads(passed.body)["messages"] == many
