"""What we write in Anthropic's dialect is what Anthropic's own SDK reads."""

import json
from itertools import pairwise
from typing import Any

import anthropic as sdk
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_server.api.schemas import anthropic as models
from llm_server.contract import (
    ChatCall,
    Choice,
    Chunk,
    Completion,
    CountCall,
    ErrorKind,
    Event,
    Finish,
    FinishReason,
    ReasoningDelta,
    Refusal,
    RefusalDelta,
    ServerError,
    Started,
    Text,
    TextDelta,
    TokenCount,
    ToolCall,
    ToolDelta,
    Usage,
    unfold,
)
from llm_server.wire import ANTHROPIC_COUNT, ANTHROPIC_MESSAGES
from llm_server.wire.sse import Parser
from tests.wire.completions import anthropic_completions, openai_completions
from tests.wire.vendors import (
    ANTHROPIC,
    ASK,
    REPLY,
    anthropic_events,
    anthropic_streamed,
    anthropic_whole,
    written,
)

CALL = ChatCall(model="asked/for", messages=(), stream=True)
ANSWER = Completion(id="msg_a", model="m", choices=(Choice(parts=(Text("hello"),)),))


def told(stream: bytes) -> list[dict[str, object]]:
    """The events of a stream; each names itself twice."""
    events = Parser().feed(stream)
    decoded = [json.loads(event.data) for event in events]
    assert [event.event for event in events] == [data["type"] for data in decoded]
    return decoded


def assert_well_formed(stream: bytes) -> None:
    """The order that Anthropic documents: one message, its blocks one after the other, its end."""
    events = told(stream)
    kinds = [event["type"] for event in events]
    assert kinds[0] == "message_start"
    assert kinds[-2:] == ["message_delta", "message_stop"]
    starts = [event["index"] for event in events if event["type"] == "content_block_start"]
    assert starts == list(range(len(starts)))
    for before, after in pairwise(events[1:-1]):
        same = before.get("index") == after.get("index")
        allowed = {
            "content_block_start": same and after["type"] in {"content_block_delta", "content_block_stop"},
            "content_block_delta": same and after["type"] in {"content_block_delta", "content_block_stop"},
            "content_block_stop": after["type"] in {"content_block_start", "message_delta"},
        }
        assert allowed[str(before["type"])], (before, after)


@given(anthropic_completions())
def test_the_sdk_reads_a_whole_answer(completion: Completion) -> None:
    assert anthropic_whole(ANTHROPIC_MESSAGES.whole(CALL, completion)) == completion


@given(anthropic_completions())
def test_the_sdk_reads_a_streamed_answer(completion: Completion) -> None:
    stream = written(ANTHROPIC_MESSAGES.encoder(CALL), unfold(completion))
    assert_well_formed(stream)
    assert anthropic_streamed(stream) == completion


def meaning(event: dict[str, Any]) -> tuple[Event, ...]:
    """What an upstream's event means, as a decoder tells it: the start of a text says nothing."""
    part = event.get("index", 0)
    match event:
        case {"type": "message_start", "message": message}:
            return (Started(id=message["id"], model=message["model"]),)
        case {"content_block": {"type": "tool_use", "id": identity, "name": name}}:
            return (ToolDelta(part, identity, name),)
        case {"content_block": {"type": "redacted_thinking", "data": data}}:
            return (ReasoningDelta(part=part, signature=data, redacted=True),)
        case {"delta": {"text": text}}:
            return (TextDelta(text, part),)
        case {"delta": {"thinking": text}}:
            return (ReasoningDelta(text, part),)
        case {"delta": {"signature": signature}}:
            return (ReasoningDelta(part=part, signature=signature),)
        case {"delta": {"partial_json": text}}:
            return (ToolDelta(part, arguments=text),)
    return ()


@given(anthropic_completions(), st.data())
def test_a_stream_of_passed_on_and_encoded_chunks_is_one_answer(
    completion: Completion, data: st.DataObject
) -> None:
    end = Chunk(
        (Finish(completion.choices[0].finish, 0, completion.choices[0].stop_sequence), completion.usage)
    )
    events = Parser().feed(written(ANTHROPIC_MESSAGES.encoder(CALL), unfold(completion)))[:-1]
    *framed, last = [Chunk(meaning(json.loads(event.data)), event.raw) for event in events]
    framed.append(Chunk(end.events, last.frame))
    changed = data.draw(st.lists(st.booleans(), min_size=len(framed), max_size=len(framed)))
    mixed = [
        Chunk(chunk.events) if change and chunk.events else chunk
        for chunk, change in zip(framed, changed, strict=True)
    ]
    stream = written(ANTHROPIC_MESSAGES.encoder(CALL), tuple(mixed))
    assert_well_formed(stream)
    assert anthropic_streamed(stream) == completion


@given(st.one_of(anthropic_completions(), openai_completions()))
def test_every_whole_answer_is_as_documented(completion: Completion) -> None:
    body = ANTHROPIC_MESSAGES.whole(CALL, completion)
    model = models.Message.model_validate_json(body)
    assert model.model_dump(mode="json", exclude_unset=True) == json.loads(body)


@given(openai_completions())
def test_any_answer_makes_a_well_formed_stream(completion: Completion) -> None:
    stream = written(ANTHROPIC_MESSAGES.encoder(CALL), unfold(completion))
    assert_well_formed(stream)
    whole = anthropic_whole(ANTHROPIC_MESSAGES.whole(CALL, completion))
    streamed = anthropic_streamed(stream)
    assert streamed.choices == whole.choices
    assert streamed.usage == whole.usage


