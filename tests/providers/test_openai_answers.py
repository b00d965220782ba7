"""OpenAI-compatible answers as values: what servers really send, and the odd things some of them do."""

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw, json

from llm_server.contract import (
    Call,
    Choice,
    Chunk,
    Completion,
    EmbedCall,
    Embeddings,
    ErrorKind,
    Finish,
    FinishReason,
    ReasoningDelta,
    ServerError,
    Started,
    Text,
    TextCall,
    TextDelta,
    Thinking,
    ToolCall,
    ToolDelta,
    Usage,
    fold,
)
from llm_server.providers.dialects import unmodelled
from llm_server.providers.dialects.openai import OpenAI
from llm_server.providers.quirks import Quirks
from tests.providers.calls import chat
from tests.upstreams.cases import frames, load

OPENAI = OpenAI(Quirks())
FOREIGN = chat()
OWN = chat(dialect="openai")


def completion(body: dict[str, Any], call: Call = FOREIGN) -> Completion:
    answer = OPENAI.decode(call, json.encode(body))
    assert isinstance(answer, Completion)
    return answer


def said(message: dict[str, Any], **choice: Any) -> Choice:
    return completion({"choices": [{"index": 0, "message": message, **choice}]}).choices[0]


def sse(*payloads: Any) -> bytes:
    return b"".join(
        b"data: %b\n\n" % (payload if isinstance(payload, bytes) else json.encode(payload))
        for payload in payloads
    )


def streamed(*payloads: Any, call: Call = FOREIGN) -> list[Chunk]:
    decoder = OPENAI.decoder(call)
    return [*decoder.feed(sse(*payloads)), *decoder.end()]


def delta(finish: str | None = None, index: int = 0, **said: Any) -> dict[str, Any]:
    return {"id": "1", "choices": [{"index": index, "delta": said, "finish_reason": finish}]}


def error_of(*payloads: Any) -> ServerError:
    with pytest.raises(ServerError) as caught:
        streamed(*payloads)
    return caught.value


# --- whole -------------------------------------------------------------------------------------------------


def test_raw_is_kept_for_callers_of_the_dialect_alone() -> None:
    body = load("openai", "text").body
    own, foreign = OPENAI.decode(OWN, body), OPENAI.decode(FOREIGN, body)
    assert own.raw == body  # type: ignore[union-attr]  # not a count
    assert foreign.raw == b""  # type: ignore[union-attr]  # not a count


@pytest.mark.parametrize(
    ("message", "parts"),
    [
        ({"content": "a", "reasoning_content": "hm"}, (Thinking(text="hm"), Text("a"))),
        ({"content": "a", "reasoning": "hm"}, (Thinking(text="hm"), Text("a"))),
        ({"content": "a", "reasoning": {"odd": 1}}, (Text("a"),)),
        (
            {"content": [{"type": "thinking", "thinking": [{"text": "hm"}]}, {"type": "text", "text": "a"}]},
            (Thinking(text="hm"), Text("a")),
        ),
        ({"content": ""}, ()),
        ({"content": None}, ()),
        (
            {"tool_calls": [{"id": "t", "function": {"name": "f", "arguments": {"a": 1}}}]},
            (ToolCall("t", "f", '{"a":1}'),),
        ),
        ({"tool_calls": [{"id": "t", "function": {"name": "f"}}]}, (ToolCall("t", "f", "{}"),)),
    ],
)
def test_parts_of_a_message(message: dict[str, Any], parts: tuple[Any, ...]) -> None:
    assert said(message).parts == parts


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        ("stop", FinishReason.STOP),
        ("length", FinishReason.LENGTH),
        ("model_length", FinishReason.LENGTH),
        ("tool_calls", FinishReason.TOOL_CALLS),
        ("function_call", FinishReason.TOOL_CALLS),
        ("content_filter", FinishReason.CONTENT_FILTER),
        ("eos", FinishReason.STOP),
        (None, FinishReason.STOP),
    ],
)
def test_finish_reasons(word: str | None, reason: FinishReason) -> None:
    assert said({"content": "a"}, finish_reason=word).finish is reason


def test_forced_tool_call_that_ends_with_stop_ends_with_tool_calls() -> None:
    call = {"id": "t", "index": 0, "function": {"name": "f", "arguments": "{}"}}
    assert said({"tool_calls": [call]}, finish_reason="stop").finish is FinishReason.TOOL_CALLS
    assert (
        fold(streamed(delta(tool_calls=[call]), delta("stop"))).choices[0].finish is FinishReason.TOOL_CALLS
    )


