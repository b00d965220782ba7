"""Bytes arrive cut anywhere: inside a character, between CR and LF, one by one. The events are the same."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_server.contract import Chunk
from tests.conformance.decoding import Decoded, decode
from tests.conformance.enrolled import CHATS, ENROLLED, Enrolled, call_for, each
from tests.upstreams.cases import Case
from tests.upstreams.script import cut

STREAMS = [(who, case) for who in ENROLLED for case in who.cases(form="stream") if case.operation != "models"]


def told(decoded: Decoded) -> object:
    """Return what was told, without the bytes that told it."""
    meant = tuple(chunk.events for chunk in decoded.chunks if chunk.events)
    return meant, decoded.failed, decoded.message


@pytest.mark.parametrize("same", [True, False], ids=["own-dialect", "translated"])
@each(*CHATS, "completions", form="stream")
def test_one_byte_at_a_time_is_as_good_as_all_at_once(who: Enrolled, case: Case, same: bool) -> None:
    call = call_for(case, who.row.dialect if same else "")
    at_once = decode(who, call, [case.body])
    assert at_once.chunks or at_once.failed
    assert decode(who, call, cut(case.body, range(len(case.body)))) == at_once


@given(st.sampled_from(STREAMS), st.data(), st.booleans())
def test_any_cuts_give_the_same_chunks(one: tuple[Enrolled, Case], data: st.DataObject, same: bool) -> None:
    who, case = one
    call = call_for(case, who.row.dialect if same else "")
    cuts = data.draw(st.lists(st.integers(1, len(case.body) - 1), max_size=12))
    assert decode(who, call, cut(case.body, cuts)) == decode(who, call, [case.body])


@pytest.mark.parametrize("ending", [b"\r\n", b"\r"], ids=["crlf", "cr"])
@each(*CHATS, "completions", form="stream")
def test_the_kind_of_line_ending_means_nothing(who: Enrolled, case: Case, ending: bytes) -> None:
    call = call_for(case)
    other = case.body.replace(b"\r\n", b"\n").replace(b"\n", ending)
    expected = told(decode(who, call, [case.body]))
    assert told(decode(who, call, [other])) == expected
    assert told(decode(who, call, cut(other, range(len(other))))) == expected


@each(*CHATS, "completions", form="stream")
def test_a_byte_order_mark_means_nothing(who: Enrolled, case: Case) -> None:
    call = call_for(case)
    assert told(decode(who, call, [b"\xef\xbb\xbf" + case.body])) == told(decode(who, call, [case.body]))


@each(*CHATS, "completions", form="stream")
def test_comments_and_empty_events_between_frames_mean_nothing(who: Enrolled, case: Case) -> None:
    call = call_for(case)
    noisy = case.body.replace(b"\r\n", b"\n").replace(b"\n\n", b"\n\n: comment\n\nretry: 3000\n\nid: 7\n\n")
    assert told(decode(who, call, [noisy])) == told(decode(who, call, [case.body]))


@each(*CHATS, "completions", form="stream")
def test_frames_survive_byte_for_byte_for_a_caller_of_the_dialect(who: Enrolled, case: Case) -> None:
    decoded = decode(who, call_for(case, who.row.dialect), [case.body])
    if who.row.dialect not in SERVED:
        assert all(chunk.frame == b"" for chunk in decoded.chunks)  # nobody can be sent them
        return
    assert decoded.frames
    whole = case.body
    at = 0
    for chunk in decoded.chunks:
        found = whole.find(chunk.frame, at)
        assert found >= 0
        left_out = whole[at:found]
        assert not left_out.strip() or TERMINAL[who.row.dialect] in left_out
        at = found + len(chunk.frame)
    if decoded.failed is None:
        assert not whole[at:].strip() or TERMINAL[who.row.dialect] in whole[at:]


@each(*CHATS, "completions", form="stream")
def test_a_translated_stream_carries_no_frames(who: Enrolled, case: Case) -> None:
    def empty(chunk: Chunk) -> bool:
        return chunk.frame == b""

    assert all(map(empty, decode(who, call_for(case, "another"), [case.body]).chunks))


SERVED = {"openai", "anthropic"}
"""Dialects that callers speak too."""

TERMINAL = {"openai": b"[DONE]", "anthropic": b"message_stop"}
"""What ends a stream: written by the server itself, when it knows that all went well."""
