"""OpenAI's answers as types, as they are written to callers.

Sources: openai-python 3.54 (``openai/types/chat/chat_completion*.py``, ``completion*.py``, ``embedding.py``).
"""

from msgspec import UNSET, Raw, Struct, UnsetType

NULL = Raw(b"null")
"""What stands for log probabilities where there are none."""


class Said(Struct, frozen=True, kw_only=True, gc=False):
    """Base of everything in an answer."""


class PromptDetails(Said, frozen=True, kw_only=True, omit_defaults=True):
    """Which of the prompt's tokens were cheap or dear."""

    cached_tokens: int | None = None
    cache_write_tokens: int | None = None


class CompletionDetails(Said, frozen=True, kw_only=True, omit_defaults=True):
    """Which of the completion's tokens were thought, not said."""

    reasoning_tokens: int | None = None


class UsageBody(Said, frozen=True, kw_only=True, omit_defaults=True):
    """Tokens billed; ``prompt_tokens`` includes cached ones, ``completion_tokens`` reasoning."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    total_tokens: int | None = None
    prompt_tokens_details: PromptDetails | None = None
    completion_tokens_details: CompletionDetails | None = None


class CalledFunction(Said, frozen=True, kw_only=True):
    """The function of a tool call in an answer, or of a piece of one in a stream."""

    name: str | UnsetType = UNSET
    arguments: str


class CalledTool(Said, frozen=True, kw_only=True):
    """A tool call in an answer; ``index`` counts them in a stream, where ``id`` and ``type`` come once."""

    index: int | UnsetType = UNSET
    id: str | UnsetType = UNSET
    type: str | UnsetType = UNSET
    function: CalledFunction


class Saying(Said, frozen=True, kw_only=True):
    """A message of an answer, or a piece of one in a stream."""

    role: str | UnsetType = UNSET
    content: str | UnsetType | None = UNSET
    refusal: str | UnsetType | None = UNSET
    reasoning_content: str | UnsetType = UNSET
    tool_calls: list[CalledTool] | UnsetType = UNSET


class ChatChoice(Said, frozen=True, kw_only=True):
    """One alternative: ``message`` when whole, ``delta`` in a stream."""

    index: int
    message: Saying | UnsetType = UNSET
    delta: Saying | UnsetType = UNSET
    logprobs: Raw = NULL
    finish_reason: str | None = None


class TextChoice(Said, frozen=True, kw_only=True):
    """One alternative continuation of one prompt, whole or a piece of it."""

    text: str = ""
    index: int
    logprobs: Raw = NULL
    finish_reason: str | None = None


class ChatAnswer(Said, frozen=True, kw_only=True):
    """A whole answer to a chat request."""

    id: str
    object: str = "chat.completion"
    created: int
    model: str
    choices: list[ChatChoice]
    usage: UsageBody


class TextAnswer(Said, frozen=True, kw_only=True):
    """A whole answer to a completions request."""

    id: str
    object: str = "text_completion"
    created: int
    model: str
    choices: list[TextChoice]
    usage: UsageBody


class Vector(Said, frozen=True, kw_only=True):
    """One embedding, as numbers or as base64 of little-endian float32."""

    object: str = "embedding"
    index: int
    embedding: str | list[float]


class EmbeddingsAnswer(Said, frozen=True, kw_only=True):
    """An answer to an embeddings request."""

    object: str = "list"
    data: list[Vector]
    model: str
    usage: UsageBody
