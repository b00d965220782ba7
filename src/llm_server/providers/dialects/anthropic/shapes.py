"""Anthropic's answers as far as they are used. Unknown fields, events and blocks are ignored.

Source: https://platform.claude.com/docs/en/api/messages and /messages-streaming; the ``anthropic`` SDK 2.12.
"""

from typing import Any, Literal

from msgspec import Raw, Struct


class OutputDetails(Struct, frozen=True):
    """How output tokens divide."""

    thinking_tokens: int | None = None


class Usage(Struct, frozen=True):
    """Tokens; input counts neither what the cache gave nor what it took."""

    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    cache_creation_input_tokens: int | None = None
    output_tokens_details: OutputDetails | None = None


class Block(Struct, frozen=True):
    """A content block, of whichever ``type``."""

    type: str
    text: str | None = None
    thinking: str | None = None
    signature: str | None = None
    data: str | None = None
    id: str | None = None
    name: str | None = None
    input: Raw = Raw(b"")


class Message(Struct, frozen=True):
    """A whole answer, or how a stream begins."""

    id: str = ""
    model: str = ""
    content: list[Block] | None = None
    stop_reason: str | None = None
    stop_sequence: str | None = None
    usage: Usage | None = None


class Delta(Struct, frozen=True):
    """A change of a block, of whichever ``type``, or of the message."""

    type: str = ""
    text: str | None = None
    thinking: str | None = None
    signature: str | None = None
    partial_json: str | None = None
    stop_reason: str | None = None
    stop_sequence: str | None = None


class StreamEvent(Struct, frozen=True):
    """An event of a stream, of whichever ``type``."""

    type: str
    index: int = 0
    message: Message | None = None
    content_block: Block | None = None
    delta: Delta | None = None
    usage: Usage | None = None
    error: Any = None


class TextOnly(Struct, frozen=True, gc=False):
    """A change that is more text."""

    type: Literal["text_delta"]
    text: str


class TextEvent(Struct, frozen=True, gc=False):
    """An event that is more text: any other fails to decode as one."""

    type: Literal["content_block_delta"]
    delta: TextOnly
    index: int = 0


class Counted(Struct, frozen=True):
    """The answer to a count."""

    input_tokens: int


class Model(Struct, frozen=True):
    """A model as listed."""

    id: str
    display_name: str | None = None
    created_at: str | None = None
    max_input_tokens: int | None = None
    max_tokens: int | None = None


class Models(Struct, frozen=True):
    """A page of models."""

    data: list[Model]
