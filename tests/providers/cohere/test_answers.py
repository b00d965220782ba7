"""Answers: recorded bytes, whole and streamed, cut anywhere; failures in band; garbage."""

import json
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_server.contract import (
    Call,
    ChatCall,
    Chunk,
    Completion,
    EmbedCall,
    Embeddings,
    ErrorKind,
    Event,
    Finish,
    FinishReason,
    ServerError,
    Started,
    Text,
    TextDelta,
    Thinking,
    ToolCall,
    ToolDelta,
    Usage,
    fold,
)
from llm_server.providers.dialects import unmodelled
from llm_server.providers.dialects.cohere import Cohere
from llm_server.providers.dialects.cohere.response import FAILED, FINISH
from tests.upstreams.cases import Case, cases, load, pairs

DIALECT = Cohere()
CHAT = ChatCall(model="command-a-03-2025", messages=())
STREAMS = list(cases("cohere", operation="chat", form="stream"))
GOOD = [case for case in STREAMS if case.name != "error_midstream"]


def told(pieces: Iterable[bytes], call: Call = CHAT) -> list[Event | ErrorKind]:
    """Return the events of a stream in these pieces; an error is the last of them."""
    decoder, events = DIALECT.decoder(call), []
    try:
        for piece in pieces:
            for chunk in decoder.feed(piece):
                assert chunk.frame == b""
                events += chunk.events
        for chunk in decoder.end():
            events += chunk.events
    except ServerError as error:
        return [*events, error.kind]
    return list(events)


def folded(body: bytes) -> Completion:
    return fold([Chunk((event,)) for event in told([body]) if not isinstance(event, ErrorKind)])


def whole(message: dict[str, Any], finish_reason: str = "COMPLETE", **more: Any) -> Completion:
    answer = {"id": "a1", "message": {"role": "assistant", **message}, "finish_reason": finish_reason, **more}
    completion = DIALECT.decode(CHAT, json.dumps(answer).encode())
    assert isinstance(completion, Completion)
    return completion


def sse(*payloads: object) -> bytes:
    events = (payload if isinstance(payload, bytes) else json.dumps(payload).encode() for payload in payloads)
    return b"".join(b"event: x\ndata: %b\n\n" % event for event in events)


def call_delta(kind: str, index: int, **call: Any) -> dict[str, Any]:
    return {"type": kind, "index": index, "delta": {"message": {"tool_calls": call}}}


END = {"type": "message-end", "delta": {"finish_reason": "TOOL_CALL"}}


@pytest.mark.parametrize(
    "case", list(cases("cohere", operation="chat", form="whole")), ids=lambda case: case.id
)
def test_a_whole_answer(case: Case) -> None:
    answer, completion = case.answer, DIALECT.decode(CHAT, case.body)
    assert isinstance(completion, Completion)
    (choice,) = completion.choices
    calls = [part for part in choice.parts if isinstance(part, ToolCall)]
    # The plan before tool calls is text, as other models say it.
    assert choice.text == answer.get("text", "") + answer.get("plan", "")
    assert "".join(p.text for p in choice.parts if isinstance(p, Thinking)) == answer.get("reasoning", "")
    assert calls == [
        ToolCall(tool["id"], tool["name"], tool["arguments"]) for tool in answer.get("tools", ())
    ]
    assert choice.finish is FINISH[answer["finish"]]
    counts = answer["usage"]
    assert completion.usage == Usage(
        input_tokens=counts["input"], output_tokens=counts["output"], cached_tokens=counts.get("cached", 0)
    )
    assert (completion.id, completion.model) == ("f201af17-e24a-4396-8f6a-98e8bf9c3432", CHAT.model)


@pytest.mark.parametrize(("answer", "stream"), list(pairs("cohere", operation="chat")), ids=lambda c: c.id)
def test_a_stream_folds_into_the_whole_answer(answer: Case, stream: Case) -> None:
    assert folded(stream.body) == DIALECT.decode(CHAT, answer.body)


def test_an_error_in_a_stream_comes_after_what_was_said() -> None:
    events = told([load("cohere", "error_midstream", "stream").body])
    assert TextDelta("Let me") in events
    assert events[-1] is ErrorKind.UPSTREAM_ERROR


