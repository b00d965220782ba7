"""Anthropic's answers as values, whole and streamed."""

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import json

from llm_server.contract import (
    Choice,
    Chunk,
    Completion,
    CountCall,
    ErrorKind,
    Finish,
    FinishReason,
    ReasoningDelta,
    ServerError,
    Started,
    Text,
    TextDelta,
    Thinking,
    TokenCount,
    ToolCall,
    ToolDelta,
    Usage,
    fold,
)
from llm_server.providers.dialects import unmodelled
from llm_server.providers.dialects.anthropic import Anthropic
from tests.providers.calls import chat
from tests.upstreams.cases import frames, load

ANTHROPIC = Anthropic()
FOREIGN = chat()
OWN = chat(dialect="anthropic")


def whole(*content: dict[str, Any], stop: str = "end_turn", **fields: Any) -> Choice:
    body = {"id": "1", "model": "c", "content": content, "stop_reason": stop, **fields}
    answer = ANTHROPIC.decode(FOREIGN, json.encode(body))
    assert isinstance(answer, Completion)
    return answer.choices[0]


def sse(*events: dict[str, Any]) -> bytes:
    return b"".join(
        b"event: %b\ndata: %b\n\n" % (event["type"].encode(), json.encode(event)) for event in events
    )


def streamed(*events: dict[str, Any]) -> list[Chunk]:
    decoder = ANTHROPIC.decoder(FOREIGN)
    return [*decoder.feed(sse(*events)), *decoder.end()]


START: dict[str, Any] = {
    "type": "message_start",
    "message": {
        "id": "1",
        "model": "c",
        "usage": {"input_tokens": 5, "cache_read_input_tokens": 2, "output_tokens": 1},
    },
}
END: dict[str, Any] = {
    "type": "message_delta",
    "delta": {"stop_reason": "end_turn"},
    "usage": {"output_tokens": 9},
}
STOP: dict[str, Any] = {"type": "message_stop"}


def begin(index: int, **block: Any) -> dict[str, Any]:
    return {"type": "content_block_start", "index": index, "content_block": block}


def piece(index: int, **delta: Any) -> dict[str, Any]:
    return {"type": "content_block_delta", "index": index, "delta": delta}


def stop(index: int) -> dict[str, Any]:
    return {"type": "content_block_stop", "index": index}


def test_parts_of_an_answer() -> None:
    choice = whole(
        {"type": "thinking", "thinking": "hm", "signature": "s"},
        {"type": "redacted_thinking", "data": "x"},
        {"type": "text", "text": "a"},
        {"type": "text", "text": ""},
        {"type": "server_tool_use", "id": "s1", "name": "web_search", "input": {}},
        {"type": "tool_use", "id": "t", "name": "f", "input": {"a": [1, 2]}},
        stop="tool_use",
    )
    assert choice.parts == (
        Thinking(text="hm", signature="s"),
        Thinking(signature="x", redacted=True),
        Text("a"),
        ToolCall("t", "f", '{"a": [1, 2]}'),
    )
    assert choice.finish is FinishReason.TOOL_CALLS
    assert unmodelled.seen()["anthropic.content.server_tool_use"] >= 1


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        ("end_turn", FinishReason.STOP),
        ("max_tokens", FinishReason.LENGTH),
        ("model_context_window_exceeded", FinishReason.LENGTH),
        ("stop_sequence", FinishReason.STOP),
        ("tool_use", FinishReason.TOOL_CALLS),
        ("pause_turn", FinishReason.PAUSE),
        ("refusal", FinishReason.REFUSAL),
        ("something_new", FinishReason.STOP),
    ],
)
def test_stop_reasons_whole_and_streamed(word: str, reason: FinishReason) -> None:
    assert whole({"type": "text", "text": "a"}, stop=word).finish is reason
    end = {"type": "message_delta", "delta": {"stop_reason": word, "stop_sequence": "X"}}
    finish = next(e for chunk in streamed(START, end, STOP) for e in chunk.events if isinstance(e, Finish))
    assert finish == Finish(reason, stop_sequence="X")