@pytest.mark.parametrize(
    ("word", "kind"),
    [("error", ErrorKind.UPSTREAM_ERROR), ("insufficient_system_resource", ErrorKind.UPSTREAM_OVERLOADED)],
)
def test_an_end_that_is_a_failure_is_an_error(word: str, kind: ErrorKind) -> None:
    with pytest.raises(ServerError) as caught:
        said({"content": "a"}, finish_reason=word)
    assert caught.value.kind is kind
    assert error_of(delta(content="a"), delta(word)).kind is kind


@pytest.mark.parametrize(
    ("told", "usage"),
    [
        (
            {"prompt_tokens": 5, "completion_tokens": 3, "prompt_tokens_details": {"cached_tokens": 2}},
            Usage(input_tokens=5, output_tokens=3, cached_tokens=2),
        ),
        (
            {"prompt_tokens": 5, "completion_tokens": 3, "prompt_cache_hit_tokens": 4},
            Usage(input_tokens=5, output_tokens=3, cached_tokens=4),
        ),
        # xAI counts reasoning beside the output, OpenAI inside it.
        (
            {
                "prompt_tokens": 5,
                "completion_tokens": 3,
                "total_tokens": 18,
                "completion_tokens_details": {"reasoning_tokens": 10},
            },
            Usage(input_tokens=5, output_tokens=13, reasoning_tokens=10),
        ),
        (
            {
                "prompt_tokens": 5,
                "completion_tokens": 13,
                "total_tokens": 18,
                "completion_tokens_details": {"reasoning_tokens": 10},
            },
            Usage(input_tokens=5, output_tokens=13, reasoning_tokens=10),
        ),
        ({"prompt_tokens": None}, Usage()),
        (None, Usage()),
    ],
)
def test_usage(told: dict[str, Any] | None, usage: Usage) -> None:
    assert completion({"choices": [{"message": {"content": "a"}}], "usage": told}).usage == usage


@pytest.mark.parametrize(
    "body", [b"", b"null", b"[]", b"<html>", b"{}", b'{"choices":[]}', b'{"choices":3}', b"\xff", b"[" * 9999]
)
def test_garbage_is_invalid_and_never_anything_else(body: bytes) -> None:
    with pytest.raises(ServerError) as caught:
        OPENAI.decode(FOREIGN, body)
    assert caught.value.kind is ErrorKind.UPSTREAM_INVALID


def test_error_with_status_200_is_an_error() -> None:
    with pytest.raises(ServerError) as caught:
        completion({"error": {"code": 429, "message": "Slow down"}})
    assert caught.value.kind is ErrorKind.UPSTREAM_RATE_LIMITED


def test_unknown_fields_are_counted() -> None:
    before = unmodelled.seen().get("openai.brand_new", 0)
    completion({"choices": [{"message": {"content": "a"}}], "brand_new": 1})
    assert unmodelled.seen()["openai.brand_new"] == before + 1


# --- embeddings --------------------------------------------------------------------------------------------


def test_embeddings_in_either_form_are_the_same_numbers() -> None:
    numbers = json.encode({"data": [{"index": 0, "embedding": [0.5, -2.0]}], "usage": {"prompt_tokens": 3}})
    packed = json.encode({"data": [{"index": 0, "embedding": "AAAAPwAAAMA="}]})
    for body in (numbers, packed):
        answer = OPENAI.decode(EmbedCall(model="m", inputs=("a",)), body)
        assert isinstance(answer, Embeddings)
        assert answer.vectors == ((0.5, -2.0),)


@pytest.mark.parametrize("base64", [True, False])
def test_embeddings_are_kept_raw_only_in_the_form_asked_for(base64: bool) -> None:
    body = json.encode({"data": [{"index": 0, "embedding": "AAAAPw=="}]})
    answer = OPENAI.decode(EmbedCall(model="m", dialect="openai", inputs=("a",), base64=base64), body)
    assert isinstance(answer, Embeddings)
    assert answer.raw == (body if base64 else b"")


def test_embeddings_come_in_the_order_of_their_inputs() -> None:
    body = json.encode({"data": [{"index": 1, "embedding": [1.0]}, {"index": 0, "embedding": [0.0]}]})
    answer = OPENAI.decode(EmbedCall(model="m", inputs=("a", "b")), body)
    assert isinstance(answer, Embeddings)
    assert answer.vectors == ((0.0,), (1.0,))


@pytest.mark.parametrize("data", [None, [], [{"embedding": "!"}], [{"embedding": "AAA="}]])
def test_embeddings_that_are_missing_or_broken_are_invalid(data: Any) -> None:
    with pytest.raises(ServerError) as caught:
        OPENAI.decode(EmbedCall(model="m", inputs=("a",)), json.encode({"data": data}))
    assert caught.value.kind is ErrorKind.UPSTREAM_INVALID


