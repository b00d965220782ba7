"""OpenAI's answers as far as they are used. Everything may be missing; unknown fields are ignored.

Sources: https://platform.openai.com/docs/api-reference; ``reasoning_content`` (DeepSeek, vLLM, xAI),
``reasoning`` (Groq, OpenRouter, Ollama), lists of typed content (Mistral), ``x_groq`` (Groq).
"""

from typing import Any, Literal

from msgspec import Raw, Struct


class Function(Struct, frozen=True):
    """A called function; ``arguments`` is JSON text, an object from some servers."""

    name: str | None = None
    arguments: Any = None


class ToolCall(Struct, frozen=True):
    """A tool call, or a piece of one."""

    index: int | None = None
    id: str | None = None
    function: Function | None = None


class Message(Struct, frozen=True):
    """What a choice says, whole or a piece of it."""

    content: str | list[dict[str, Any]] | None = None
    refusal: str | None = None
    reasoning_content: str | None = None
    reasoning: Any = None
    tool_calls: list[ToolCall] | None = None


class Choice(Struct, frozen=True):
    """One alternative; ``text`` in legacy completions."""

    index: int | None = None
    message: Message | None = None
    delta: Message | None = None
    text: str | None = None
    finish_reason: str | None = None
    logprobs: Raw = Raw(b"")


class InputDetails(Struct, frozen=True):
    """How input tokens divide."""

    cached_tokens: int | None = None
    cache_write_tokens: int | None = None


class OutputDetails(Struct, frozen=True):
    """How output tokens divide."""

    reasoning_tokens: int | None = None


class Usage(Struct, frozen=True):
    """Tokens; ``prompt_cache_hit_tokens`` is DeepSeek's."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    total_tokens: int | None = None
    prompt_tokens_details: InputDetails | None = None
    completion_tokens_details: OutputDetails | None = None
    prompt_cache_hit_tokens: int | None = None


class GroqExtra(Struct, frozen=True):
    """Groq's own part of a chunk: usage, and errors in a stream."""

    usage: Usage | None = None
    error: Any = None


class Answer(Struct, frozen=True):
    """A whole answer, or one chunk of a streamed one."""

    id: str | None = None
    model: str | None = None
    created: float | None = None
    choices: list[Choice] | None = None
    usage: Usage | None = None
    object: Any = None
    error: Any = None
    x_groq: GroqExtra | None = None


class KnownAnswer(Answer, frozen=True, forbid_unknown_fields=True):
    """A whole answer that holds nothing at its top level but what is known here, used or not."""

    system_fingerprint: Any = None
    service_tier: Any = None


class TextOnly(Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """A delta that is text and nothing else."""

    content: str
    role: Literal["assistant"] | None = None
    refusal: None = None


class TextChoice(Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """A choice that goes on with text."""

    delta: TextOnly
    index: int = 0
    finish_reason: None = None
    logprobs: None = None


class TextChunk(Struct, frozen=True, gc=False):
    """A chunk that only says more text: any other fails to decode as one."""

    choices: list[TextChoice]
    usage: None = None
    error: None = None
    x_groq: None = None
    object: Literal["chat.completion.chunk"] | None = None


class Vector(Struct, frozen=True):
    """One embedding: numbers, or base64 of little-endian float32."""

    embedding: str | tuple[float, ...]
    index: int | None = None


class EmbeddingsAnswer(Struct, frozen=True):
    """A list of embeddings."""

    data: list[Vector] | None = None
    model: str | None = None
    usage: Usage | None = None
    error: Any = None


class Model(Struct, frozen=True):
    """A model as listed; ``context_length`` and ``max_model_len`` are other servers' additions."""

    id: str
    created: float | None = None
    name: str | None = None
    context_length: int | None = None
    context_window: int | None = None
    max_model_len: int | None = None


class Models(Struct, frozen=True):
    """A list of models."""

    data: list[Model] | None = None


class Tag(Struct, frozen=True):
    """A model in Ollama's own list; ``modified_at`` is a date."""

    name: str
    modified_at: str | None = None


class Tags(Struct, frozen=True):
    """Ollama's own list of models (https://docs.ollama.com/api/tags)."""

    models: list[Tag]
