"""What is answered: a whole value, or a stream of chunks that folds into the same value."""

from enum import StrEnum

from msgspec import Raw, Struct

from llm_server.contract.messages import Refusal, Text, Thinking, ToolCall


class FinishReason(StrEnum):
    """Why the model stopped."""

    STOP = "stop"
    LENGTH = "length"
    TOOL_CALLS = "tool_calls"
    CONTENT_FILTER = "content_filter"
    REFUSAL = "refusal"
    PAUSE = "pause"
    """The model paused a long turn and expects to be called again (Anthropic's ``pause_turn``)."""


class Usage(Struct, frozen=True, kw_only=True):
    """Tokens billed. ``input_tokens`` includes those read from and written to the provider's cache.

    Streamed, later values replace earlier ones: each carries the running total.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0

    def __add__(self, other: "Usage") -> "Usage":
        """Return the tokens of both."""
        names = Usage.__struct_fields__
        return Usage(**{name: getattr(self, name) + getattr(other, name) for name in names})

    def __sub__(self, other: "Usage") -> "Usage":
        """Return the tokens without those of ``other``."""
        names = Usage.__struct_fields__
        return Usage(**{name: getattr(self, name) - getattr(other, name) for name in names})


class Started(Struct, frozen=True, kw_only=True):
    """The upstream accepted the request and names its answer."""

    id: str = ""
    model: str = ""
    created: int = 0


class TextDelta(Struct, frozen=True):
    """More text of part ``part`` of choice ``index``. ``logprobs`` is OpenAI's object for these tokens."""

    text: str
    part: int = 0
    index: int = 0
    logprobs: Raw = Raw(b"")


class ReasoningDelta(Struct, frozen=True):
    """More of a thinking part; a signature comes once, at its end."""

    text: str = ""
    part: int = 0
    index: int = 0
    signature: str = ""
    redacted: bool = False


class ToolDelta(Struct, frozen=True):
    """More of a tool call: ``id`` and ``name`` in the first delta of the part, then argument text."""

    part: int
    id: str = ""
    name: str = ""
    arguments: str = ""
    index: int = 0


class RefusalDelta(Struct, frozen=True):
    """More of a refusal."""

    text: str
    part: int = 0
    index: int = 0


class Finish(Struct, frozen=True):
    """Choice ``index`` is complete. ``stop_sequence`` is the one that ended it, when the upstream tells."""

    reason: FinishReason
    index: int = 0
    stop_sequence: str = ""


Event = Started | TextDelta | ReasoningDelta | ToolDelta | RefusalDelta | Usage | Finish

CONTENT = (TextDelta, ReasoningDelta, ToolDelta, RefusalDelta)
"""Events that carry content: the first one given to the caller commits the answer to its attempt."""


class Chunk(Struct, frozen=True):
    """One step of a stream: what it means, and the upstream frame that said it.

    ``frame`` is the exact upstream bytes of this step in the upstream's dialect (whole server-sent events),
    or empty when the meaning was made or changed here. A caller of the same dialect is sent the frame;
    anyone else an encoding of ``events``. A frame without meaning (a ping) has no events.
    """

    events: tuple[Event, ...]
    frame: bytes = b""


class Choice(Struct, frozen=True, kw_only=True):
    """One alternative answer: its parts in order and why it ended."""

    index: int = 0
    parts: tuple[Text | Thinking | ToolCall | Refusal, ...] = ()
    finish: FinishReason = FinishReason.STOP
    stop_sequence: str = ""
    logprobs: Raw = Raw(b"")

    @property
    def text(self) -> str:
        """All plain text, joined."""
        return "".join(part.text for part in self.parts if isinstance(part, Text))


class Completion(Struct, frozen=True, kw_only=True):
    """A whole answer to a chat or text call. ``raw`` is the upstream's body, when nothing changed it."""

    id: str = ""
    model: str = ""
    created: int = 0
    choices: tuple[Choice, ...] = ()
    usage: Usage = Usage()
    raw: bytes = b""


class Embeddings(Struct, frozen=True, kw_only=True):
    """Vectors in the order of the inputs.

    ``raw`` is the upstream's body, kept only when it has the form that the caller asked for.
    """

    model: str = ""
    vectors: tuple[tuple[float, ...], ...] = ()
    usage: Usage = Usage()
    raw: bytes = b""


class TokenCount(Struct, frozen=True, kw_only=True):
    """The answer to a count. ``estimated`` when the provider cannot count and we guessed from the bytes."""

    input_tokens: int
    estimated: bool = False


Answer = Chunk | Completion | Embeddings | TokenCount
"""What flows back: chunks of a stream, or exactly one whole value."""
