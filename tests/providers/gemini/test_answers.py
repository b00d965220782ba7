"""Answers: recorded bytes, whole and streamed, cut anywhere; log probabilities; garbage."""

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
    CountCall,
    EmbedCall,
    Embeddings,
    ErrorKind,
    Event,
    FinishReason,
    ServerError,
    Started,
    Text,
    TextDelta,
    Thinking,
    TokenCount,
    ToolCall,
    Usage,
    fold,
)
from llm_server.providers.dialects.gemini import Gemini
from llm_server.providers.dialects.gemini.narration import FAILED, FINISH
from llm_server.providers.dialects.signatures import seal, split_id
from tests.upstreams.cases import Case, cases, load, pairs

DIALECT = Gemini()
CHAT = ChatCall(model="gemini-3-flash-preview", messages=())
REFUSED = {"prompt_block": ErrorKind.CONTENT_REJECTED, "malformed_call": ErrorKind.UPSTREAM_ERROR}
STREAMS = [case for case in cases("gemini", operation="generate", form="stream") if case.name not in REFUSED]
WHOLE = [
    case
    for case in cases("gemini", operation="generate", form="whole")
    if case.name not in {*REFUSED, "error_midstream"}
]


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


def body(*parts: dict[str, Any], **candidate: Any) -> bytes:
    """Return a whole answer with one candidate."""
    one = {"content": {"role": "model", "parts": list(parts)}, "finishReason": "STOP"} | candidate
    return json.dumps({"candidates": [one], "responseId": "r1"}).encode()


def sse(*payloads: bytes) -> bytes:
    return b"".join(b"data: %b\r\n\r\n" % payload for payload in payloads)


@pytest.mark.parametrize("case", WHOLE, ids=lambda case: case.id)
def test_a_whole_answer(case: Case) -> None:
    answer, completion = case.answer, DIALECT.decode(CHAT, case.body)
    assert isinstance(completion, Completion)
    (choice,) = completion.choices
    calls = [part for part in choice.parts if isinstance(part, ToolCall)]
    assert choice.text == answer.get("text", "")
    assert "".join(p.text for p in choice.parts if isinstance(p, Thinking)) == answer.get("reasoning", "")
    assert [(call.name, json.loads(call.arguments)) for call in calls] == [
        (tool["name"], json.loads(tool["arguments"])) for tool in answer.get("tools", ())
    ]
    expected = FinishReason.TOOL_CALLS if calls else FINISH[answer["finish"]]
    assert choice.finish is expected
    counts = answer["usage"]
    assert completion.usage == Usage(
        input_tokens=counts["input"],
        output_tokens=counts["output"] + counts.get("reasoning", 0),
        cached_tokens=counts.get("cached", 0),
        reasoning_tokens=counts.get("reasoning", 0),
    )
    assert (completion.id, completion.model) == ("M3iLaY-AI7zTxN8P3Piw4Qg", "gemini-3-flash-preview")


@pytest.mark.parametrize(
    ("whole", "stream"),
    [pair for pair in pairs("gemini", operation="generate") if pair[0].name not in REFUSED],
    ids=lambda case: case.id,
)
def test_a_stream_folds_into_the_whole_answer(whole: Case, stream: Case) -> None:
    assert folded(stream.body) == DIALECT.decode(CHAT, whole.body)


@pytest.mark.parametrize("name", REFUSED)
def test_an_answer_that_is_none(name: str) -> None:
    with pytest.raises(ServerError) as refused:
        DIALECT.decode(CHAT, load("gemini", name).body)
    assert refused.value.kind is REFUSED[name]
    assert told([load("gemini", name, "stream").body])[-1] is REFUSED[name]


def test_an_error_in_a_stream_comes_after_what_was_said() -> None:
    events = told([load("gemini", "error_midstream", "stream").body])
    assert TextDelta("Let me") in events
    assert events[-1] is ErrorKind.UPSTREAM_OVERLOADED


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


@pytest.mark.parametrize(
    "case", [c for c in STREAMS if c.name != "error_midstream"], ids=lambda case: case.id
)
def test_a_stream_without_its_last_event_is_truncated(case: Case) -> None:
    events = case.body.replace(b"\r\n", b"\n").strip(b"\n").split(b"\n\n")
    shorter = b"".join(event + b"\n\n" for event in events[:-1])
    assert told([shorter])[-1] is ErrorKind.UPSTREAM_TRUNCATED


@pytest.mark.parametrize(
    "stream", [b"", b": nothing\n\n", b'{"error": {"code": 503}}', sse(b'{"candidates":[]}')]
)
def test_a_stream_without_an_answer_is_truncated(stream: bytes) -> None:
    assert told([stream])[-1] is ErrorKind.UPSTREAM_TRUNCATED


