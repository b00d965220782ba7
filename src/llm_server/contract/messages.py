"""What is said: messages and their parts, the same in every dialect."""

from enum import StrEnum

from msgspec import Struct


class Role(StrEnum):
    """Who speaks. ``SYSTEM`` covers OpenAI's ``developer`` and Anthropic's ``system`` field."""

    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"
    TOOL = "tool"


class Text(Struct, frozen=True):
    """Plain text."""

    text: str


class Image(Struct, frozen=True, kw_only=True):
    """An image, either by ``url`` or inline as base64 ``data`` with its ``media_type``; never both."""

    url: str = ""
    data: str = ""
    media_type: str = ""
    detail: str = ""


class ToolCall(Struct, frozen=True):
    """The model asks for a tool. ``arguments`` is JSON text as the model wrote it."""

    id: str
    name: str
    arguments: str


class ToolResult(Struct, frozen=True, kw_only=True):
    """The application's answer to the tool call ``call_id``."""

    call_id: str
    parts: "tuple[Text | Image, ...]"
    is_error: bool = False


class Thinking(Struct, frozen=True, kw_only=True):
    """Reasoning that the model shows.

    ``signature`` is the upstream's proof and means nothing to any other provider, so translations drop a
    signed block from a conversation's history. ``redacted`` blocks have only ciphertext, in ``signature``.
    """

    text: str = ""
    signature: str = ""
    redacted: bool = False


class Refusal(Struct, frozen=True):
    """The model declines, in its own words (OpenAI's ``refusal``)."""

    text: str


class Opaque(Struct, frozen=True):
    """A part that only its own dialect understands (audio, documents, server tool results).

    It travels inside ``Call.raw``; a translation that meets one refuses, naming ``type``.
    """

    type: str


Part = Text | Image | ToolCall | ToolResult | Thinking | Refusal | Opaque


class Message(Struct, frozen=True):
    """One turn. Tool results may stand in ``USER`` (Anthropic) or ``TOOL`` (OpenAI) messages."""

    role: Role
    parts: tuple[Part, ...]
    name: str = ""

    @property
    def text(self) -> str:
        """All plain text of the turn, joined."""
        return "".join(part.text for part in self.parts if isinstance(part, Text))