def test_input_tokens_include_the_cache() -> None:
    body = {
        "content": [],
        "stop_reason": "end_turn",
        "usage": {
            "input_tokens": 5,
            "cache_read_input_tokens": 20,
            "cache_creation_input_tokens": 300,
            "output_tokens": 7,
            "output_tokens_details": {"thinking_tokens": 4},
        },
    }
    answer = ANTHROPIC.decode(FOREIGN, json.encode(body))
    assert isinstance(answer, Completion)
    assert answer.usage == Usage(
        input_tokens=325, output_tokens=7, cached_tokens=20, cache_write_tokens=300, reasoning_tokens=4
    )


def test_raw_is_kept_for_callers_of_the_dialect_alone() -> None:
    body = load("anthropic", "text").body
    own, foreign = ANTHROPIC.decode(OWN, body), ANTHROPIC.decode(FOREIGN, body)
    assert isinstance(own, Completion)
    assert isinstance(foreign, Completion)
    assert (own.raw, foreign.raw) == (body, b"")


def test_counts() -> None:
    call = CountCall(model="c", messages=())
    assert ANTHROPIC.decode(call, b'{"input_tokens":14}') == TokenCount(input_tokens=14)
    with pytest.raises(ServerError) as caught:
        ANTHROPIC.decode(call, b"{}")
    assert caught.value.kind is ErrorKind.UPSTREAM_INVALID


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b"<html>",
        b"{}",
        b'{"content":3}',
        b"\xff",
        b'{"content":[]}',
        b'{"stop_reason":"end_turn"}',
    ],
)
def test_garbage_is_invalid_and_never_anything_else(body: bytes) -> None:
    with pytest.raises(ServerError) as caught:
        ANTHROPIC.decode(FOREIGN, body)
    assert caught.value.kind is ErrorKind.UPSTREAM_INVALID


def test_error_with_status_200_is_an_error() -> None:
    with pytest.raises(ServerError) as caught:
        ANTHROPIC.decode(FOREIGN, b'{"type":"error","error":{"type":"overloaded_error","message":"x"}}')
    assert caught.value.kind is ErrorKind.UPSTREAM_OVERLOADED


def test_events_of_a_stream() -> None:
    chunks = streamed(
        START,
        {"type": "ping"},
        begin(0, type="thinking", thinking=""),
        piece(0, type="thinking_delta", thinking="hm"),
        piece(0, type="signature_delta", signature="s"),
        stop(0),
        begin(1, type="redacted_thinking", data="x"),
        stop(1),
        begin(2, type="text", text="A"),
        piece(2, type="text_delta", text="b"),
        stop(2),
        begin(3, type="tool_use", id="t", name="f", input={}),
        piece(3, type="input_json_delta", partial_json=""),
        piece(3, type="input_json_delta", partial_json='{"a":1}'),
        stop(3),
        begin(4, type="tool_use", id="u", name="g", input={}),
        stop(4),
        END,
        STOP,
    )
    assert [event for chunk in chunks for event in chunk.events] == [
        Started(id="1", model="c"),
        Usage(input_tokens=7, output_tokens=1, cached_tokens=2),
        ReasoningDelta("hm"),
        ReasoningDelta(signature="s"),
        ReasoningDelta(part=1, signature="x", redacted=True),
        TextDelta("A", 2),
        TextDelta("b", 2),
        ToolDelta(3, "t", "f"),
        ToolDelta(3, arguments='{"a":1}'),
        ToolDelta(4, "u", "g"),
        ToolDelta(4, arguments="{}"),
        Finish(FinishReason.STOP),
        Usage(input_tokens=7, output_tokens=9, cached_tokens=2),
    ]


def test_input_that_comes_with_its_block_is_not_lost() -> None:
    chunks = streamed(START, begin(0, type="tool_use", id="t", name="f", input={"a": 1}), stop(0), END, STOP)
    assert fold(chunks).choices[0].parts == (ToolCall("t", "f", '{"a": 1}'),)