@given(case=st.sampled_from(STREAMS), data=st.data(), crlf=st.booleans())
def test_events_do_not_depend_on_how_bytes_are_cut(case: Case, data: st.DataObject, crlf: bool) -> None:
    stream = case.body.replace(b"\r\n", b"\n")
    stream = stream.replace(b"\n", b"\r\n") if crlf else stream
    cuts = sorted(data.draw(st.sets(st.integers(0, len(stream)), max_size=12)))
    pieces = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    assert told(pieces) == told([case.body])


def test_events_do_not_depend_on_single_bytes() -> None:
    for case in STREAMS:
        assert told(case.body[at : at + 1] for at in range(len(case.body))) == told([case.body])


@pytest.mark.parametrize("case", GOOD, ids=lambda case: case.id)
def test_a_stream_without_its_end_is_truncated(case: Case) -> None:
    before, end, _ = case.body.partition(b"event: message-end")
    assert end
    assert told([before])[-1] is ErrorKind.UPSTREAM_TRUNCATED
    assert told([before, b"data: [DONE]\n\n"])[-1] is ErrorKind.UPSTREAM_TRUNCATED


@pytest.mark.parametrize("case", GOOD, ids=lambda case: case.id)
def test_the_done_line_is_not_needed(case: Case) -> None:
    assert told([case.body.replace(b"data: [DONE]", b": bye")]) == told([case.body])


@pytest.mark.parametrize(
    "payload",
    [
        b"{",
        b"[]",
        b"\xff",
        b'{"type":7}',
        b'{"type":"content-delta","index":"0"}',
        b'{"type":"content-delta","delta":{"message":{"content":"text"}}}',
        b'{"type":"message-end","delta":{}}',
        b'{"type":"message-end"}',
    ],
)
def test_garbage_in_a_stream(payload: bytes) -> None:
    assert told([sse(payload)]) == [ErrorKind.UPSTREAM_INVALID]


@pytest.mark.parametrize(
    "garbage",
    [b"", b"<html>", b"[]", b"\xff", b"{}", b'{"message":7,"finish_reason":"COMPLETE"}', b"[" * 5000],
)
def test_garbage_as_a_whole(garbage: bytes) -> None:
    with pytest.raises(ServerError) as invalid:
        DIALECT.decode(CHAT, garbage)
    assert invalid.value.kind is ErrorKind.UPSTREAM_INVALID


@pytest.mark.parametrize("reason", [*FINISH, "SOMETHING_NEW"])
def test_finish_reasons(reason: str) -> None:
    expected = FINISH.get(reason, FinishReason.STOP)
    assert whole({"content": [{"type": "text", "text": "x"}]}, reason).choices[0].finish is expected
    end = {"type": "message-end", "delta": {"finish_reason": reason}}
    assert told([sse(end)]) == [Finish(expected), Usage()]


@pytest.mark.parametrize("reason", FAILED)
def test_a_failed_answer_is_none(reason: str) -> None:
    with pytest.raises(ServerError) as failed:
        whole({"content": [{"type": "text", "text": "x"}]}, reason)
    assert failed.value.kind is FAILED[reason]
    end = {"type": "message-end", "delta": {"finish_reason": reason, "error": "because"}}
    assert told([sse(end)]) == [FAILED[reason]]


@pytest.mark.parametrize("kind", [{}, {"type": "error"}])
def test_a_bare_error_in_a_stream(kind: dict[str, str]) -> None:
    with pytest.raises(ServerError) as failed:
        list(DIALECT.decoder(CHAT).feed(sse({**kind, "id": "e1", "message": "internal server error"})))
    assert failed.value.kind is ErrorKind.UPSTREAM_ERROR
    assert "internal server error" in failed.value.detail


