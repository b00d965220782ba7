"""The messages of Cohere's API that are read, as far as they are used.

Source: https://docs.cohere.com/reference/chat, /reference/chat-stream, /reference/embed,
/reference/list-models and the types of ``cohere`` 7.3. Unknown fields are ignored.
"""

from msgspec import Raw, Struct


class Function(Struct, frozen=True):
    """A tool call's name and arguments (JSON text)."""

    name: str | None = None
    arguments: str | None = None


class Call(Struct, frozen=True):
    """A tool call, or more of one."""

    id: str | None = None
    function: Function = Function()


class Content(Struct, frozen=True):
    """A block of text or of thinking, or more of one."""

    text: str | None = None
    thinking: str | None = None


class Tokens(Struct, frozen=True):
    """Counts; the API writes them as numbers that may have a fraction."""

    input_tokens: float | None = None
    output_tokens: float | None = None


class Counts(Struct, frozen=True):
    """What an answer cost."""

    tokens: Tokens | None = None
    billed_units: Tokens | None = None
    cached_tokens: float | None = None


class Message(Struct, frozen=True):
    """A whole answer's message."""

    content: list[Content] | None = None
    tool_plan: str | None = None
    tool_calls: list[Call] | None = None


class Answer(Struct, frozen=True):
    """A whole answer."""

    message: Message
    finish_reason: str
    id: str = ""
    usage: Counts | None = None


class MessageDelta(Struct, frozen=True):
    """What a stream's event adds; a list of the whole form is a single block here."""

    content: Content | None = None
    tool_plan: str | None = None
    tool_calls: Call | None = None


class Delta(Struct, frozen=True):
    """The ``delta`` of events that carry content."""

    message: MessageDelta = MessageDelta()


class End(Struct, frozen=True):
    """The ``delta`` of ``message-end``."""

    finish_reason: str
    usage: Counts | None = None
    error: str | None = None


class StreamEvent(Struct, frozen=True):
    """Any event of a stream; ``type`` says how to read ``delta``. An error has a ``message``, no type."""

    type: str = ""
    id: str | None = None
    index: int | None = None
    delta: Raw = Raw(b"{}")
    message: str | None = None


class Vectors(Struct, frozen=True, rename={"floats": "float"}):
    """Embeddings by type."""

    floats: list[tuple[float, ...]] = []


class Meta(Struct, frozen=True):
    """What an embedding cost."""

    billed_units: Tokens | None = None


class Embedded(Struct, frozen=True):
    """The answer of the embed endpoint."""

    embeddings: Vectors
    meta: Meta | None = None


class Model(Struct, frozen=True):
    """A model as listed."""

    name: str
    endpoints: list[str] | None = None
    is_deprecated: bool | None = None
    context_length: float | None = None


class Models(Struct, frozen=True):
    """One page of the model list."""

    models: list[Model] = []
