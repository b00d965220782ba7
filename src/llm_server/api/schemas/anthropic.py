"""Anthropic's requests and answers as models: they accept and refuse what its wire types do."""

from typing import Annotated, Any, Literal, Self

from pydantic import ConfigDict, Discriminator, Field, Tag, model_validator

from llm_server.api.schemas.shared import (
    AnswerModel,
    ImageUrl,
    OtherPart,
    RequestModel,
    SchemaVersion,
    StreamStructured,
    by_type,
    check_choice,
)
from llm_server.wire.anthropic import types as wire

Name = Annotated[str, Field(min_length=1, max_length=256)]
Other = Annotated[OtherPart, Tag("other")]


class TextBlock(RequestModel):
    """Text."""

    type: Literal["text"]
    text: str


class Base64Source(RequestModel):
    """An image in the request itself."""

    type: Literal["base64"]
    media_type: Literal["image/jpeg", "image/png", "image/gif", "image/webp"]
    data: str = Field(description="Base64.")


class UrlSource(RequestModel):
    """An image on the web."""

    type: Literal["url"]
    url: ImageUrl


class ImageBlock(RequestModel):
    """An image."""

    type: Literal["image"]
    source: Annotated[
        Annotated[Base64Source, Tag("base64")] | Annotated[UrlSource, Tag("url")] | Other,
        Discriminator(by_type("base64", "url")),
    ]


class ThinkingBlock(RequestModel):
    """What the model thought, with its proof."""

    type: Literal["thinking"]
    thinking: str
    signature: str


class RedactedThinkingBlock(RequestModel):
    """What the model thought, encrypted."""

    type: Literal["redacted_thinking"]
    data: str


class ToolUseBlock(RequestModel):
    """A tool call."""

    type: Literal["tool_use"]
    id: str
    name: str
    input: dict[str, Any]


SystemBlock = Annotated[Annotated[TextBlock, Tag("text")] | Other, Discriminator(by_type("text"))]
ResultBlock = Annotated[
    Annotated[TextBlock, Tag("text")] | Annotated[ImageBlock, Tag("image")] | Other,
    Discriminator(by_type("text", "image")),
]


class ToolResultBlock(RequestModel):
    """What a tool answered."""

    type: Literal["tool_result"]
    tool_use_id: str
    content: str | list[ResultBlock] | None = None
    is_error: bool | None = None


Block = Annotated[
    Annotated[TextBlock, Tag("text")]
    | Annotated[ImageBlock, Tag("image")]
    | Annotated[ThinkingBlock, Tag("thinking")]
    | Annotated[RedactedThinkingBlock, Tag("redacted_thinking")]
    | Annotated[ToolUseBlock, Tag("tool_use")]
    | Annotated[ToolResultBlock, Tag("tool_result")]
    | Other,
    Discriminator(by_type("text", "image", "thinking", "redacted_thinking", "tool_use", "tool_result")),
]


class MessageParam(RequestModel):
    """One turn of the conversation; `system` gives instructions in the middle of it."""

    role: Literal["user", "assistant", "system"]
    content: str | list[Block]


class Tool(RequestModel):
    """A tool. Your own has no `type` or `custom` and needs `name` and `input_schema`."""

    name: Name | None = None
    type: str | None = None
    description: str | None = None
    input_schema: Any = Field(default=None, description="JSON Schema of the tool's input.")
    strict: bool | None = None

    @model_validator(mode="after")
    def _own_tools_are_complete(self) -> Self:
        own = self.type in {None, "custom"}
        if own and (self.name is None or not isinstance(self.input_schema, dict)):
            raise ValueError("a tool of your own needs 'name' and an object as 'input_schema'")
        return self


class AutoChoice(RequestModel):
    """The model may call tools."""

    type: Literal["auto"]
    disable_parallel_tool_use: bool | None = None


class AnyChoice(RequestModel):
    """The model must call some tool."""

    type: Literal["any"]
    disable_parallel_tool_use: bool | None = None


class ToolChoice(RequestModel):
    """The model must call this tool."""

    type: Literal["tool"]
    name: Name
    disable_parallel_tool_use: bool | None = None


class NoneChoice(RequestModel):
    """The model must not call tools."""

    type: Literal["none"]


class ThinkingEnabled(RequestModel):
    """Think, within a budget."""

    type: Literal["enabled"]
    budget_tokens: int = Field(ge=wire.MIN_THINKING, le=wire.MAX_COUNT)


class ThinkingOther(RequestModel):
    """Think as needed, only between tool calls, or not at all."""

    type: Literal["adaptive", "between_tools", "disabled"]


