"""Anthropic's answers and stream events as types, as they are written to callers.

Sources: anthropic-python 2.12 (``anthropic/types/message.py``, ``usage.py``, ``raw_*_event.py``). Blocks,
deltas and events are each one flat type with the fields of all their kinds, of which a writer sets what its
kind has.
"""

from msgspec import UNSET, Raw, Struct, UnsetType

NO_RAW = Raw(b"")
"""Default of raw fields: not written."""


class Said(Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True):
    """Base of everything in an answer; a field at its default is not written."""


class OutputDetails(Said, frozen=True):
    """Which of the output's tokens were thought, not said."""

    thinking_tokens: int | None = None


class UsageBody(Said, frozen=True):
    """Tokens billed; ``input_tokens`` does not include those read from or written to the cache."""

    input_tokens: int | None = None
    cache_creation_input_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    output_tokens: int | None = None
    output_tokens_details: OutputDetails | None = None


class Block(Said, frozen=True, kw_only=True):
    """A content block: ``text``, ``thinking``, ``redacted_thinking``, or ``tool_use``."""

    type: str
    text: str | UnsetType = UNSET
    thinking: str | UnsetType = UNSET
    signature: str | UnsetType = UNSET
    data: str | UnsetType = UNSET
    id: str | UnsetType = UNSET
    name: str | UnsetType = UNSET
    input: Raw = NO_RAW


class MessageBody(Said, frozen=True, kw_only=True):
    """A whole answer, or the empty one that opens a stream."""

    id: str | UnsetType = UNSET
    type: str
    role: str
    model: str | UnsetType = UNSET
    content: list[Block] | UnsetType = UNSET
    stop_reason: str | UnsetType | None = UNSET
    stop_sequence: str | UnsetType | None = UNSET
    usage: UsageBody | UnsetType = UNSET


class DeltaBody(Said, frozen=True):
    """More of a block, or with ``stop_reason`` the end of a message."""

    type: str | UnsetType = UNSET
    text: str | UnsetType = UNSET
    thinking: str | UnsetType = UNSET
    signature: str | UnsetType = UNSET
    partial_json: str | UnsetType = UNSET
    stop_reason: str | UnsetType | None = UNSET
    stop_sequence: str | UnsetType | None = UNSET


class StreamEvent(Said, frozen=True, kw_only=True):
    """One event of a stream."""

    type: str
    message: MessageBody | UnsetType = UNSET
    index: int | UnsetType = UNSET
    content_block: Block | UnsetType = UNSET
    delta: DeltaBody | UnsetType = UNSET
    usage: UsageBody | UnsetType = UNSET


class CountBody(Said, frozen=True):
    """The answer to a count."""

    input_tokens: int | None = None
