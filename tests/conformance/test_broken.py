"""Answers that break: cut at every place, garbage, a page instead of an answer. Never a clean end."""

from collections.abc import Iterable
from contextlib import aclosing

import msgspec
import pytest

from llm_server.contract import Chunk, Completion, ErrorKind, Events, ServerError, Usage, fold
from llm_server.testing import outcome
from tests.conformance.decoding import decode
from tests.conformance.enrolled import CHATS, ENROLLED, Enrolled, ask, call_for, context, each, provider, rows
from tests.conformance.expected import answers
from tests.upstreams.cases import Case, frames, load
from tests.upstreams.script import (
    Close,
    Head,
    Hold,
    Reset,
    Script,
    garbage_body,
    garbage_event,
    play,
    replace_body,
)
from tests.upstreams.server import scripted
from tests.upstreams.upstream import Answer

HTML = b"<!DOCTYPE html>\n<html><head><title>Hi</title></head>\n\n<body>data: nothing here</body></html>\n\n"


def comparable(chunks: Iterable[Chunk]) -> Completion:
    """Return what an answer says; that the count of tokens came is not what makes an answer whole."""
    return msgspec.structs.replace(fold(chunks), usage=Usage())


async def ended(who: Enrolled, case: Case, answer: Answer) -> ServerError:
    """Return the error that the row's provider ends with when the case comes like this."""
    async with scripted(answer) as up, provider(who, up) as given:
        with pytest.raises(ServerError) as caught:
            await ask(given, call_for(case))
        assert given.stats()["busy"] == 0
    return caught.value


@each(*CHATS, "completions", form="stream", where=answers)
def test_a_stream_cut_at_any_frame_or_byte_is_no_whole_answer(who: Enrolled, case: Case) -> None:
    call = call_for(case)
    whole = comparable(decode(who, call, [case.body]).chunks)
    parts = frames(case.body)
    bounds = {len(b"".join(parts[:count])) for count in range(len(parts))}
    for stop in sorted(
        bounds | {bound - 3 for bound in bounds if bound > 3} | set(range(0, len(case.body), 97))
    ):
        decoded = decode(who, call, [case.body[:stop]])
        if decoded.failed is None:
            assert comparable(decoded.chunks) == whole, stop
        else:
            assert decoded.failed is ErrorKind.UPSTREAM_TRUNCATED, stop


@rows()
async def test_a_connection_that_closes_at_any_frame_is_a_truncated_answer(who: Enrolled) -> None:
    case = load(who.vendor, "text", "stream")
    script = play(case)
    pieces = [step for step in script.steps if isinstance(step, bytes)]
    for count in range(len(pieces)):
        if decode(who, call_for(case), pieces[:count]).failed is None:
            continue  # all that makes the answer whole has come
        for steps in ((Close(),), ()):  # broken off, and ended as HTTP says
            error = await ended(who, case, script.until_piece(count, *steps))
            assert error.kind is ErrorKind.UPSTREAM_TRUNCATED, count


@rows()
async def test_a_connection_that_breaks_off_after_the_answer_is_still_no_clean_end(who: Enrolled) -> None:
    case = load(who.vendor, "text", "stream")
    script = play(case)
    error = await ended(who, case, Script((*script.steps, Close())))
    assert error.kind is ErrorKind.UPSTREAM_TRUNCATED


@rows()
async def test_a_reset_in_the_middle_is_a_truncated_answer(who: Enrolled) -> None:
    case = load(who.vendor, "text", "stream")
    parts, gate = frames(case.body), Hold()
    first = next(at for at in range(len(parts)) if decode(who, call_for(case), parts[:at]).chunks)
    async with scripted(play(case).until_piece(first, gate, Reset())) as up, provider(who, up) as given:
        _, error = await outcome(_opening(gate, given(call_for(case), context())))
    assert error is not None
    assert error.kind is ErrorKind.UPSTREAM_TRUNCATED