def test_a_stream_may_end_without_a_blank_line() -> None:
    stream = load("gemini", "text", "stream").body
    assert told([stream.rstrip() + b"\n"]) == told([stream])


@pytest.mark.parametrize(
    "payload", [b"{", b"[]", b"7", b'"x"', b"\xff", b'{"candidates":{}}', b'{"candidates":[{"index":"0"}]}']
)
def test_garbage(payload: bytes) -> None:
    assert told([sse(payload)]) == [ErrorKind.UPSTREAM_INVALID]
    with pytest.raises(ServerError) as whole:
        DIALECT.decode(CHAT, payload)
    assert whole.value.kind is ErrorKind.UPSTREAM_INVALID


def test_a_whole_answer_without_a_finish_reason_is_truncated() -> None:
    with pytest.raises(ServerError) as truncated:
        DIALECT.decode(CHAT, body({"text": "Hel"}, finishReason=None))
    assert truncated.value.kind is ErrorKind.UPSTREAM_TRUNCATED


@pytest.mark.parametrize("reason", FINISH)
def test_finish_reasons(reason: str) -> None:
    completion = DIALECT.decode(CHAT, body({"text": "x"}, finishReason=reason))
    assert isinstance(completion, Completion)
    assert completion.choices[0].finish is FINISH[reason]


@pytest.mark.parametrize("reason", ["OTHER", "FINISH_REASON_UNSPECIFIED", "SOMETHING_NEW"])
def test_an_unknown_finish_reason_is_a_stop(reason: str) -> None:
    completion = DIALECT.decode(CHAT, body({"text": "x"}, finishReason=reason))
    assert isinstance(completion, Completion)
    assert completion.choices[0].finish is FinishReason.STOP


@pytest.mark.parametrize("reason", sorted(FAILED))
def test_a_model_that_failed_can_be_tried_again(reason: str) -> None:
    with pytest.raises(ServerError) as failed:
        DIALECT.decode(CHAT, body(finishReason=reason, finishMessage="because"))
    assert failed.value.kind is ErrorKind.UPSTREAM_ERROR
    assert failed.value.kind.retryable
    assert (reason in failed.value.message, failed.value.detail) == (True, "because")


def test_a_length_stop_stays_one_even_after_a_tool_call() -> None:
    part = {"functionCall": {"name": "now"}}
    completion = DIALECT.decode(CHAT, body(part, finishReason="MAX_TOKENS"))
    assert isinstance(completion, Completion)
    assert completion.choices[0].finish is FinishReason.LENGTH


def test_signatures_seal_their_parts() -> None:
    completion = DIALECT.decode(
        CHAT,
        body(
            {"text": "a", "thought": True, "thoughtSignature": "S1"},
            {"text": "b", "thought": True},
            {"text": "c", "thoughtSignature": "S2"},
            {"thoughtSignature": "S3"},
            {"text": "d"},
            {"functionCall": {"id": "f1", "name": "now"}, "thoughtSignature": "S4"},
            {"inlineData": {"mimeType": "image/png", "data": "AA=="}},
        ),
    )
    assert isinstance(completion, Completion)
    *others, call = completion.choices[0].parts
    assert others == [
        Thinking(text="a", signature=seal("S1")),
        Thinking(text="b"),
        Text("c"),
        Thinking(signature=seal("S2")),
        Thinking(signature=seal("S3")),
        Text("d"),
    ]
    assert isinstance(call, ToolCall)
    assert (split_id(call.id), call.name, call.arguments) == (("f1", "S4"), "now", "{}")


def test_calls_without_an_id_get_one_of_their_own() -> None:
    part = {"functionCall": {"name": "now", "args": {}}}
    completion = DIALECT.decode(CHAT, body(part, part))
    assert isinstance(completion, Completion)
    first, second = completion.choices[0].parts
    assert isinstance(first, ToolCall)
    assert isinstance(second, ToolCall)
    assert (first.id, second.id) == ("call_r1_0_0", "call_r1_0_1")


def test_calls_without_any_id_are_named_by_their_words() -> None:
    def call_id(city: str) -> str:
        part = {"functionCall": {"name": "weather", "args": {"city": city}}}
        whole = DIALECT.decode(CHAT, body(part).replace(b'"responseId": "r1"', b'"responseId": ""'))
        assert isinstance(whole, Completion)
        (call,) = whole.choices[0].parts
        assert isinstance(call, ToolCall)
        return call.id

    assert call_id("Paris") == call_id("Paris")
    assert call_id("Paris") != call_id("Oslo")


