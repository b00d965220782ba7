"""What seven vendors send on the wire for an answer, whole and streamed: the bodies of scripted upstreams."""

import json
from collections.abc import Iterable
from typing import Any

from llm_server.contract import (
    ChatCall,
    Choice,
    Completion,
    FinishReason,
    Refusal,
    Text,
    ToolCall,
    Usage,
    unfold,
)
from llm_server.wire import ANTHROPIC_MESSAGES, OPENAI_CHAT, Codec
from tests.upstreams.script import Head, Script
from tests.upstreams.server import wants_stream
from tests.upstreams.upstream import Request

MODELS = {
    "openai": "gpt-5-mini",
    "anthropic": "claude-sonnet-4-6",
    "gemini": "gemini-3-flash-preview",
    "mistral": "mistral-large-latest",
    "groq": "llama-3.3-70b-versatile",
    "cohere": "command-a-03-2025",
    "ollama": "qwen3:8b",
}
REFUSAL = "I cannot help with that."


def script(vendor: str, request: Request, text: str, *, call: str = "") -> Script:
    """Return the script with which ``vendor`` says ``text`` as ``request`` wants it, or refuses to.

    ``call``: the tool that is called with it, where not just one is forced.
    """
    stream = wants_stream(request)
    asked = request.json()
    call = call or _forced(asked)
    say = {"gemini": _gemini, "cohere": _cohere, "anthropic": _anthropic}.get(vendor, _openai)
    body = say(call, text, stream=stream)
    kind = "text/event-stream" if stream else "application/json"
    return Script((Head(200, {"content-type": kind}, None if stream else len(body)), body))


def _openai(call: str, text: str, *, stream: bool) -> bytes:
    refused = Choice(parts=(Refusal(text),))
    return _encoded(OPENAI_CHAT, refused if text == REFUSAL else _said(call, text), stream=stream)


def _anthropic(call: str, text: str, *, stream: bool) -> bytes:
    refused = Choice(parts=(Text(text),), finish=FinishReason.REFUSAL)
    return _encoded(ANTHROPIC_MESSAGES, refused if text == REFUSAL else _said(call, text), stream=stream)


def _said(call: str, text: str) -> Choice:
    if call:
        return Choice(parts=(ToolCall("call_1", call, text),), finish=FinishReason.TOOL_CALLS)
    return Choice(parts=(Text(text),))


def _encoded(codec: Codec, choice: Choice, *, stream: bool) -> bytes:
    usage = Usage(input_tokens=10, output_tokens=5)
    whole = Completion(id="a1", model="m", created=1, choices=(choice,), usage=usage)
    call = ChatCall(model="m", messages=(), include_usage=True)
    if not stream:
        return codec.whole(call, whole)
    encoder = codec.encoder(call)
    return b"".join([encoder.encode(chunk) for chunk in unfold(whole)]) + encoder.end()


def _forced(asked: dict[str, Any]) -> str:
    """Return the tool that a request of any vendor forces, if it is just one."""
    choice = asked.get("tool_choice")
    if isinstance(choice, dict):
        return str(choice.get("name") or choice.get("function", {}).get("name") or "")
    if choice == "REQUIRED" and len(asked["tools"]) == 1:
        return str(asked["tools"][0]["function"]["name"])
    config = asked.get("toolConfig", {}).get("functionCallingConfig", {})
    (name,) = config.get("allowedFunctionNames") or [""]
    return str(name)


def _gemini(call: str, text: str, *, stream: bool) -> bytes:
    part: dict[str, Any] = {"text": text}
    reason = "STOP"
    if text == REFUSAL:
        reason = "SAFETY"
    elif call:
        part = {"functionCall": {"name": call, "args": _object(text)}}
    candidate = {"content": {"parts": [part], "role": "model"}, "finishReason": reason, "index": 0}
    usage = {"promptTokenCount": 10, "candidatesTokenCount": 5, "totalTokenCount": 15}
    body = json.dumps({"candidates": [candidate], "usageMetadata": usage, "responseId": "r"}).encode()
    return b"data: %b\r\n\r\n" % body if stream else body


def _object(text: str) -> Any:
    try:
        value = json.loads(text)
    except ValueError:
        return {"text": text}
    return value if isinstance(value, dict) else {"value": value}


def _cohere(call: str, text: str, *, stream: bool) -> bytes:
    reason = "ERROR_TOXIC" if text == REFUSAL else "TOOL_CALL" if call else "COMPLETE"
    usage = {"tokens": {"input_tokens": 10, "output_tokens": 5}}
    message: dict[str, Any] = {"role": "assistant", "content": [{"type": "text", "text": text}]}
    if call and text != REFUSAL:
        function = {"name": call, "arguments": text}
        message = {
            "role": "assistant",
            "tool_calls": [{"id": "c1", "type": "function", "function": function}],
        }
    if not stream:
        return json.dumps({"id": "a1", "message": message, "finish_reason": reason, "usage": usage}).encode()
    return b"".join(_frame(event) for event in _cohere_events(message, reason, usage)) + b"data: [DONE]\n\n"


def _cohere_events(message: dict[str, Any], reason: str, usage: dict[str, Any]) -> Iterable[dict[str, Any]]:
    yield {"id": "a1", "type": "message-start", "delta": {"message": {"role": "assistant", "content": []}}}
    for call in message.get("tool_calls", ()):
        yield {"type": "tool-call-start", "index": 0, "delta": {"message": {"tool_calls": call}}}
        yield {"type": "tool-call-end", "index": 0}
    for part in message.get("content", ()):
        yield {
            "type": "content-start",
            "index": 0,
            "delta": {"message": {"content": {"type": "text", "text": ""}}},
        }
        yield {"type": "content-delta", "index": 0, "delta": {"message": {"content": {"text": part["text"]}}}}
        yield {"type": "content-end", "index": 0}
    yield {"type": "message-end", "delta": {"finish_reason": reason, "usage": usage}}


def _frame(event: dict[str, Any]) -> bytes:
    return f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode()