async def _opening(gate: Hold, answers: Events) -> Events:
    """Open ``gate`` with the first answer."""
    async with aclosing(answers):
        async for answer in answers:
            gate.until.set()
            yield answer


@rows()
async def test_a_refused_connection_is_unreachable(who: Enrolled) -> None:
    case = load(who.vendor, "text")
    async with scripted(case) as up:
        url = up.url
    up.url = url
    async with provider(who, up) as given:
        with pytest.raises(ServerError) as caught:
            await ask(given, call_for(case))
    assert caught.value.kind is ErrorKind.UPSTREAM_UNREACHABLE


@each(*CHATS, "embeddings", "count_tokens", form="whole", where=answers)
async def test_a_whole_answer_cut_in_the_middle_is_an_error(who: Enrolled, case: Case) -> None:
    half = case.body[: len(case.body) // 2]
    assert (await ended(who, case, replace_body(case, half))).kind is ErrorKind.UPSTREAM_INVALID
    head = Head(200, {"content-type": "application/json"}, len(case.body))
    assert (await ended(who, case, Script((head, half, Close())))).kind is ErrorKind.UPSTREAM_TRUNCATED


@rows()
async def test_a_body_that_is_no_answer_is_invalid(who: Enrolled) -> None:
    case = load(who.vendor, "text")
    for body in (b"", b"null", b"[]", b'"x"', b"7", b"\xff\xfe", HTML):
        assert (await ended(who, case, replace_body(case, body))).kind is ErrorKind.UPSTREAM_INVALID, body
    # In protobuf's JSON an empty object is an answer in which nothing has come yet.
    nothing = ErrorKind.UPSTREAM_TRUNCATED if who.row.dialect == "gemini" else ErrorKind.UPSTREAM_INVALID
    assert (await ended(who, case, replace_body(case, b"{}"))).kind is nothing


@rows()
async def test_garbage_is_invalid_and_a_page_is_no_answer(who: Enrolled) -> None:
    whole, stream = load(who.vendor, "text"), load(who.vendor, "text", "stream")
    assert (await ended(who, whole, garbage_body(whole))).kind is ErrorKind.UPSTREAM_INVALID
    assert (await ended(who, stream, garbage_body(stream))).kind in BROKEN
    page = Script((Head(200, {"content-type": "text/html; charset=utf-8"}, len(HTML)), HTML))
    assert (await ended(who, whole, page)).kind is ErrorKind.UPSTREAM_INVALID
    assert (await ended(who, stream, page)).kind is ErrorKind.UPSTREAM_INVALID


@each(*CHATS, form="stream", where=answers)
def test_a_garbage_event_is_invalid_wherever_it_stands(who: Enrolled, case: Case) -> None:
    call = call_for(case)
    for at in range(len(frames(case.body))):
        decoded = decode(who, call, [garbage_event(case, at=at).body])
        assert decoded.failed is ErrorKind.UPSTREAM_INVALID, at


@rows()
async def test_a_whole_answer_to_a_call_for_a_stream_is_streamed(who: Enrolled) -> None:
    """Some servers ignore ``stream``; their answer is good all the same."""
    case = load(who.vendor, "text")
    call = msgspec.structs.replace(call_for(case), stream=True)
    async with scripted(case) as up, provider(who, up) as given:
        chunks = [answer for answer in await ask(given, call) if isinstance(answer, Chunk)]
    assert fold(chunks).choices[0].text == case.answer["text"]


BROKEN = {ErrorKind.UPSTREAM_INVALID, ErrorKind.UPSTREAM_TRUNCATED}
"""Bytes without a line end may be the start of a frame: whether they are garbage or cut, nobody can tell."""


@pytest.mark.parametrize("who", ENROLLED, ids=lambda who: who.id)
def test_no_bytes_at_all_are_a_truncated_stream(who: Enrolled) -> None:
    assert (
        decode(who, call_for(load(who.vendor, "text", "stream")), []).failed is ErrorKind.UPSTREAM_TRUNCATED
    )
