"""Gemini's answers as values; what a generated one says is told in ``narration.py``."""

from typing import TypeVar

from msgspec import DecodeError, convert, json

from llm_server.contract import (
    Call,
    Chunk,
    Completion,
    CountCall,
    EmbedCall,
    Embeddings,
    ModelInfo,
    TokenCount,
    Usage,
    fold,
)
from llm_server.providers.dialects import unmodelled
from llm_server.providers.dialects.failures import garbage
from llm_server.providers.dialects.gemini.errors import in_band
from llm_server.providers.dialects.gemini.narration import Narrator, usage
from llm_server.providers.dialects.gemini.shapes import Answer, Counted, Embedded, Models

_KNOWN = frozenset({"candidates", "promptFeedback", "usageMetadata", "modelVersion", "responseId"})

T = TypeVar("T")


def read(data: bytes) -> Answer:
    """Return a whole answer or a step of one.

    Raises:
        ServerError: the kind of the error that came instead; ``UPSTREAM_INVALID`` for garbage.
    """
    try:
        payload = json.decode(data)
        refused = in_band(payload)
        if refused is None:
            answer = convert(payload, Answer)
            unmodelled.note("gemini", payload.keys() - _KNOWN)
            return answer
    except (DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise garbage(str(error)) from None
    raise refused


def _typed(body: bytes, kind: type[T]) -> T:
    try:
        return json.decode(body, type=kind)
    except (DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise garbage(str(error)) from None


def decode(call: Call, body: bytes) -> Completion | Embeddings | TokenCount:
    """Return the whole answer to ``call``.

    Raises:
        ServerError: ``UPSTREAM_INVALID`` for garbage, ``UPSTREAM_TRUNCATED`` for an answer without a finish
            reason, and what :meth:`~llm_server.providers.dialects.gemini.narration.Narrator.tell` raises.
    """
    match call:
        case EmbedCall():
            return _embeddings(call, _typed(body, Embedded))
        case CountCall():
            return TokenCount(input_tokens=_typed(body, Counted).total_tokens)
        case _:
            return fold([Chunk(Narrator().tell(read(body)))])


def _embeddings(call: EmbedCall, answer: Embedded) -> Embeddings:
    if len(answer.embeddings) != len(call.inputs):
        raise garbage(f"{len(answer.embeddings)} embeddings for {len(call.inputs)} inputs")
    vectors = tuple(vector.values for vector in answer.embeddings)
    counts = usage(answer.usage_metadata) if answer.usage_metadata else Usage()
    return Embeddings(model=call.model, vectors=vectors, usage=counts)


def decode_models(body: bytes) -> tuple[ModelInfo, ...]:
    """Return the models that answer or embed text, without the ``models/`` of their names."""
    models = _typed(body, Models).models
    return tuple(
        ModelInfo(
            id=model.name.removeprefix("models/"),
            provider="",
            display_name=model.display_name,
            context_tokens=model.input_token_limit,
            max_output_tokens=model.output_token_limit,
        )
        for model in models
        if model.supported_generation_methods is None
        or {"generateContent", "embedContent"} & set(model.supported_generation_methods)
    )