def test_the_upstream_s_own_body_is_passed_on() -> None:
    raw = b'{"exactly": "this"}'
    assert ANTHROPIC_MESSAGES.whole(CALL, Completion(raw=raw)) == raw


@pytest.mark.parametrize(("given", "told"), [("msg_1", "msg_1"), ("chatcmpl-1", "msg_chatcmpl-1")])
def test_the_identifier_is_of_the_dialect_s_form(given: str, told: str) -> None:
    completion = msgspec.structs.replace(ANSWER, id=given)
    assert json.loads(ANTHROPIC_MESSAGES.whole(CALL, completion))["id"] == told
    assert f'"id":"{told}"'.encode() in written(ANTHROPIC_MESSAGES.encoder(CALL), unfold(completion))


def test_a_count_is_read() -> None:
    REPLY.whole(ANTHROPIC_COUNT.whole(CountCall(model="m", messages=()), TokenCount(input_tokens=7)))
    assert ANTHROPIC.messages.count_tokens(**ASK).input_tokens == 7


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ('{"a": 1}', {"a": 1}),
        ("", {}),
        (" ", {}),
        ('{"cut": "of', {"INVALID_JSON": '{"cut": "of'}),
        ("[1]", {"INVALID_JSON": "[1]"}),
        ("[" * 5000, {"INVALID_JSON": "[" * 5000}),
    ],
)
def test_tool_arguments_are_always_an_object(arguments: str, expected: object) -> None:
    choice = Choice(parts=(ToolCall("t", "f", arguments),), finish=FinishReason.TOOL_CALLS)
    body = json.loads(ANTHROPIC_MESSAGES.whole(CALL, Completion(choices=(choice,))))
    assert body["content"][0]["input"] == expected


def test_a_refusal_is_text_and_the_reason() -> None:
    completion = Completion(choices=(Choice(parts=(Refusal("I will not."),)),))
    for answer in (
        anthropic_whole(ANTHROPIC_MESSAGES.whole(CALL, completion)),
        anthropic_streamed(written(ANTHROPIC_MESSAGES.encoder(CALL), unfold(completion))),
    ):
        assert answer.choices[0].parts == (Text("I will not."),)
        assert answer.choices[0].finish is FinishReason.REFUSAL


def test_other_choices_have_no_place() -> None:
    chunks = (Chunk((TextDelta("a"), TextDelta("b", index=1))), Chunk((Finish(FinishReason.STOP),)))
    assert anthropic_streamed(written(ANTHROPIC_MESSAGES.encoder(CALL), chunks)).choices[0].text == "a"


def test_empty_beginnings_open_no_block() -> None:
    chunks = (
        Chunk((Started(id="a", model="m"),)),
        Chunk((TextDelta(""), RefusalDelta("", part=3), ReasoningDelta("", part=4))),
        Chunk((ToolDelta(1, "t", "f", "{}"),)),
        Chunk((Finish(FinishReason.TOOL_CALLS),)),
    )
    stream = written(ANTHROPIC_MESSAGES.encoder(CALL), chunks)
    assert_well_formed(stream)
    assert anthropic_streamed(stream).choices[0].parts == (ToolCall("t", "f", "{}"),)


def test_usage_known_at_the_start_is_told_at_the_start() -> None:
    encoder = ANTHROPIC_MESSAGES.encoder(CALL)
    start = told(encoder.encode(Chunk((Started(id="a"), Usage(input_tokens=9, cached_tokens=4)))))[0]
    usage = start["message"]["usage"]  # type: ignore[index]  # decoded JSON
    assert (usage["input_tokens"], usage["cache_read_input_tokens"]) == (5, 4)


def test_usage_after_the_finish_is_told_at_the_end() -> None:
    chunks = (
        Chunk((TextDelta("x"),)),
        Chunk((Finish(FinishReason.STOP),)),
        Chunk((Usage(input_tokens=3, output_tokens=1),)),
    )
    assert anthropic_streamed(written(ANTHROPIC_MESSAGES.encoder(CALL), chunks)).usage.output_tokens == 1


def test_opaque_blocks_in_frames_are_counted() -> None:
    frames = b"".join(
        b'event: %b\ndata: {"type":"%b","index":0}\n\n' % (name, name)
        for name in (b"content_block_start", b"content_block_stop")
    )
    encoder = ANTHROPIC_MESSAGES.encoder(CALL)
    encoder.encode(Chunk((Started(id="a"),), b"event: message_start\ndata: {}\n\n"))
    assert encoder.encode(Chunk((), frames)) == frames
    events = told(encoder.encode(Chunk((TextDelta("x"),))))
    assert [event["index"] for event in events] == [1, 1]


def test_an_error_in_a_stream_raises_in_the_sdk() -> None:
    encoder = ANTHROPIC_MESSAGES.encoder(CALL)
    stream = encoder.encode(Chunk((TextDelta("x"),))) + encoder.error(
        ServerError(ErrorKind.UPSTREAM_OVERLOADED, "Busy.")
    )
    with pytest.raises(sdk.APIStatusError, match=r"Busy\.") as raised:
        anthropic_events(stream)
    assert raised.value.type == "overloaded_error"


def test_the_keepalive_is_skipped_by_the_sdk() -> None:
    stream = written(ANTHROPIC_MESSAGES.encoder(CALL), unfold(ANSWER))
    at = stream.index(b"event: content_block_start")
    assert anthropic_streamed(stream[:at] + ANTHROPIC_MESSAGES.keepalive + stream[at:]) == ANSWER
