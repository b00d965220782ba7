"""Whole answers of OpenAI's dialect as values."""

import sys
from array import array
from base64 import b64decode
from collections.abc import Iterable
from datetime import datetime
from typing import Any, TypeVar

from msgspec import DecodeError, Raw, ValidationError, json

from llm_server.contract import (
    Call,
    Choice,
    Completion,
    EmbedCall,
    Embeddings,
    ErrorKind,
    FinishReason,
    ModelInfo,
    Refusal,
    ServerError,
    Text,
    Thinking,
    ToolCall,
    Usage,
)
from llm_server.providers.dialects import unmodelled
from llm_server.providers.dialects.failures import garbage
from llm_server.providers.dialects.openai import shapes
from llm_server.providers.dialects.openai.errors import in_band

FINISH: dict[str, FinishReason] = {
    "content_filter": FinishReason.CONTENT_FILTER,
    "function_call": FinishReason.TOOL_CALLS,
    "length": FinishReason.LENGTH,
    "max_tokens": FinishReason.LENGTH,
    "model_length": FinishReason.LENGTH,
    "tool_calls": FinishReason.TOOL_CALLS,
}
"""Why a choice ended; any other word means that the model was done."""

FAILED: dict[str, ErrorKind] = {
    "error": ErrorKind.UPSTREAM_ERROR,
    # DeepSeek (https://api-docs.deepseek.com/api/create-chat-completion).
    "insufficient_system_resource": ErrorKind.UPSTREAM_OVERLOADED,
}
"""Words for an end that is none."""

# What an answer is made of besides the fields that are used: known, and left to whoever speaks the dialect.
_KNOWN = frozenset(
    {"id", "object", "created", "model", "choices", "usage", "data", "system_fingerprint", "service_tier"}
    | {"error", "x_groq"}
)

_NONE = Raw(b"")
_FIELDS = json.Decoder(dict[str, Raw])
ANSWER = json.Decoder(shapes.Answer)
"""Reads whole answers and chunks."""
_KNOWN_ANSWER = json.Decoder(shapes.KnownAnswer)
_EMBEDDINGS = json.Decoder(shapes.EmbeddingsAnswer)
_MODELS = json.Decoder(shapes.Models)
_MODEL_ARRAY = json.Decoder(list[shapes.Model])
_TAGS = json.Decoder(shapes.Tags)

_NO_USAGE = Usage()
_NO_DETAILS = shapes.InputDetails()

T = TypeVar("T")


def read(body: bytes, decoder: json.Decoder[T]) -> T:
    """Return what ``decoder`` reads in ``body``; ``UPSTREAM_INVALID`` for garbage."""
    try:
        return decoder.decode(body)
    except (DecodeError, ValidationError, UnicodeDecodeError, RecursionError) as error:
        raise garbage(str(error)) from None


def decode(call: Call, body: bytes) -> Completion | Embeddings:
    """Return the whole answer in ``body``.

    Raises:
        ServerError: ``UPSTREAM_INVALID`` for garbage; the error's kind when the body is an error.
    """
    return _embeddings(call, body) if isinstance(call, EmbedCall) else _completion(call, body)


def glance(body: bytes) -> Completion:
    """Return what is to be known of the whole answer in ``body`` to pass it on; raises as :func:`decode`."""
    answer = _answer(body)
    for choice in answer.choices or ():
        if choice.finish_reason in FAILED:
            finish(choice.finish_reason or "", called=False)
    return Completion(usage=usage(answer.usage) if answer.usage else _NO_USAGE, raw=body)


def _completion(call: Call, body: bytes) -> Completion:
    answer = _answer(body)
    return Completion(
        id=answer.id or "",
        model=answer.model or "",
        created=int(answer.created or 0),
        choices=tuple(_choice(choice, at) for at, choice in enumerate(answer.choices or ())),
        usage=usage(answer.usage) if answer.usage else Usage(),
        raw=body if call.dialect == "openai" else b"",
    )


def _answer(body: bytes) -> shapes.Answer:
    try:
        answer: shapes.Answer = _KNOWN_ANSWER.decode(body)
    except (DecodeError, UnicodeDecodeError, RecursionError):  # has fields that are not known, or is garbage
        _note_unknown(body)
        answer = read(body, ANSWER)
    refuse_error(answer, body)
    if not answer.choices:
        raise garbage("no choices")
    return answer


def _note_unknown(body: bytes) -> None:
    if unknown := read(body, _FIELDS).keys() - _KNOWN:
        unmodelled.note("openai", unknown)


def refuse_error(answer: shapes.Answer, body: bytes) -> None:
    """Raise what an error in an answer's place means: under ``error``, Groq's, or all of it (Mistral)."""
    error = answer.error or (answer.x_groq and answer.x_groq.error)
    if error is None and answer.object == "error":
        error = json.decode(body)
    if error is not None:
        raise in_band(error)


def _choice(choice: shapes.Choice, at: int) -> Choice:
    message = choice.message or shapes.Message(content=choice.text)
    parts = (*_thoughts(message), *_said(message), *map(_call, message.tool_calls or ()))
    return Choice(
        index=at if choice.index is None else choice.index,
        parts=parts,
        finish=finish(choice.finish_reason or "stop", called=bool(message.tool_calls)),
        logprobs=_in_one_form(logprobs(choice)),
    )


def _thoughts(message: shapes.Message) -> tuple[Thinking, ...]:
    text = reasoning(message)
    return (Thinking(text=text),) if text else ()


