"""Anthropic's requests as types. Strict in what they model, silent about the rest.

Sources: anthropic-python 2.12 (``anthropic/types/*_param.py`` and ``types/beta``), which speaks API version
2026-10-21, and https://platform.claude.com/docs/en/api/messages. Version 2023-06-01 also has ``temperature``,
``top_p``, ``top_k`` and the deprecated ``output_format``; both versions are read by the same types.
"""

from typing import TYPE_CHECKING, Annotated, Literal, Union

from msgspec import Meta, Raw, Struct, defstruct

from llm_server.wire.shapes import Unmodelled

MAX_MESSAGES = 10_000
"""Ours; Anthropic documents 100,000, but each costs time before a model is asked."""
MAX_PARTS = 20_000
"""Content blocks of one request, in all messages together. Ours, for the same reason."""
MAX_TOOLS = 1024
"""Ours; Anthropic documents no bound, and its clients send hundreds where OpenAI allows 128."""
MAX_STOP = 64
"""Ours; Anthropic documents no bound."""
MAX_COUNT = 2**31 - 1
"""Bound on token counts and similar."""
MIN_THINKING = 1024
"""Smallest thinking budget, documented."""

OPAQUE_BLOCKS = (
    "advisor_tool_result",
    "bash_code_execution_tool_result",
    "browser_state",
    "code_execution_tool_result",
    "compaction",
    "container_upload",
    "document",
    "fallback",
    "mcp_tool_listing",
    "mcp_tool_result",
    "mcp_tool_use",
    "search_result",
    "server_tool_use",
    "text_editor_code_execution_tool_result",
    "tool_addition",
    "tool_reference",
    "tool_removal",
    "tool_search_tool_result",
    "web_fetch_tool_result",
    "web_search_tool_result",
)
"""Block types that the SDK knows and nothing here models. Unknown ones are read too, but not as fast."""

if TYPE_CHECKING:
    OpaqueBlock = Unmodelled
else:
    OpaqueBlock = Union[
        (
            Unmodelled,
            *(defstruct(name, (), bases=(Unmodelled,), tag=name, frozen=True) for name in OPAQUE_BLOCKS),
        )
    ]

Name = Annotated[str, Meta(min_length=1, max_length=256)]
Share = Annotated[float, Meta(ge=0, le=1)]
Version = Annotated[int, Meta(ge=1, le=MAX_COUNT)]
Effort = Literal["low", "medium", "high", "xhigh", "max"]


