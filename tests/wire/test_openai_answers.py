"""What we write in OpenAI's dialect is what OpenAI's own SDK reads."""

import base64
import json
import struct
from typing import Any

import msgspec
import openai as sdk
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_server.api.schemas import openai as models
from llm_server.contract import (
    ChatCall,
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
    ToolDelta,
    Usage,
    fold,
    unfold,
)
from llm_server.wire import OPENAI_CHAT, OPENAI_COMPLETIONS, OPENAI_EMBEDDINGS
from tests.wire.completions import openai_completions
from tests.wire.vendors import (
    OPENAI,
    REPLY,
    openai_chunks,
    openai_streamed,
    openai_whole,
    written,
)

CALL = ChatCall(model="asked/for", messages=(), stream=True, include_usage=True)
QUIET = ChatCall(model="asked/for", messages=(), stream=True)
ANSWER = Completion(id="chatcmpl-a", model="m", created=5, choices=(Choice(parts=(Text("hello"),)),))


def frames(stream: bytes) -> list[Any]:
    """The data of a stream, decoded, without its ``[DONE]``."""
    events = stream.decode().removesuffix("\n\n").split("\n\n")
    assert all(event.startswith("data: ") for event in events)
    assert events[-1] == "data: [DONE]"
    return [json.loads(event.removeprefix("data: ")) for event in events[:-1]]


@given(openai_completions())
def test_the_sdk_reads_a_whole_answer(completion: Completion) -> None:
    assert openai_whole(OPENAI_CHAT.whole(CALL, completion)) == completion


@given(openai_completions())
def test_the_sdk_reads_a_streamed_answer(completion: Completion) -> None:
    stream = written(OPENAI_CHAT.encoder(CALL), unfold(completion))
    assert openai_streamed(stream) == completion


@given(openai_completions(), st.data())
def test_a_stream_of_passed_on_and_encoded_chunks_is_one_answer(
    completion: Completion, data: st.DataObject
) -> None:
    chunks = unfold(completion)
    upstream = OPENAI_CHAT.encoder(CALL)
    framed = [Chunk(chunk.events, upstream.encode(chunk)) for chunk in chunks]
    changed = data.draw(st.lists(st.booleans(), min_size=len(chunks), max_size=len(chunks)))
    mixed = [Chunk(chunk.events) if change else chunk for chunk, change in zip(framed, changed, strict=True)]
    stream = written(OPENAI_CHAT.encoder(CALL), tuple(mixed))
    assert openai_streamed(stream) == completion


@given(openai_completions())
def test_every_whole_answer_is_as_documented(completion: Completion) -> None:
    body = OPENAI_CHAT.whole(CALL, completion)
    model = models.ChatCompletion.model_validate_json(body)
    assert model.model_dump(mode="json", exclude_unset=True, by_alias=True) == json.loads(body)


@given(openai_completions())
def test_every_completions_answer_is_as_documented_and_read(completion: Completion) -> None:
    body = OPENAI_COMPLETIONS.whole(TextCall(model="m", prompts=("",)), completion)
    model = models.TextCompletion.model_validate_json(body)
    assert model.model_dump(mode="json", exclude_unset=True) == json.loads(body)
    REPLY.whole(body)
    answer = OPENAI.completions.create(model="m", prompt="")
    assert [choice.text for choice in answer.choices] == [choice.text for choice in completion.choices]


@given(openai_completions())
def test_a_streamed_completion_is_read(completion: Completion) -> None:
    call = TextCall(model="m", prompts=("",), stream=True, include_usage=True)
    REPLY.stream(written(OPENAI_COMPLETIONS.encoder(call), unfold(completion)))
    texts, finishes, usage = {}, {}, None
    for chunk in OPENAI.completions.create(model="m", prompt="", stream=True):
        assert chunk.object == "text_completion"
        usage = chunk.usage or usage
        for choice in chunk.choices:
            texts[choice.index] = texts.get(choice.index, "") + choice.text
            finishes[choice.index] = choice.finish_reason or finishes.get(choice.index)
    assert texts == {choice.index: choice.text for choice in completion.choices}
    assert finishes == {choice.index: choice.finish.value for choice in completion.choices}
    assert usage is not None
    assert usage.prompt_tokens == completion.usage.input_tokens


