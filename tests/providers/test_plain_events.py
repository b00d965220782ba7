"""The short way for text events says what the long way says: any stream, any order, either dialect."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from msgspec import json

from llm_server.contract import Chunk, ServerError
from llm_server.providers.dialects.anthropic.stream import AnthropicStream
from llm_server.providers.dialects.openai.stream import OpenAIStream

TEXTS = st.sampled_from(["", "a", " é", '"', "\n"])
NULLS = st.fixed_dictionaries({}, optional={"logprobs": st.just(None), "finish_reason": st.just(None)})

DELTAS = st.one_of(
    TEXTS.map(lambda text: {"content": text}),
    TEXTS.map(lambda text: {"content": text, "role": "assistant", "refusal": None}),
    TEXTS.map(lambda text: {"content": text, "reasoning_content": "hm"}),
    TEXTS.map(lambda text: {"content": text, "refusal": "no"}),
    st.just({"content": None, "tool_calls": [{"id": "c", "function": {"name": "f", "arguments": "{}"}}]}),
    st.just({"content": "a", "tool_calls": [{"index": 0, "function": {"arguments": "1"}}]}),
    st.just({"content": [{"type": "text", "text": "a"}]}),
    st.just({}),
)
CHOICES = st.builds(
    lambda delta, index, nulls, more: {"index": index, "delta": delta, **nulls, **more},
    DELTAS,
    st.integers(0, 1),
    NULLS,
    st.sampled_from([{}, {}, {"finish_reason": "stop"}, {"logprobs": {"content": []}}, {"odd": 1}]),
)
OPENAI_EVENTS = st.builds(
    lambda choices, more: {"id": "i", "model": "m", "created": 1, "choices": choices, **more},
    st.lists(CHOICES, min_size=1, max_size=2),
    st.sampled_from(
        [
            {},
            {"object": "chat.completion.chunk"},
            {"object": "other"},
            {"usage": None},
            {"usage": {"prompt_tokens": 1}},
            {"error": {"message": "no"}},
            {"x_groq": {"usage": {"completion_tokens": 2}}},
            {"more": [1]},
        ]
    ),
)

ANTHROPIC_EVENTS = st.one_of(
    st.builds(
        lambda kind, name, text, index: {
            "type": "content_block_delta",
            "index": index,
            "delta": {"type": kind, name: text},
        },
        st.sampled_from(["text_delta", "thinking_delta", "input_json_delta", "signature_delta", "odd"]),
        st.sampled_from(["text", "thinking", "partial_json"]),
        TEXTS,
        st.integers(0, 2),
    ),
    st.just({"type": "content_block_start", "index": 1, "content_block": {"type": "tool_use", "id": "t"}}),
    st.just({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 3}}),
    st.just({"type": "ping"}),
    st.just({"type": "message_stop"}),
    st.just({"type": "error", "error": {"type": "overloaded_error"}}),
)


class LongOpenAI(OpenAIStream):
    def _plain(self, event: Any) -> None:
        return None


class LongAnthropic(AnthropicStream):
    def _plain(self, frame: Any) -> None:
        return None


def told(decoder: Any, pieces: list[bytes]) -> list[Chunk | str]:
    seen: list[Chunk | str] = []
    try:
        for piece in pieces:
            seen += decoder.feed(piece)
        seen += decoder.end()
    except ServerError as error:
        seen.append(f"{error.kind}: {error.detail}")
    return seen


@given(st.lists(OPENAI_EVENTS, max_size=8), st.booleans(), st.booleans())
def test_openai(events: list[Any], framed: bool, joined: bool) -> None:
    pieces = [b"data: %b\n\n" % json.encode(event) for event in events]
    pieces = [b"".join(pieces)] if joined else pieces
    assert told(OpenAIStream(framed=framed), pieces) == told(LongOpenAI(framed=framed), pieces)


@given(st.lists(ANTHROPIC_EVENTS, max_size=8), st.booleans(), st.booleans())
def test_anthropic(events: list[Any], framed: bool, joined: bool) -> None:
    pieces = [b"event: %b\ndata: %b\n\n" % (event["type"].encode(), json.encode(event)) for event in events]
    pieces = [b"".join(pieces)] if joined else pieces
    assert told(AnthropicStream(framed=framed), pieces) == told(LongAnthropic(framed=framed), pieces)


def test_a_text_event_takes_the_short_way() -> None:
    decoder = OpenAIStream(framed=True)
    event = b'data: {"choices":[{"index":0,"delta":{"content":"a"}}]}\n\n'
    assert not isinstance(decoder.feed(event), tuple)
    list(decoder.feed(event))
    list(decoder.feed(event))
    assert isinstance(decoder.feed(event), tuple)
