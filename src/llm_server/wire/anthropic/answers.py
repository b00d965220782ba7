"""Anthropic's answers and stream events as types: written to callers, read from upstreams.

Everything has a default, because upstreams leave things out.

Sources: anthropic-python 2.12 (``anthropic/types/message.py``, ``usage.py``, ``raw_*_event.py``). Blocks,
deltas and events are each one flat type with the fields of all their kinds: a reader looks at ``type``, a
writer sets what its kind has.
"""

from msgspec import UNSET, Raw, Struct, UnsetType

NO_RAW = Raw(b"")
"""Default of raw fields: not written."""


class Said(Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True):
    """Base of everything in an answer. Everything has a default, because upstreams leave things out."""


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


class Block(Said, frozen=True):
    """A content block: ``text``, ``thinking``, ``redacted_thinking``, ``tool_use``, or not modelled."""

    type: str = ""
    text: str | UnsetType | None = UNSET
    thinking: str | UnsetType | None = UNSET
    signature: str | UnsetType | None = UNSET
    data: str | UnsetType | None = UNSET
    id: str | UnsetType | None = UNSET
    name: str | UnsetType | None = UNSET
    input: Raw = NO_RAW


class MessageBody(Said, frozen=True):
    """A whole answer, or the empty one that opens a stream."""

    id: str | UnsetType | None = UNSET
    type: str = ""
    role: str = ""
    model: str | UnsetType | None = UNSET
    content: list[Block] | UnsetType | None = UNSET
    stop_reason: str | UnsetType | None = UNSET
    stop_sequence: str | UnsetType | None = UNSET
    usage: UsageBody | UnsetType | None = UNSET


class DeltaBody(Said, frozen=True):
    """More of a block, or with ``stop_reason`` the end of a message."""

    type: str = ""
    text: str | UnsetType | None = UNSET
    thinking: str | UnsetType | None = UNSET
    signature: str | UnsetType | None = UNSET
    partial_json: str | UnsetType | None = UNSET
    stop_reason: str | UnsetType | None = UNSET
    stop_sequence: str | UnsetType | None = UNSET


class StreamEvent(Said, frozen=True):
    """One event of a stream."""

    type: str = ""
    message: MessageBody | UnsetType | None = UNSET
    index: int | UnsetType | None = UNSET
    content_block: Block | UnsetType | None = UNSET
    delta: DeltaBody | UnsetType | None = UNSET
    usage: UsageBody | UnsetType | None = UNSET


class CountBody(Said, frozen=True):
    """The answer to a count."""

    input_tokens: int | None = None
