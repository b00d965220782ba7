"""Signatures travel through clients that know nothing of them, and come back as they were."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_server.contract import ChatCall, Completion, Facts, Message, Role, Text, ToolCall, ToolResult
from llm_server.providers.dialects.gemini import Gemini
from llm_server.providers.dialects.signatures import seal, signed_id, split_id, unseal
from tests.providers.gemini.calls import HELLO
from tests.upstreams.cases import load

IDS = st.from_regex(r"[A-Za-z0-9-]{1,40}", fullmatch=True)


@given(call_id=IDS, signature=st.text(min_size=1))
def test_an_id_carries_a_signature(call_id: str, signature: str) -> None:
    joined = signed_id(call_id, signature)
    assert split_id(joined) == (call_id, signature)
    assert re.fullmatch(r"[A-Za-z0-9_-]+", joined)


@given(call_id=IDS)
def test_an_unsigned_id_is_left_alone(call_id: str) -> None:
    assert signed_id(call_id, "") == call_id
    assert split_id(call_id) == (call_id, "")


@pytest.mark.parametrize("foreign", ["", "toolu_01__sig_", "a__sig_%%%", "a__sig_A", "a__sig__w"])
def test_what_only_looks_signed_is_left_alone(foreign: str) -> None:
    assert split_id(foreign) == (foreign, "")


@given(signature=st.text())
def test_only_our_own_seal_opens(signature: str) -> None:
    assert unseal(seal(signature)) == signature
    assert unseal(f"x{signature}") == ""


@pytest.mark.parametrize("name", ["tool", "tools"])
def test_a_signed_call_goes_back_as_it_came(name: str) -> None:
    """The parts that Gemini recorded are the parts that it is sent in the next turn."""
    case, dialect = load("gemini", name), Gemini()
    answer = dialect.decode(ChatCall(model="m", messages=()), case.body)
    assert isinstance(answer, Completion)
    parts = answer.choices[0].parts
    results = tuple(
        Message(Role.TOOL, (ToolResult(call_id=call.id, parts=(Text("ok"),)),))
        for call in parts
        if isinstance(call, ToolCall)
    )
    turns = (*HELLO, Message(Role.ASSISTANT, parts), *results)
    request = dialect.encode(ChatCall(model="gemini-3-flash-preview", messages=turns), Facts())
    assert request.dropped == ()
    for signature in case.answer["signatures"]:
        assert request.body.count(signature.encode()) == 1
    assert b"__sig_" not in request.body
    assert b"skip_thought_signature_validator" not in request.body