# --- models ------------------------------------------------------------------------------------------------


def test_model_lists_of_every_form() -> None:
    told = {"id": "a", "created": 5, "name": "A", "context_length": 9}
    for body in ({"object": "list", "data": [told]}, [told]):
        (model,) = OPENAI.decode_models(json.encode(body))
        assert (model.id, model.created, model.display_name, model.context_tokens) == ("a", 5, "A", 9)
    (tag,) = OPENAI.decode_models(
        b'{"models":[{"name":"b:1b","modified_at":"2024-01-01T00:00:00.123456789+00:00"}]}'
    )
    assert (tag.id, tag.created) == ("b:1b", 1704067200)
    (tag,) = OPENAI.decode_models(b'{"models":[{"name":"b","modified_at":"?"}]}')
    assert tag.created == 0
    with pytest.raises(ServerError):
        OPENAI.decode_models(b"{}")


# --- streams -----------------------------------------------------------------------------------------------


def test_events_of_a_stream() -> None:
    chunks = streamed(
        {"id": "1", "model": "x", "created": 7, "choices": [], "prompt_filter_results": []},
        {"id": "1", "model": "x", "created": 7, "choices": [{"delta": {"role": "assistant", "content": ""}}]},
        delta(reasoning_content="hm"),
        delta(content="a"),
        delta("stop"),
        {"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 2}},
        b"[DONE]",
    )
    assert [event for chunk in chunks for event in chunk.events] == [
        Started(id="1", model="x", created=7),
        ReasoningDelta("hm", 0),
        TextDelta("a", 1),
        Finish(FinishReason.STOP),
        Usage(input_tokens=1, output_tokens=2),
    ]


def test_frames_are_the_upstreams_bytes_for_its_own_dialect_without_the_end() -> None:
    body = load("openai", "text", "stream").body
    decoder = OPENAI.decoder(OWN)
    chunks = [*decoder.feed(b": hello\n\n" + body), *decoder.end()]
    expected = [frame for frame in frames(body) if b"[DONE]" not in frame]
    assert [chunk.frame for chunk in chunks] == [b": hello\n\n", *expected]
    assert chunks[0].events == ()
    decoder = OPENAI.decoder(FOREIGN)
    assert {chunk.frame for chunk in [*decoder.feed(b": hello\n\n" + body), *decoder.end()]} == {b""}


@given(st.lists(st.integers(0, 6000), max_size=12))
def test_any_cut_gives_the_same_chunks(cuts: list[int]) -> None:
    body = load("openai", "tools", "stream").body
    whole = OPENAI.decoder(OWN)
    expected = [*whole.feed(body), *whole.end()]
    decoder, seen = OPENAI.decoder(OWN), []
    bounds = [0, *sorted(min(cut, len(body)) for cut in cuts), len(body)]
    for start, stop in pairwise(bounds):
        seen += decoder.feed(body[start:stop])
    assert [*seen, *decoder.end()] == expected


@pytest.mark.parametrize(
    "payloads",
    [
        (),
        (b"[DONE]",),
        (delta(content="a"),),
        (delta(content="a"), b"[DONE]"),
        (delta("stop", content="a"), delta(index=1, content="b"), b"[DONE]"),
        ({"choices": [], "usage": {"prompt_tokens": 1}}, b"[DONE]"),
    ],
    ids=["nothing", "only done", "no finish", "done without finish", "a choice unfinished", "usage alone"],
)
def test_stream_without_its_end_is_truncated(payloads: tuple[Any, ...]) -> None:
    assert error_of(*payloads).kind is ErrorKind.UPSTREAM_TRUNCATED


def test_finished_stream_needs_no_done_and_no_last_blank_line() -> None:
    decoder = OPENAI.decoder(FOREIGN)
    chunks = [*decoder.feed(sse(delta("stop", content="a"))[:-1]), *decoder.end()]
    assert fold(chunks).choices[0].text == "a"


@pytest.mark.parametrize(
    ("payload", "kind"),
    [
        ({"error": {"message": "x", "type": "server_error", "code": None}}, ErrorKind.UPSTREAM_ERROR),
        ({"error": {"message": "x", "code": 502}}, ErrorKind.UPSTREAM_ERROR),
        ({"error": {"message": "x", "code": 429}}, ErrorKind.UPSTREAM_RATE_LIMITED),
        (
            {"error": {"message": "x", "type": "service_unavailable_error", "code": None}},
            ErrorKind.UPSTREAM_OVERLOADED,
        ),
        ({"error": {"message": "x", "type": "invalid_request_error"}}, ErrorKind.INVALID_REQUEST),
        ({"error": {"message": "x", "code": "context_length_exceeded"}}, ErrorKind.CONTEXT_OVERFLOW),
        ({"error": {"message": "x", "type": "BadRequestError", "code": 400}}, ErrorKind.INVALID_REQUEST),
        ({"error": "overloaded"}, ErrorKind.UPSTREAM_ERROR),
        ({"object": "error", "message": "x", "type": "internal_server_error"}, ErrorKind.UPSTREAM_ERROR),
        ({"object": "error", "message": "x", "code": 429}, ErrorKind.UPSTREAM_RATE_LIMITED),
        ({"x_groq": {"error": "boom"}}, ErrorKind.UPSTREAM_ERROR),
        (b'{"broken": ', ErrorKind.UPSTREAM_INVALID),
        (b"[]", ErrorKind.UPSTREAM_INVALID),
        (b'{"choices":[{"delta":{"content":5}}]}', ErrorKind.UPSTREAM_INVALID),
    ],
)
def test_error_or_garbage_in_a_stream_comes_after_what_came_before(payload: Any, kind: ErrorKind) -> None:
    chunks = iter(OPENAI.decoder(FOREIGN).feed(sse(delta(content="a"), payload)))
    assert next(chunks).events[-1] == TextDelta("a")
    with pytest.raises(ServerError) as caught:
        next(chunks)
    assert caught.value.kind is kind


def test_calls_without_numbers_are_told_apart_by_id() -> None:
    first = {"id": "a", "function": {"name": "f", "arguments": '{"x":1}'}}
    second = {"id": "b", "function": {"name": "g", "arguments": "{}"}}
    whole = fold(streamed(delta(tool_calls=[first]), delta(tool_calls=[second]), delta("tool_calls")))
    assert whole.choices[0].parts == (ToolCall("a", "f", '{"x":1}'), ToolCall("b", "g", "{}"))


def test_name_that_is_repeated_with_every_piece_is_told_once() -> None:
    pieces = [
        {"index": 0, "id": "a", "function": {"name": "f", "arguments": part}} for part in ('{"x"', ":1}")
    ]
    chunks = streamed(*(delta(tool_calls=[piece]) for piece in pieces), delta("tool_calls"))
    assert [event for chunk in chunks for event in chunk.events if isinstance(event, ToolDelta)] == [
        ToolDelta(0, "a", "f", '{"x"'),
        ToolDelta(0, arguments=":1}"),
    ]


def test_token_without_text_keeps_its_probability() -> None:
    probable = Raw(b'{"content":[{"token":"x"}]}')
    first = {"choices": [{"index": 0, "delta": {"content": ""}, "logprobs": probable}]}
    second = {"choices": [{"index": 0, "delta": {"content": "a"}, "logprobs": probable}]}
    whole = fold(streamed(first, second, delta("stop")))
    assert json.decode(whole.choices[0].logprobs) == {"content": [{"token": "x"}, {"token": "x"}]}
    assert whole.choices[0].text == "a"


def test_legacy_completions_stream() -> None:
    call = TextCall(model="m", prompts=("a", "b"))
    chunks = streamed(
        {"choices": [{"index": 0, "text": "x"}]},
        {"choices": [{"index": 1, "text": "y", "finish_reason": "length"}]},
        {"choices": [{"index": 0, "text": "z", "finish_reason": "stop"}]},
        call=call,
    )
    assert [choice.text for choice in fold(chunks).choices] == ["xz", "y"]


def test_typed_content_in_a_stream() -> None:
    whole = fold(
        streamed(
            delta(content=[{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}]),
            delta(content="a"),
            delta(content=[{"type": "text", "text": "b"}, {"type": "reference"}]),
            delta("stop"),
        )
    )
    assert whole.choices[0].parts == (Thinking(text="hm"), Text("ab"))


def test_usage_of_groq_counts_when_there_is_no_other() -> None:
    chunks = streamed(delta("stop", content="a") | {"x_groq": {"usage": {"prompt_tokens": 4}}})
    assert fold(chunks).usage == Usage(input_tokens=4)


def test_unknown_event_names_are_counted_and_read() -> None:
    before = unmodelled.seen().get("openai.event.hint", 0)
    decoder = OPENAI.decoder(FOREIGN)
    list(decoder.feed(b'event: hint\ndata: {"choices":[]}\n\n' + sse(delta("stop", content="a"))))
    assert list(decoder.end()) == []
    assert unmodelled.seen()["openai.event.hint"] == before + 1