class JsonFormat(RequestModel):
    """JSON that follows a schema."""

    type: Literal["json_schema"]
    schema_: dict[str, Any] | None = Field(default=None, alias="schema", description="JSON Schema.")
    schema_id: Name | None = Field(default=None, description="A registered schema, instead of `schema`.")
    schema_version: SchemaVersion = Field(default=None, description="Its version; by default the latest.")

    @model_validator(mode="after")
    def _one_schema(self) -> Self:
        if (self.schema_ is None) == (self.schema_id is None):
            raise ValueError("give either 'schema' or 'schema_id'")
        return self


class OutputConfig(RequestModel):
    """How hard to try, and in which form to answer."""

    effort: wire.Effort | None = None
    format: JsonFormat | None = None


class Metadata(RequestModel):
    """Who asks."""

    user_id: str | None = None


class CountTokensRequest(RequestModel):
    """Count the input tokens of a conversation."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"model": "local/smollm2-135m", "messages": [{"role": "user", "content": "Say hello."}]}
            ]
        }
    )

    model: Name = Field(
        description="`provider/model`, or a configured name.", examples=["local/smollm2-135m"]
    )
    messages: list[MessageParam] = Field(min_length=1, max_length=wire.MAX_MESSAGES)
    system: str | list[SystemBlock] | None = None
    tools: Annotated[list[Tool], Field(max_length=wire.MAX_TOOLS)] | None = None
    tool_choice: (
        Annotated[AutoChoice | AnyChoice | ToolChoice | NoneChoice, Field(discriminator="type")] | None
    ) = None
    thinking: Annotated[ThinkingEnabled | ThinkingOther, Field(discriminator="type")] | None = None
    output_config: OutputConfig | None = None
    output_format: JsonFormat | None = Field(
        default=None, description="Older place of `output_config.format`."
    )

    @model_validator(mode="after")
    def _choice_needs_tools(self) -> Self:
        check_choice(isinstance(self.tool_choice, AnyChoice | ToolChoice), self.tools)
        return self


class MessageRequest(CountTokensRequest):
    """Continue a conversation."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "model": "local/smollm2-135m",
                    "max_tokens": 64,
                    "messages": [{"role": "user", "content": "Say hello."}],
                }
            ]
        }
    )

    max_tokens: int = Field(ge=0, le=wire.MAX_COUNT, description="Bound on output tokens, thinking included.")
    stream: bool | None = Field(default=None, description="Answer as server-sent events.")
    stop_sequences: Annotated[list[str], Field(max_length=wire.MAX_STOP)] | None = None
    temperature: float | None = Field(default=None, ge=0, le=1)
    top_p: float | None = Field(default=None, ge=0, le=1)
    top_k: int | None = Field(default=None, ge=0, le=wire.MAX_COUNT)
    metadata: Metadata | None = None
    stream_structured: StreamStructured


class AnsweredText(AnswerModel):
    """Text of the model."""

    type: Literal["text"]
    text: str


class AnsweredThinking(AnswerModel):
    """What the model thought, with its proof."""

    type: Literal["thinking"]
    thinking: str
    signature: str


class AnsweredRedactedThinking(AnswerModel):
    """What the model thought, encrypted."""

    type: Literal["redacted_thinking"]
    data: str


class AnsweredToolUse(AnswerModel):
    """A tool call of the model."""

    type: Literal["tool_use"]
    id: str
    name: str
    input: dict[str, Any]


class OutputTokensDetails(AnswerModel):
    """Which output tokens were thought."""

    thinking_tokens: int


class Usage(AnswerModel):
    """Tokens billed; `input_tokens` does not include those read from or written to the cache."""

    input_tokens: int
    cache_creation_input_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    output_tokens: int
    output_tokens_details: OutputTokensDetails | None = None


class Message(AnswerModel):
    """A whole answer."""

    id: str = Field(examples=["msg_01XFDUDYJgAACzvnptvVoYEL"])
    type: Literal["message"]
    role: Literal["assistant"]
    model: str
    content: list[
        Annotated[
            AnsweredText | AnsweredThinking | AnsweredRedactedThinking | AnsweredToolUse,
            Field(discriminator="type"),
        ]
    ]
    stop_reason: Literal["end_turn", "max_tokens", "stop_sequence", "tool_use", "pause_turn", "refusal"]
    stop_sequence: str | None = None
    usage: Usage


class TokenCount(AnswerModel):
    """The answer to a count."""

    input_tokens: int
