"""Signatures are seen by the provider that made them and by no other; everything else of a body stays."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_server.contract import (
    ChatCall,
    Choice,
    Chunk,
    Completion,
    Message,
    ReasoningDelta,
    Role,
    Text,
    TextDelta,
    Thinking,
    TokenCount,
    ToolCall,
    ToolResult,
)
from llm_server.providers.dialects.signatures import seal, signed_id
from llm_server.providers.provenance import Reader, marked, own
from llm_server.wire.anthropic.request import chat_call as anthropic_call
from llm_server.wire.openai.request import chat_call as openai_call

SIGNATURES = st.text("ABCDEFabcdef0123456789+/=", min_size=8, max_size=40)
HERE, LATER = Reader("here", "anthropic"), Reader("here", "anthropic", presumed=False)


def thought(signature: str, text: str = "hm") -> dict[str, Any]:
    return {"type": "thinking", "thinking": text, "signature": signature}


def body(*blocks: Any, last: Any = "go on", **more: Any) -> bytes:
    turns = [
        {"role": "user", "content": "a ~ b"},
        {"role": "assistant", "content": list(blocks)},
        {"role": "user", "content": last},
    ]
    return json.dumps({"model": "m", "max_tokens": 9, "messages": turns, **more}).encode()


TEXT = {"type": "text", "text": "so", "cache_control": {"type": "ephemeral"}}


def read(raw: bytes) -> ChatCall:
    return anthropic_call(raw, {})


def thoughts(call: ChatCall) -> list[str]:
    return [p.signature for m in call.messages for p in m.parts if isinstance(p, Thinking)]


@given(SIGNATURES)
def test_a_provider_sees_its_own(signature: str) -> None:
    plain, named = body(thought(signature), TEXT), body(thought(f"here~{signature}"), TEXT)
    assert own(read(plain), HERE, []).raw == plain
    call = own(read(named), HERE, dropped := [])
    assert (json.loads(call.raw), thoughts(call), dropped) == (json.loads(plain), [signature], [])
    later = own(read(named), LATER, dropped)
    assert thoughts(later) == [signature], "marked as its own, whoever was asked first"


@pytest.mark.parametrize(
    ("reader", "signature"),
    [(HERE, "there~c2ln"), (LATER, "c2ln"), (LATER, "there~c2ln"), (HERE, seal("c2ln"))],
)
@pytest.mark.parametrize("redacted", [False, True])
def test_nobody_sees_another_s_and_the_rest_stays(reader: Reader, signature: str, redacted: bool) -> None:
    block = {"type": "redacted_thinking", "data": signature} if redacted else thought(signature)
    raw = body(block, TEXT, unknown={"n": 1.50})
    call = own(read(raw), reader, dropped := [])
    assert signature.encode() not in call.raw
    assert json.loads(call.raw) == json.loads(body(TEXT, unknown={"n": 1.50}))
    assert (thoughts(call), dropped) == ([], ["thinking"])


def test_an_unsigned_thought_beside_another_s_is_another_s_too() -> None:
    raw = body(thought(seal("c2ln")), thought(""), TEXT)
    call = own(read(raw), HERE, [])
    assert json.loads(call.raw) == json.loads(body(TEXT))
    alone = read(body(thought(""), TEXT))
    assert own(alone, HERE, []) is alone


def test_a_turn_that_was_only_thought_is_left_out() -> None:
    call = own(read(body(thought("c2ln"))), LATER, [])
    assert [turn["role"] for turn in json.loads(call.raw)["messages"]] == ["user", "user"]


@pytest.mark.parametrize(
    ("last", "thinking", "kept"),
    [
        ([{"type": "tool_result", "tool_use_id": "t", "content": "4"}], "enabled", False),
        ([{"type": "tool_result", "tool_use_id": "t", "content": "4"}], "adaptive", True),
        ("go on", "enabled", True),
    ],
)
def test_thinking_by_budget_ends_where_its_thought_is_gone(last: Any, thinking: str, kept: bool) -> None:
    use = {"type": "tool_use", "id": "t", "name": "f", "input": {}}
    asked = {"type": thinking} | ({"budget_tokens": 1024} if thinking == "enabled" else {})
    raw = body(thought("c2ln"), use, last=last, thinking=asked, tools=[{"name": "f", "input_schema": {}}])
    call = own(read(raw), LATER, dropped := [])
    assert ("thinking" in json.loads(call.raw)) == kept
    assert dropped == (["thinking"] if kept else ["thinking", "reasoning"])


@pytest.mark.parametrize("presumed", [True, False])
def test_a_signature_in_an_id_stays_behind_in_call_and_result(presumed: bool) -> None:
    call_id = signed_id("call_1", "c2lnbmVk")
    use = {"id": call_id, "type": "function", "function": {"name": "f", "arguments": "{}"}}
    turns = [
        {"role": "user", "content": "x"},
        {"role": "assistant", "tool_calls": [use]},
        {"role": "tool", "tool_call_id": call_id, "content": "4"},
    ]
    raw = json.dumps({"model": "m", "messages": turns}).encode()
    call = own(openai_call(raw, {}), Reader("here", "openai", presumed), dropped := [])
    use["id"] = turns[2]["tool_call_id"] = "call_1"
    assert json.loads(call.raw) == {"model": "m", "messages": turns}
    ids = [p.id for m in call.messages for p in m.parts if isinstance(p, ToolCall)]
    results = [p.call_id for m in call.messages for p in m.parts if isinstance(p, ToolResult)]
    assert (ids, results, dropped) == (["call_1"], ["call_1"], [])


def test_a_translated_conversation_changes_its_values_and_not_its_bytes() -> None:
    parts = (Thinking(text="hm", signature=seal("c2ln")), ToolCall(signed_id("t", "c2ln"), "f", "{}"))
    call = ChatCall(
        model="m", dialect="anthropic", raw=b'"gemini.', messages=(Message(Role.ASSISTANT, parts),)
    )
    first = own(call, Reader("g1", "gemini"), [])
    assert first.messages == call.messages
    second = own(call, Reader("g2", "gemini", presumed=False), dropped := [])
    assert second.messages == (Message(Role.ASSISTANT, (ToolCall("t", "f", "{}"),)),)
    assert (second.raw, dropped) == (call.raw, ["thinking"])


@given(SIGNATURES, SIGNATURES)
def test_what_is_marked_comes_back_as_it_was(one: str, two: str) -> None:
    parts = (Thinking(text="hm", signature=one), Thinking(signature=two, redacted=True), Text("so"))
    raw = body(thought(one), {"type": "redacted_thinking", "data": two}, TEXT)
    told = marked(Completion(choices=(Choice(parts=parts),), raw=raw), "here")
    assert isinstance(told, Completion)
    assert [p.signature for p in told.choices[0].parts if isinstance(p, Thinking)] == [
        f"here~{one}",
        f"here~{two}",
    ]
    back = own(read(told.raw), HERE, [])
    assert json.loads(back.raw) == json.loads(raw)
    assert thoughts(own(read(told.raw), Reader("there", "anthropic"), [])) == []


def test_a_chunk_is_marked_in_its_frame_too_or_loses_it() -> None:
    events = (ReasoningDelta(part=0, signature="c2ln/w=="),)
    told = marked(Chunk(events, b'data: {"signature":"c2ln/w=="}\n\n'), "here")
    assert told == Chunk(
        (ReasoningDelta(part=0, signature="here~c2ln/w=="),), b'data: {"signature":"here~c2ln/w=="}\n\n'
    )
    escaped = marked(Chunk(events, b'data: {"signature":"c2ln\\/w=="}\n\n'), "here")
    assert isinstance(escaped, Chunk)
    assert escaped.frame == b"", "better encoded anew than unmarked"


def test_what_has_no_signature_is_not_touched() -> None:
    for answer in (Chunk((TextDelta("x"),), b"f"), Completion(raw=b"r"), TokenCount(input_tokens=1)):
        assert marked(answer, "here") is answer
    plain = read(body(TEXT))
    assert own(plain, LATER, []) is plain
    assert own(plain, HERE, []) is plain