def test_blocks_and_deltas_of_other_kinds_say_nothing_here_and_are_counted() -> None:
    chunks = streamed(
        START,
        begin(0, type="server_tool_use", id="s", name="web_search", input={}),
        piece(0, type="input_json_delta", partial_json='{"query":"x"}'),
        stop(0),
        begin(1, type="text", text=""),
        piece(1, type="citations_delta", citation={}),
        piece(1, type="text_delta", text="a"),
        stop(1),
        {"type": "weather_report"},
        END,
        STOP,
    )
    assert fold(chunks).choices[0].parts == (Text("a"),)
    assert all(chunk.events for chunk in chunks)
    assert {"anthropic.delta.citations_delta", "anthropic.event.weather_report"} <= unmodelled.seen().keys()


def test_frames_are_the_upstreams_bytes_for_its_own_dialect_without_the_end() -> None:
    body = load("anthropic", "unknown", "stream").body
    decoder = ANTHROPIC.decoder(OWN)
    chunks = [*decoder.feed(b": hello\n\n" + body), *decoder.end()]
    assert [chunk.frame for chunk in chunks] == [b": hello\n\n", *frames(body)[:-1]]
    decoder = ANTHROPIC.decoder(FOREIGN)
    assert {chunk.frame for chunk in [*decoder.feed(body), *decoder.end()]} == {b""}


@given(st.lists(st.integers(0, 6000), max_size=12))
def test_any_cut_gives_the_same_chunks(cuts: list[int]) -> None:
    body = load("anthropic", "thinking_tool", "stream").body
    at_once = ANTHROPIC.decoder(OWN)
    expected = [*at_once.feed(body), *at_once.end()]
    decoder, seen = ANTHROPIC.decoder(OWN), []
    for start, end in pairwise([0, *sorted(min(cut, len(body)) for cut in cuts), len(body)]):
        seen += decoder.feed(body[start:end])
    assert [*seen, *decoder.end()] == expected


@pytest.mark.parametrize(
    "events", [(), (START,), (START, END)], ids=["nothing", "begun", "finished, not stopped"]
)
def test_stream_without_its_end_is_truncated(events: tuple[dict[str, Any], ...]) -> None:
    with pytest.raises(ServerError) as caught:
        streamed(*events)
    assert caught.value.kind is ErrorKind.UPSTREAM_TRUNCATED


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (
            b'{"type":"error","error":{"type":"overloaded_error","message":"x"}}',
            ErrorKind.UPSTREAM_OVERLOADED,
        ),
        (b'{"type":"error","error":{"type":"api_error","message":"x"}}', ErrorKind.UPSTREAM_ERROR),
        (b'{"type":"error","error":{"type":"rate_limit_error"}}', ErrorKind.UPSTREAM_RATE_LIMITED),
        (
            b'{"type":"error","error":{"type":"invalid_request_error","message":"x"}}',
            ErrorKind.INVALID_REQUEST,
        ),
        (b'{"type":"error"}', ErrorKind.UPSTREAM_ERROR),
        (b'{"type":', ErrorKind.UPSTREAM_INVALID),
        (b"[]", ErrorKind.UPSTREAM_INVALID),
        (b'{"type":"message_delta","delta":3}', ErrorKind.UPSTREAM_INVALID),
    ],
)
def test_error_or_garbage_in_a_stream_comes_after_what_came_before(data: bytes, kind: ErrorKind) -> None:
    chunks = iter(ANTHROPIC.decoder(FOREIGN).feed(sse(START) + b"data: " + data + b"\n\n"))
    assert next(chunks).events[0] == Started(id="1", model="c")
    with pytest.raises(ServerError) as caught:
        next(chunks)
    assert caught.value.kind is kind


def test_models() -> None:
    (model,) = ANTHROPIC.decode_models(
        b'{"data":[{"id":"c","display_name":"C","created_at":"2025-01-01T00:00:00Z","max_tokens":9}]}'
    )
    assert (model.id, model.display_name, model.created, model.max_output_tokens) == ("c", "C", 1735689600, 9)
    (model,) = ANTHROPIC.decode_models(b'{"data":[{"id":"c"}]}')
    assert model.created == 0
