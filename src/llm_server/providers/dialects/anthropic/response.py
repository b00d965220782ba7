"""Whole answers of Anthropic's dialect as values."""

from collections.abc import Iterable
from datetime import datetime
from typing import TypeVar

from msgspec import DecodeError, Raw, ValidationError, json

from llm_server.contract import (
    Call,
    Choice,
    Completion,
    CountCall,
    FinishReason,
    ModelInfo,
    Text,
    Thinking,
    TokenCount,
    ToolCall,
    Usage,
)
from llm_server.providers.dialects import unmodelled
from llm_server.providers.dialects.anthropic import shapes
from llm_server.providers.dialects.anthropic.errors import in_band
from llm_server.providers.dialects.failures import garbage

FINISH: dict[str, FinishReason] = {
    "end_turn": FinishReason.STOP,
    "max_tokens": FinishReason.LENGTH,
    "model_context_window_exceeded": FinishReason.LENGTH,
    "pause_turn": FinishReason.PAUSE,
    "refusal": FinishReason.REFUSAL,
    "stop_sequence": FinishReason.STOP,
    "tool_use": FinishReason.TOOL_CALLS,
}
"""Why the model stopped; any other word means that it was done."""

_KNOWN = frozenset(
    {"id", "type", "role", "model", "content", "stop_reason", "stop_sequence", "stop_details", "usage"}
    | {"input_tokens", "error", "request_id"}
)

_FIELDS = json.Decoder(dict[str, Raw])
_MESSAGE = json.Decoder(shapes.Message)
_COUNTED = json.Decoder(shapes.Counted)
_MODELS = json.Decoder(shapes.Models)

T = TypeVar("T")


def read(body: bytes, decoder: json.Decoder[T]) -> T:
    """Return what ``decoder`` reads in ``body``; ``UPSTREAM_INVALID`` for garbage."""
    try:
        return decoder.decode(body)
    except (DecodeError, ValidationError, UnicodeDecodeError, RecursionError) as error:
        raise garbage(str(error)) from None


def decode(call: Call, body: bytes) -> Completion | TokenCount:
    """Return the whole answer in ``body``.

    Raises:
        ServerError: ``UPSTREAM_INVALID`` for garbage; the error's kind when the body is an error.
    """
    fields = read(body, _FIELDS)
    if "error" in fields:
        raise in_band(json.decode(body))
    unmodelled.note("anthropic", fields.keys() - _KNOWN)
    if isinstance(call, CountCall):
        return TokenCount(input_tokens=read(body, _COUNTED).input_tokens)
    answer = read(body, _MESSAGE)
    if answer.content is None or answer.stop_reason is None:
        raise garbage("a message without content or stop_reason")
    choice = Choice(
        parts=tuple(part for block in answer.content for part in _parts(block)),
        finish=FINISH.get(answer.stop_reason, FinishReason.STOP),
        stop_sequence=answer.stop_sequence or "",
    )
    return Completion(
        id=answer.id,
        model=answer.model,
        choices=(choice,),
        usage=usage(answer.usage or shapes.Usage()),
        raw=body if call.dialect == "anthropic" else b"",
    )


def _parts(block: shapes.Block) -> Iterable[Text | Thinking | ToolCall]:
    match block.type:
        case "text":
            if block.text:
                yield Text(block.text)
        case "thinking":
            if block.thinking or block.signature:
                yield Thinking(text=block.thinking or "", signature=block.signature or "")
        case "redacted_thinking":
            yield Thinking(signature=block.data or "", redacted=True)
        case "tool_use":
            yield ToolCall(block.id or "", block.name or "", arguments(block.input))
        case other:
            unmodelled.note("anthropic.content", [other])


def arguments(given: Raw) -> str:
    """Return a call's input as JSON text, on one line."""
    text = bytes(given)
    return json.format(text, indent=0).decode() if text and text != b"null" else "{}"


def usage(told: shapes.Usage, before: Usage | None = None) -> Usage:
    """Return the tokens used; a count that is not told again stays as it was ``before``."""
    before = before or Usage()
    cached = before.cached_tokens if told.cache_read_input_tokens is None else told.cache_read_input_tokens
    written = told.cache_creation_input_tokens
    written = before.cache_write_tokens if written is None else written
    fresh = before.input_tokens - before.cached_tokens - before.cache_write_tokens
    fresh = fresh if told.input_tokens is None else told.input_tokens
    thought = told.output_tokens_details.thinking_tokens if told.output_tokens_details else None
    return Usage(
        input_tokens=fresh + cached + written,
        output_tokens=before.output_tokens if told.output_tokens is None else told.output_tokens,
        cached_tokens=cached,
        cache_write_tokens=written,
        reasoning_tokens=before.reasoning_tokens if thought is None else thought,
    )


def decode_models(body: bytes) -> tuple[ModelInfo, ...]:
    """Return the models of a list answer."""
    return tuple(
        ModelInfo(
            id=model.id,
            provider="",
            created=_unix(model.created_at or ""),
            display_name=model.display_name or "",
            context_tokens=model.max_input_tokens,
            max_output_tokens=model.max_tokens,
        )
        for model in read(body, _MODELS).data
    )


def _unix(date: str) -> int:
    try:
        return int(datetime.fromisoformat(date).timestamp())
    except ValueError:
        return 0