def test_candidates_are_told_apart() -> None:
    first = {"candidates": [{"content": {"parts": [{"text": "a"}]}, "index": 0}]}
    second = {"candidates": [{"content": {"parts": [{"text": "b"}]}, "index": 1, "finishReason": "STOP"}]}
    last = {"candidates": [{"content": {"parts": [{"text": "A"}]}, "index": 0, "finishReason": "STOP"}]}
    stream = [json.dumps(step).encode() for step in (first, second, last)]
    assert [choice.text for choice in folded(sse(*stream)).choices] == ["aA", "b"]
    assert told([sse(*stream[:2])])[-1] is ErrorKind.UPSTREAM_TRUNCATED


LOGPROBS = {
    "chosenCandidates": [{"token": "Hé", "tokenId": 1, "logProbability": -0.25}, {"token": "!"}],
    "topCandidates": [
        {"candidates": [{"token": "Hé", "logProbability": -0.25}, {"token": "Ho", "logProbability": -2}]}
    ],
}


def test_log_probabilities_take_openais_form() -> None:
    whole = DIALECT.decode(CHAT, body({"text": "Hé!"}, logprobsResult=LOGPROBS))
    assert isinstance(whole, Completion)
    he = {"token": "Hé", "logprob": -0.25, "bytes": [72, 195, 169]}
    ho = {"token": "Ho", "logprob": -2.0, "bytes": [72, 111]}
    assert json.loads(bytes(whole.choices[0].logprobs)) == {
        "content": [
            he | {"top_logprobs": [he, ho]},
            {"token": "!", "logprob": 0.0, "bytes": [33], "top_logprobs": []},
        ]
    }
    assert whole.choices[0].text == "Hé!"


def test_log_probabilities_may_come_alone_at_the_end() -> None:
    stream = sse(
        body({"text": "Hé!"}, finishReason=None),
        body(finishReason="STOP", logprobsResult=LOGPROBS),
    )
    whole = folded(stream)
    assert whole == DIALECT.decode(CHAT, body({"text": "Hé!"}, logprobsResult=LOGPROBS))


def test_a_tool_result_of_the_provider_is_input() -> None:
    counts = {
        "promptTokenCount": 10,
        "toolUsePromptTokenCount": 5,
        "thoughtsTokenCount": 2,
        "candidatesTokenCount": 3,
    }
    answer = json.loads(body({"text": "x"})) | {"usageMetadata": counts}
    completion = DIALECT.decode(CHAT, json.dumps(answer).encode())
    assert isinstance(completion, Completion)
    assert completion.usage == Usage(input_tokens=15, output_tokens=5, reasoning_tokens=2)


def test_the_first_event_names_the_answer() -> None:
    first = told([load("gemini", "text", "stream").body])[0]
    assert first == Started(id="M3iLaY-AI7zTxN8P3Piw4Qg", model="gemini-3-flash-preview")


def test_embeddings() -> None:
    case = load("gemini", "embeddings")
    answer = DIALECT.decode(EmbedCall(model="gemini-embedding-001", inputs=("a", "b")), case.body)
    vectors = tuple(tuple(vector) for vector in case.answer["vectors"])
    assert answer == Embeddings(model="gemini-embedding-001", vectors=vectors)


def test_embeddings_may_tell_their_usage() -> None:
    told_body = b'{"embeddings":[{"values":[1]}],"usageMetadata":{"promptTokenCount":4}}'
    answer = DIALECT.decode(EmbedCall(model="e", inputs=("a",)), told_body)
    assert answer.usage == Usage(input_tokens=4)


@pytest.mark.parametrize("garbage", [b'{"embeddings":[]}', b'{"embeddings":[{"values":["x"]}]}', b"<html>"])
def test_embeddings_that_do_not_fit_are_invalid(garbage: bytes) -> None:
    with pytest.raises(ServerError) as invalid:
        DIALECT.decode(EmbedCall(model="e", inputs=("a",)), garbage)
    assert invalid.value.kind is ErrorKind.UPSTREAM_INVALID


def test_a_token_count() -> None:
    call = CountCall(model="gemini-2.5-flash", messages=())
    assert DIALECT.decode(call, load("gemini", "count_tokens").body) == TokenCount(input_tokens=31)
    with pytest.raises(ServerError):
        DIALECT.decode(call, b"{}")


def test_models() -> None:
    case = load("gemini", "models")
    models = DIALECT.decode_models(case.body)
    assert [f"models/{model.id}" for model in models] == case.answer["models"]
    assert (models[0].context_tokens, models[0].max_output_tokens) == (1048576, 65536)
    assert models[0].display_name == "Gemini 3 Flash Preview"


def test_models_that_only_draw_are_not_listed() -> None:
    drawing = {"name": "models/imagen-4", "supportedGenerationMethods": ["predict"]}
    listed = json.dumps({"models": [drawing, {"name": "models/new"}]}).encode()
    assert [model.id for model in DIALECT.decode_models(listed)] == ["new"]
    with pytest.raises(ServerError):
        DIALECT.decode_models(b"[]")