def test_the_upstream_s_own_body_is_passed_on() -> None:
    raw = b'{"exactly": "this"}'
    assert OPENAI_CHAT.whole(CALL, Completion(raw=raw)) == raw
    assert OPENAI_COMPLETIONS.whole(TextCall(model="m", prompts=("",)), Completion(raw=raw)) == raw
    assert OPENAI_EMBEDDINGS.whole(EmbedCall(model="m", inputs=("",)), Embeddings(raw=raw)) == raw


def test_an_unnamed_answer_gets_a_name_a_time_and_the_model_asked_for() -> None:
    answer = json.loads(OPENAI_CHAT.whole(CALL, Completion(choices=(Choice(),))))
    assert answer["id"].startswith("chatcmpl-")
    assert answer["created"] > 1_700_000_000
    assert answer["model"] == "asked/for"
    first, *_ = frames(written(OPENAI_CHAT.encoder(QUIET), (Chunk((TextDelta("x"),)),)))
    assert first["id"].startswith("chatcmpl-")
    assert first["model"] == "asked/for"


@pytest.mark.parametrize(("given", "told"), [("chatcmpl-1", "chatcmpl-1"), ("msg_1", "chatcmpl-msg_1")])
def test_the_identifier_is_of_the_dialect_s_form(given: str, told: str) -> None:
    completion = msgspec.structs.replace(ANSWER, id=given)
    assert json.loads(OPENAI_CHAT.whole(CALL, completion))["id"] == told
    stream = frames(written(OPENAI_CHAT.encoder(CALL), unfold(completion)))
    assert {chunk["id"] for chunk in stream} == {told}


def test_an_identifier_that_a_frame_has_told_is_kept() -> None:
    encoder = OPENAI_CHAT.encoder(QUIET)
    encoder.encode(Chunk((Started(id="own"),), b'data: {"id":"own"}\n\n'))
    stream = encoder.encode(Chunk((TextDelta("x"),))) + encoder.end()
    assert [chunk["id"] for chunk in frames(stream)] == ["own"]


def test_each_choice_is_introduced_by_a_chunk_of_its_own() -> None:
    chunks = (Chunk((Started(id="a"),)), Chunk((TextDelta("x"),)), Chunk((TextDelta("y", index=1),)))
    deltas = [frame["choices"][0]["delta"] for frame in frames(written(OPENAI_CHAT.encoder(QUIET), chunks))]
    assert deltas == [
        {"role": "assistant", "content": ""},
        {"content": "x"},
        {"role": "assistant", "content": ""},
        {"content": "y"},
    ]


def test_usage_is_told_once_and_last_when_asked_for() -> None:
    chunks = (
        Chunk((Started(id="a"), Usage(input_tokens=1))),
        *unfold(ANSWER)[1:],
        Chunk((Usage(input_tokens=2),)),
    )
    told = [frame["usage"] for frame in frames(written(OPENAI_CHAT.encoder(CALL), chunks))]
    assert [usage is None for usage in told] == [True] * (len(told) - 1) + [False]
    assert told[-1]["prompt_tokens"] == 2


def test_usage_is_not_told_when_not_asked_for() -> None:
    told = frames(written(OPENAI_CHAT.encoder(QUIET), unfold(ANSWER)))
    assert all("usage" not in frame and frame["choices"] for frame in told)


@pytest.mark.parametrize("call", [CALL, QUIET])
def test_a_frame_with_usage_alone_reaches_only_who_asked(call: ChatCall) -> None:
    frame = b'data: {"choices":[],"usage":{}}\n\n'
    encoder = OPENAI_CHAT.encoder(call)
    assert encoder.encode(Chunk((Usage(input_tokens=1),), frame)) == (frame if call.include_usage else b"")
    assert encoder.end() == b"data: [DONE]\n\n"