def test_calls_may_be_interleaved() -> None:
    stream = sse(
        {"type": "message-start", "id": "a1", "delta": {"message": {"content": [], "tool_calls": []}}},
        call_delta("tool-call-start", 0, id="c0", function={"name": "f", "arguments": ""}),
        call_delta("tool-call-start", 1, id="c1", function={"name": "g", "arguments": '{"a"'}),
        call_delta("tool-call-delta", 0, function={"arguments": "{}"}),
        call_delta("tool-call-delta", 1, function={"arguments": ":1}"}),
        {"type": "tool-call-end", "index": 0},
        {"type": "tool-call-end", "index": 1},
        END,
    )
    assert folded(stream).choices[0].parts == (ToolCall("c0", "f", "{}"), ToolCall("c1", "g", '{"a":1}'))
    assert told([stream])[0] == Started(id="a1", model=CHAT.model)


def test_a_call_without_arguments_has_an_empty_object() -> None:
    stream = sse(
        call_delta("tool-call-start", 0, id="c0", function={"name": "now"}),
        {"type": "tool-call-end", "index": 0},
        {"type": "tool-call-end", "index": 5},
        END,
    )
    assert [event for event in told([stream]) if isinstance(event, ToolDelta)] == [
        ToolDelta(0, "c0", "now"),
        ToolDelta(0, arguments="{}"),
    ]
    bare = {"tool_calls": [{"id": "c0", "function": {"name": "now"}}]}
    assert whole(bare, "TOOL_CALL").choices[0].parts == (ToolCall("c0", "now", "{}"),)


def test_a_block_may_start_with_text() -> None:
    content = {"type": "text", "text": "He"}
    stream = sse(
        {"type": "content-start", "index": 0, "delta": {"message": {"content": content}}},
        {"type": "content-delta", "index": 0, "delta": {"message": {"content": {"text": "llo"}}}},
        END,
    )
    assert folded(stream).choices[0].parts == (Text("Hello"),)


def test_citations_add_nothing() -> None:
    citation = {"type": "citation-start", "index": 0, "delta": {"message": {"citations": {"start": 0}}}}
    assert told([sse(citation, {"type": "citation-end", "index": 0})]) == [ErrorKind.UPSTREAM_TRUNCATED]


def test_unknown_events_are_ignored_and_counted() -> None:
    before = unmodelled.seen().get("cohere.event.weather-report", 0)
    assert told([sse({"type": "weather-report", "delta": {"x": 1}}, END)])[0] == Finish(
        FinishReason.TOOL_CALLS
    )
    assert unmodelled.seen()["cohere.event.weather-report"] == before + 1


def test_usage_falls_back_to_what_is_billed() -> None:
    billed = {"usage": {"billed_units": {"input_tokens": 3.0, "output_tokens": 2.0}}}
    assert whole({"content": None}, **billed).usage == Usage(input_tokens=3, output_tokens=2)
    assert whole({"content": None}).usage == Usage()


def test_embeddings() -> None:
    case = load("cohere", "embeddings")
    answer = DIALECT.decode(EmbedCall(model="embed-v4.0", inputs=("a", "b")), case.body)
    vectors = tuple(tuple(vector) for vector in case.answer["vectors"])
    assert answer == Embeddings(model="embed-v4.0", vectors=vectors, usage=Usage(input_tokens=10))


@pytest.mark.parametrize(
    "garbage",
    [b'{"embeddings":{}}', b'{"embeddings":{"float":[["x"]]}}', b"{}", b'{"embeddings":{"float":[[1],[2]]}}'],
)
def test_embeddings_that_do_not_fit_are_invalid(garbage: bytes) -> None:
    with pytest.raises(ServerError) as invalid:
        DIALECT.decode(EmbedCall(model="e", inputs=("a",)), garbage)
    assert invalid.value.kind is ErrorKind.UPSTREAM_INVALID


def test_models() -> None:
    case = load("cohere", "models")
    models = DIALECT.decode_models(case.body)
    assert [model.id for model in models] == case.answer["models"]
    assert models[0].context_tokens == 288000


def test_models_that_cannot_be_asked_are_not_listed() -> None:
    listed = [
        {"name": "old", "is_deprecated": True, "endpoints": ["chat"]},
        {"name": "rerank-v4", "endpoints": ["rerank"]},
        {"name": "new", "context_length": 0},
    ]
    (model,) = DIALECT.decode_models(json.dumps({"models": listed}).encode())
    assert (model.id, model.context_tokens) == ("new", None)
    with pytest.raises(ServerError):
        DIALECT.decode_models(b"[]")