def _said(message: shapes.Message) -> Iterable[Text | Thinking | Refusal]:
    if type(message.content) is str and not message.refusal:
        return (Text(message.content),) if message.content else ()
    return _said_in_pieces(message)


def _said_in_pieces(message: shapes.Message) -> Iterable[Text | Thinking | Refusal]:
    for is_thought, text in pieces(message.content):
        yield Thinking(text=text) if is_thought else Text(text)
    if message.refusal:
        yield Refusal(message.refusal)


def _call(call: shapes.ToolCall) -> ToolCall:
    function = call.function or shapes.Function()
    return ToolCall(call.id or "", function.name or "", arguments(function) or "{}")


def reasoning(message: shapes.Message) -> str:
    """Return the shown reasoning, under whichever name."""
    return message.reasoning_content or (message.reasoning if isinstance(message.reasoning, str) else "")


def pieces(content: str | list[dict[str, Any]] | None) -> Iterable[tuple[bool, str]]:
    """Yield the text of a content, each with whether it is thinking (Mistral's typed lists)."""
    if isinstance(content, str):
        content = [{"type": "text", "text": content}]
    for part in content or ():
        inner = part.get("thinking")
        if isinstance(inner, list):
            yield from ((True, text) for _, text in pieces([one for one in inner if isinstance(one, dict)]))
        elif isinstance(text := part.get("text"), str):
            if text:
                yield False, text
        elif part.get("type") not in {"text", "thinking"}:
            unmodelled.note("openai.content", [str(part.get("type"))])


def arguments(function: shapes.Function) -> str:
    """Return a call's arguments as JSON text."""
    given = function.arguments
    return given if isinstance(given, str) else "" if given is None else json.encode(given).decode()


def logprobs(choice: shapes.Choice) -> Raw:
    """Return the log probabilities, empty for none."""
    raw = choice.logprobs
    return _NONE if not memoryview(raw) or bytes(raw) == b"null" else raw.copy()


def _in_one_form(probable: Raw) -> Raw:
    """Return ``probable`` written as folding a stream writes it."""
    return Raw(json.encode(json.decode(probable))) if memoryview(probable) else probable


def finish(reason: str, *, called: bool) -> FinishReason:
    """Return why a choice ended; a forced tool call ends with ``stop`` at some servers.

    Raises:
        ServerError: the reason is that the upstream failed.
    """
    if reason in FAILED:
        raise ServerError(
            FAILED[reason], "The provider failed while it answered.", detail=f"finish: {reason}"
        )
    found = FINISH.get(reason, FinishReason.STOP)
    return FinishReason.TOOL_CALLS if called and found is FinishReason.STOP else found


def usage(told: shapes.Usage) -> Usage:
    """Return the tokens used."""
    inputs, outputs = told.prompt_tokens or 0, told.completion_tokens or 0
    before = told.prompt_tokens_details or _NO_DETAILS
    thought = told.completion_tokens_details.reasoning_tokens or 0 if told.completion_tokens_details else 0
    if thought and told.total_tokens == inputs + outputs + thought:
        outputs += thought  # xAI counts reasoning beside the output, OpenAI inside
    return Usage(
        input_tokens=inputs,
        output_tokens=outputs,
        cached_tokens=before.cached_tokens or told.prompt_cache_hit_tokens or 0,
        cache_write_tokens=before.cache_write_tokens or 0,
        reasoning_tokens=thought,
    )


def _embeddings(call: EmbedCall, body: bytes) -> Embeddings:
    _note_unknown(body)
    answer = read(body, _EMBEDDINGS)
    if answer.error is not None:
        raise in_band(answer.error)
    if answer.data is None or len(answer.data) != len(call.inputs):
        raise garbage(f"{len(answer.data or ())} embeddings for {len(call.inputs)} inputs")
    in_order = sorted(
        enumerate(answer.data), key=lambda pair: pair[0] if pair[1].index is None else pair[1].index
    )
    as_asked = all(isinstance(vector.embedding, str) == call.base64 for vector in answer.data)
    return Embeddings(
        model=answer.model or "",
        vectors=tuple(_vector(vector.embedding) for _, vector in in_order),
        usage=usage(answer.usage) if answer.usage else Usage(),
        raw=body if as_asked and call.dialect == "openai" else b"",
    )


def _vector(embedding: str | tuple[float, ...]) -> tuple[float, ...]:
    if not isinstance(embedding, str):
        return embedding
    numbers = array("f")
    try:
        numbers.frombytes(b64decode(embedding, validate=True))
    except ValueError:
        raise garbage("an embedding that is not base64 of float32") from None
    if sys.byteorder == "big":
        numbers.byteswap()
    return tuple(numbers)


def decode_models(body: bytes) -> tuple[ModelInfo, ...]:
    """Return the models of a list in OpenAI's form, a bare array of it (Together) or Ollama's own."""
    if body.lstrip()[:1] == b"[":
        listed: list[shapes.Model] | None = read(body, _MODEL_ARRAY)
    else:
        listed = read(body, _MODELS).data
    if listed is None:
        return tuple(
            ModelInfo(id=tag.name, provider="", created=_unix(tag)) for tag in read(body, _TAGS).models
        )
    return tuple(
        ModelInfo(
            id=model.id,
            provider="",
            created=int(model.created or 0),
            display_name=model.name or "",
            context_tokens=model.context_length or model.context_window or model.max_model_len,
        )
        for model in listed
    )


def _unix(tag: shapes.Tag) -> int:
    try:
        return int(datetime.fromisoformat(tag.modified_at or "").timestamp())
    except ValueError:
        return 0