class Request(Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """Base of everything in a request; a field at its default is not written."""


class TextBlock(Request, frozen=True, tag="text"):
    """Text."""

    text: str


class Base64Source(Request, frozen=True, tag="base64"):
    """An image in the request itself."""

    media_type: Literal["image/jpeg", "image/png", "image/gif", "image/webp"]
    data: str


class UrlSource(Request, frozen=True, tag="url"):
    """An image on the web."""

    url: str


class FileSource(Unmodelled, frozen=True, tag="file"):
    """An uploaded image: known, not modelled."""


class ImageBlock(Request, frozen=True, tag="image"):
    """An image."""

    source: Base64Source | UrlSource | FileSource | Unmodelled


class ThinkingBlock(Request, frozen=True, tag="thinking"):
    """What the model thought, with its proof."""

    thinking: str
    signature: str


class RedactedThinkingBlock(Request, frozen=True, tag="redacted_thinking"):
    """What the model thought, encrypted."""

    data: str


class ToolUseBlock(Request, frozen=True, tag="tool_use"):
    """A tool call."""

    id: str
    name: str
    input: Raw


class ToolResultBlock(Request, frozen=True, tag="tool_result"):
    """What a tool answered."""

    tool_use_id: str
    content: str | list[TextBlock | ImageBlock | OpaqueBlock] | None = None
    is_error: bool | None = None


Block = (
    TextBlock
    | ImageBlock
    | ThinkingBlock
    | RedactedThinkingBlock
    | ToolUseBlock
    | ToolResultBlock
    | OpaqueBlock
)


class UserMessage(Request, frozen=True, tag_field="role", tag="user"):
    """What the user said, and what tools answered."""

    content: str | list[Block]


class AssistantMessage(Request, frozen=True, tag_field="role", tag="assistant"):
    """What the model said before."""

    content: str | list[Block]


class SystemMessage(Request, frozen=True, tag_field="role", tag="system"):
    """Instructions in the middle of a conversation."""

    content: str | list[Block]


Message = UserMessage | AssistantMessage | SystemMessage


class Tool(Request, frozen=True):
    """A tool. The caller's own has no ``type`` or ``custom``, and needs ``name`` and ``input_schema``."""

    name: Name | None = None
    type: str | None = None
    description: str | None = None
    input_schema: Raw = Raw(b"")
    strict: bool | None = None


class AutoChoice(Request, frozen=True, tag="auto"):
    """The model may call tools."""

    disable_parallel_tool_use: bool | None = None


class AnyChoice(Request, frozen=True, tag="any"):
    """The model must call some tool."""

    disable_parallel_tool_use: bool | None = None


class ToolChoice(Request, frozen=True, tag="tool"):
    """The model must call this tool."""

    name: Name
    disable_parallel_tool_use: bool | None = None


class NoneChoice(Request, frozen=True, tag="none"):
    """The model must not call tools."""


class ThinkingEnabled(Request, frozen=True, tag="enabled"):
    """Think, within a budget of tokens."""

    budget_tokens: Annotated[int, Meta(ge=MIN_THINKING, le=MAX_COUNT)]


class ThinkingAdaptive(Request, frozen=True, tag="adaptive"):
    """Think as much as it seems to need."""


class ThinkingBetweenTools(Request, frozen=True, tag="between_tools"):
    """Think between tool calls."""


class ThinkingDisabled(Request, frozen=True, tag="disabled"):
    """Do not think."""


class JsonFormat(Request, frozen=True):
    """JSON that follows a schema, given here or registered with this server.

    ``type`` is a field because a tag that is alone may be left out.
    """

    type: Literal["json_schema"]
    schema: Raw = Raw(b"")
    schema_id: Name | None = None
    schema_version: Version | Literal["latest"] | None = None


class OutputConfig(Request, frozen=True):
    """How hard to try, and in which form to answer."""

    effort: Effort | None = None
    format: JsonFormat | None = None


class Metadata(Request, frozen=True):
    """Who asks."""

    user_id: str | None = None


class CountRequest(Request, frozen=True, kw_only=True):
    """The body of ``POST /v1/messages/count_tokens``."""

    model: Name
    messages: Annotated[list[Message], Meta(min_length=1, max_length=MAX_MESSAGES)]
    system: str | list[TextBlock | Unmodelled] | None = None
    tools: Annotated[list[Tool], Meta(max_length=MAX_TOOLS)] | None = None
    tool_choice: AutoChoice | AnyChoice | ToolChoice | NoneChoice | None = None
    thinking: ThinkingEnabled | ThinkingAdaptive | ThinkingBetweenTools | ThinkingDisabled | None = None
    output_config: OutputConfig | None = None
    output_format: JsonFormat | None = None


class MessagesRequest(CountRequest, frozen=True, kw_only=True):
    """The body of ``POST /v1/messages``."""

    max_tokens: Annotated[int, Meta(ge=0, le=MAX_COUNT)]
    stream: bool | None = None
    stop_sequences: Annotated[list[str], Meta(max_length=MAX_STOP)] | None = None
    temperature: Share | None = None
    top_p: Share | None = None
    top_k: Annotated[int, Meta(ge=0, le=MAX_COUNT)] | None = None
    metadata: Metadata | None = None
    stream_structured: Literal["partial", "validated"] | None = None