@pytest.mark.parametrize(
    "chunk",
    [
        Chunk((), b": comment\n\n"),
        Chunk((TextDelta("x"),), b'data: {"odd": 1}\r\n\r\n'),
        Chunk((Finish(FinishReason.STOP), Usage()), b"data: {}\n\n"),
    ],
)
def test_frames_are_passed_on_unchanged(chunk: Chunk) -> None:
    assert OPENAI_CHAT.encoder(QUIET).encode(chunk) == chunk.frame


def test_what_has_no_place_is_not_written() -> None:
    encoder = OPENAI_CHAT.encoder(QUIET)
    assert encoder.encode(Chunk((ReasoningDelta(signature="proof"),))) == b""
    assert encoder.encode(Chunk(())) == b""
    text = OPENAI_COMPLETIONS.encoder(TextCall(model="m", prompts=("",)))
    assert text.encode(Chunk((ToolDelta(0, "id", "name"), ReasoningDelta("thought")))) == b""


def test_a_chunk_of_several_events_is_written_whole() -> None:
    chunk = Chunk(
        (Started(id="chatcmpl-a", model="m", created=1), TextDelta("x"), Finish(FinishReason.STOP), Usage())
    )
    completion = openai_streamed(written(OPENAI_CHAT.encoder(CALL), (chunk,)))
    assert completion == fold([chunk])


def test_an_error_in_a_stream_raises_in_the_sdk() -> None:
    encoder = OPENAI_CHAT.encoder(QUIET)
    stream = encoder.encode(Chunk((TextDelta("x"),))) + encoder.error(
        ServerError(ErrorKind.UPSTREAM_TRUNCATED, "It broke.")
    )
    with pytest.raises(sdk.APIError, match=r"It broke\.") as raised:
        list(openai_chunks(stream))
    assert (raised.value.type, raised.value.code) == ("server_error", "upstream_truncated")


def test_the_keepalive_is_skipped_by_the_sdk() -> None:
    stream = OPENAI_CHAT.keepalive + written(OPENAI_CHAT.encoder(CALL), unfold(ANSWER)).replace(
        b"data: [DONE]", OPENAI_CHAT.keepalive + b"data: [DONE]"
    )
    assert openai_streamed(stream) == ANSWER


VECTORS = ((0.5, -1.25), (3.0, 0.0))
EMBEDDED = Embeddings(model="e", vectors=VECTORS, usage=Usage(input_tokens=4))


def test_embeddings_are_read_in_both_forms() -> None:
    for packed in (False, True):
        body = OPENAI_EMBEDDINGS.whole(EmbedCall(model="e", inputs=("a", "b"), base64=packed), EMBEDDED)
        model = models.EmbeddingList.model_validate_json(body)
        assert model.model_dump(mode="json") == json.loads(body)
        REPLY.whole(body)
        answer = OPENAI.embeddings.create(
            model="e", input=["a", "b"]
        )  # asks for base64 and unpacks it itself
        if packed:
            assert [tuple(item.embedding) for item in answer.data] == list(VECTORS)
        else:
            assert [tuple(item["embedding"]) for item in json.loads(body)["data"]] == list(VECTORS)
        assert answer.usage.prompt_tokens == 4


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), max_size=5))
def test_packed_vectors_are_little_endian_floats(numbers: list[float]) -> None:
    body = OPENAI_EMBEDDINGS.whole(
        EmbedCall(model="e", inputs=("a",), base64=True), Embeddings(vectors=(tuple(numbers),))
    )
    text = json.loads(body)["data"][0]["embedding"]
    assert base64.b64decode(text) == struct.pack(f"<{len(numbers)}f", *numbers)


def test_embeddings_never_stream() -> None:
    with pytest.raises(ServerError) as raised:
        OPENAI_EMBEDDINGS.encoder(EmbedCall(model="e", inputs=("a",)))
    assert raised.value.kind is ErrorKind.UNSUPPORTED


@pytest.mark.parametrize("reason", FinishReason)
def test_every_finish_reason_has_a_word(reason: FinishReason) -> None:
    body = OPENAI_CHAT.whole(CALL, Completion(choices=(Choice(finish=reason),)))
    models.ChatCompletion.model_validate_json(body)
