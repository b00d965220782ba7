"""OpenAI's answers as types: written to callers, and tolerant enough to read what compatible upstreams send.

Sources: openai-python 3.54 (``openai/types/chat/chat_completion*.py``, ``completion*.py``, ``embedding.py``).
"""

from msgspec import UNSET, Raw, Struct, UnsetType


class Said(Struct, frozen=True, kw_only=True, gc=False):
    """Base of everything in an answer. Everything has a default, because upstreams leave things out."""


class PromptDetails(Said, frozen=True, omit_defaults=True):
    """Which of the prompt's tokens were cheap or dear."""

    cached_tokens: int | None = None
    cache_write_tokens: int | None = None


class CompletionDetails(Said, frozen=True, omit_defaults=True):
    """Which of the completion's tokens were thought, not said."""

    reasoning_tokens: int | None = None


class UsageBody(Said, frozen=True, omit_defaults=True):
    """Tokens billed; ``prompt_tokens`` includes cached ones, ``completion_tokens`` reasoning."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    total_tokens: int | None = None
    prompt_tokens_details: PromptDetails | None = None
    completion_tokens_details: CompletionDetails | None = None


class CalledFunction(Said, frozen=True):
    """The function of a tool call in an answer, or of a piece of one in a stream."""

    name: str | UnsetType | None = UNSET
    arguments: str | UnsetType | None = UNSET


class CalledTool(Said, frozen=True):
    """A tool call in an answer; ``index`` counts them in a stream, where ``id`` and ``type`` come once."""

    index: int | UnsetType | None = UNSET
    id: str | UnsetType | None = UNSET
    type: str | UnsetType | None = UNSET
    function: CalledFunction | None = None


class Saying(Said, frozen=True):
    """A message of an answer, or a piece of one in a stream."""

    role: str | UnsetType | None = UNSET
    content: str | UnsetType | None = UNSET
    refusal: str | UnsetType | None = UNSET
    reasoning_content: str | UnsetType | None = UNSET
    reasoning: str | UnsetType | None = UNSET
    tool_calls: list[CalledTool] | UnsetType | None = UNSET


class ChatChoice(Said, frozen=True):
    """One alternative: ``message`` when whole, ``delta`` in a stream."""

    index: int = 0
    message: Saying | UnsetType | None = UNSET
    delta: Saying | UnsetType | None = UNSET
    logprobs: Raw = Raw(b"null")
    finish_reason: str | None = None


class TextChoice(Said, frozen=True):
    """One alternative continuation of one prompt, whole or a piece of it."""

    text: str | None = ""
    index: int = 0
    logprobs: Raw = Raw(b"null")
    finish_reason: str | None = None


class ChatAnswer(Said, frozen=True):
    """An answer to a chat request, or one chunk of it. ``usage`` is null in all chunks but the last."""

    id: str | None = None
    object: str | None = None
    created: int | None = None
    model: str | None = None
    choices: list[ChatChoice] | None = None
    usage: UsageBody | UnsetType | None = UNSET


class TextAnswer(Said, frozen=True):
    """An answer to a completions request, or one chunk of it."""

    id: str | None = None
    object: str | None = None
    created: int | None = None
    model: str | None = None
    choices: list[TextChoice] | None = None
    usage: UsageBody | UnsetType | None = UNSET


class Vector(Said, frozen=True):
    """One embedding, as numbers or as base64 of little-endian float32."""

    object: str | None = "embedding"
    index: int = 0
    embedding: str | list[float] = ""


class EmbeddingsAnswer(Said, frozen=True):
    """An answer to an embeddings request."""

    object: str | None = "list"
    data: list[Vector] | None = None
    model: str | None = None
    usage: UsageBody | None = None
