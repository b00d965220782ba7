"""What is sent and what the mock upstreams answer, in the shapes that the two APIs document."""

import json
from collections.abc import Mapping
from typing import Any

OPENAI_MODEL = "gpt-4o-mini"
ANTHROPIC_MODEL = "claude-sonnet-4-5"
CHAT = "/v1/chat/completions"
MESSAGES = "/v1/messages"
KEY = "Bearer sk-caller-0123456789abcdef"
"""What the caller presents; the server sends the provider's own key on."""

SYSTEM = (
    "You are a helpful assistant that answers questions about the weather and about everything else that "
    "people want to know from a machine."
)
USER = (
    "What will the weather be like in Paris tomorrow, and should I take an umbrella with me when I go out in "
    "the afternoon?"
)
FILLER = "The quick brown fox jumps over the lazy dog near the river bank at half past seven in the morning. "
TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Look up the weather of a place on a day.",
        "parameters": {
            "type": "object",
            "properties": {
                "city": {"type": "string", "description": "Name of the city."},
                "day": {"type": "string", "format": "date"},
                "unit": {"type": "string", "enum": ["celsius", "fahrenheit"]},
            },
            "required": ["city", "day"],
        },
    },
}


def encode(value: object) -> bytes:
    """Return compact JSON."""
    return json.dumps(value, separators=(",", ":")).encode()


def question(model: str, *, kb: float = 0.5, **more: Any) -> bytes:
    """Return a chat request of about ``kb`` kilobytes (10**3 bytes), in OpenAI's form."""
    value: dict[str, Any] = {
        "model": model,
        "messages": [{"role": "system", "content": SYSTEM}, {"role": "user", "content": USER}],
        "temperature": 0.7,
        "max_tokens": 256,
        "user": "user-1234567890",
        **more,
    }
    lacking = int(kb * 1000) - len(encode(value))
    turns = [
        {"role": ("user", "assistant")[place % 2], "content": (FILLER * 20)[:2000]}
        for place in range(lacking // 2100)
    ]
    system, last = value["messages"]
    value["messages"] = [system, *turns, last]
    lacking = int(kb * 1000) - len(encode(value))
    last["content"] += (FILLER * (lacking // len(FILLER) + 1))[: max(0, lacking)]
    return encode(value)


OPENAI_ANSWER = encode(
    {
        "id": "chatcmpl-abc123456789",
        "object": "chat.completion",
        "created": 1790000000,
        "model": "gpt-4o-mini-2024-07-18",
        "choices": [
            {
                "index": 0,
                "message": {
                    "role": "assistant",
                    "content": "Hello! How can I help you today? I am a mock model and I answer with a "
                    "sentence of ordinary length, as a test would expect of me.",
                    "refusal": None,
                    "annotations": [],
                },
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": {
            "prompt_tokens": 19,
            "completion_tokens": 28,
            "total_tokens": 47,
            "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
        },
        "service_tier": "default",
        "system_fingerprint": "fp_44709d6fcb",
    }
)
ANTHROPIC_ANSWER = encode(
    {
        "id": "msg_01XFDUDYJgAACzvnptvVoYEL",
        "type": "message",
        "role": "assistant",
        "model": ANTHROPIC_MODEL,
        "content": [
            {"type": "text", "text": "I will look up the weather in Paris for you before I answer."},
            {
                "type": "tool_use",
                "id": "toolu_01A09q90qw90lq917835lq9",
                "name": "get_weather",
                "input": {"city": "Paris", "day": "2026-12-01", "unit": "celsius"},
            },
        ],
        "stop_reason": "tool_use",
        "stop_sequence": None,
        "usage": {
            "input_tokens": 412,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 0,
            "output_tokens": 71,
        },
    }
)


def openai_frames(count: int) -> list[bytes]:
    """Return the ``count`` frames with text, the finish and the end mark of a streamed answer."""
    return [
        *(_chunk({"content": f" word{place}"} if place else {"role": "assistant", "content": "A"}, None)
          for place in range(count)),
        _chunk({}, "stop"),
        b"data: [DONE]\n\n",
    ]  # fmt: skip


def _chunk(delta: Mapping[str, str], finish: str | None) -> bytes:
    value = {
        "id": "chatcmpl-abc123456789",
        "object": "chat.completion.chunk",
        "created": 1790000000,
        "model": "gpt-4o-mini-2024-07-18",
        "service_tier": "default",
        "system_fingerprint": "fp_44709d6fcb",
        "choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}],
    }
    return b"data: %b\n\n" % encode(value)


def anthropic_frames(count: int) -> list[bytes]:
    """Return the events around and of ``count`` text deltas; the first holds the events before any text."""
    message = {
        **json.loads(ANTHROPIC_ANSWER),
        "content": [],
        "stop_reason": None,
        "usage": {"input_tokens": 25, "output_tokens": 1},
    }
    opening = _event("message_start", message=message) + _event(
        "content_block_start", index=0, content_block={"type": "text", "text": ""}
    )
    deltas = [
        _event("content_block_delta", index=0, delta={"type": "text_delta", "text": f" word{place}"})
        for place in range(count)
    ]
    closing = (
        _event("content_block_stop", index=0)
        + _event(
            "message_delta",
            delta={"stop_reason": "end_turn", "stop_sequence": None},
            usage={"output_tokens": count},
        )
        + _event("message_stop")
    )
    return [opening + deltas[0], *deltas[1:], closing]


def _event(kind: str, **fields: Any) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (kind.encode(), encode({"type": kind, **fields}))
