"""Cohere's whole answers, and what whole and streamed answers share: finish reasons and usage."""

from typing import TypeVar

from msgspec import DecodeError, Raw, json

from llm_server.contract import (
    Call,
    Choice,
    Completion,
    EmbedCall,
    Embeddings,
    ErrorKind,
    FinishReason,
    ModelInfo,
    ServerError,
    Text,
    Thinking,
    TokenCount,
    ToolCall,
    Usage,
)
from llm_server.providers.dialects import unmodelled
from llm_server.providers.dialects.cohere.shapes import (
    Answer,
    Content,
    Counts,
    Embedded,
    Message,
    Models,
    Tokens,
)
from llm_server.providers.dialects.cohere.shapes import Call as WireCall
from llm_server.providers.dialects.failures import garbage

FINISH: dict[str, FinishReason] = {
    "COMPLETE": FinishReason.STOP,
    "STOP_SEQUENCE": FinishReason.STOP,
    "MAX_TOKENS": FinishReason.LENGTH,
    "TOOL_CALL": FinishReason.TOOL_CALLS,
}
"""``finish_reason`` as callers see it; one named neither here nor in FAILED counts as a stop."""

FAILED: dict[str, ErrorKind] = {"ERROR": ErrorKind.UPSTREAM_ERROR, "TIMEOUT": ErrorKind.UPSTREAM_TIMEOUT}
"""Reasons that say the model failed: what came before them is no whole answer."""


_KNOWN = frozenset(
    {"id", "message", "finish_reason", "usage", "embeddings", "texts", "meta", "response_type"}
)

T = TypeVar("T")


def read(body: bytes | Raw, kind: type[T]) -> T:
    """Return ``body`` as ``kind``; ``UPSTREAM_INVALID`` for garbage."""
    try:
        return json.decode(body, type=kind)
    except (DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise garbage(str(error)) from None


def finish(reason: str, said: str = "") -> FinishReason:
    """Return why the model stopped.

    Raises:
        ServerError: ``UPSTREAM_ERROR`` or ``UPSTREAM_TIMEOUT`` when it did not stop but failed; ``said`` is
            Cohere's explanation.
    """
    if reason in FAILED:
        raise ServerError(FAILED[reason], f"The model gave no whole answer ({reason}).", detail=said)
    return FINISH.get(reason, FinishReason.STOP)


def usage(counts: Counts | None) -> Usage:
    """Return the tokens that the model read and wrote.

    Not ``billed_units``: these leave out what Cohere adds to the prompt, and cached tokens too (500 read,
    448 of them cached, 5 billed), so cached tokens would outnumber the input that is to include them.
    """
    if counts is None:
        return Usage()
    tokens = counts.tokens or counts.billed_units or Tokens()
    return Usage(
        input_tokens=int(tokens.input_tokens or 0),
        output_tokens=int(tokens.output_tokens or 0),
        cached_tokens=int(counts.cached_tokens or 0),
    )


def decode(call: Call, body: bytes) -> Completion | Embeddings | TokenCount:
    """Return the whole answer to ``call``.

    Raises:
        ServerError: ``UPSTREAM_INVALID`` for garbage, and what :func:`finish` raises.
    """
    unmodelled.note("cohere", read(body, dict[str, Raw]).keys() - _KNOWN)
    if isinstance(call, EmbedCall):
        return _embeddings(call, read(body, Embedded))
    answer = read(body, Answer)
    choice = Choice(parts=_parts(answer.message), finish=finish(answer.finish_reason))
    return Completion(id=answer.id, model=call.model, choices=(choice,), usage=usage(answer.usage))


def _parts(message: Message) -> tuple[Text | Thinking | ToolCall, ...]:
    """Return the parts of a message; its tool plan ("I will look it up") is what others say as text."""
    parts: list[Text | Thinking | ToolCall] = [_block(block) for block in message.content or ()]
    if message.tool_plan:
        parts.append(Text(message.tool_plan))
    parts += [_call(call) for call in message.tool_calls or ()]
    return tuple(part for part in parts if isinstance(part, ToolCall) or part.text)


def _block(block: Content) -> Text | Thinking:
    return Thinking(text=block.thinking) if block.thinking else Text(block.text or "")


def _call(call: WireCall) -> ToolCall:
    return ToolCall(call.id or "", call.function.name or "", call.function.arguments or "{}")


def _embeddings(call: EmbedCall, answer: Embedded) -> Embeddings:
    vectors = answer.embeddings.floats
    if len(vectors) != len(call.inputs):
        raise garbage(f"{len(vectors)} embeddings for {len(call.inputs)} inputs")
    counts = Counts(billed_units=answer.meta.billed_units) if answer.meta else None
    return Embeddings(model=call.model, vectors=tuple(vectors), usage=usage(counts))


def decode_models(body: bytes) -> tuple[ModelInfo, ...]:
    """Return the models that chat or embed, without deprecated ones."""
    models = read(body, Models).models
    return tuple(
        ModelInfo(id=model.name, provider="", context_tokens=int(model.context_length or 0) or None)
        for model in models
        if not model.is_deprecated and (model.endpoints is None or {"chat", "embed"} & set(model.endpoints))
    )
