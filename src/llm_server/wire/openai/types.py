"""OpenAI's requests as types. Strict in what they model, silent about the rest.

Sources: openai-python 3.54 (``openai/types/chat/*_param.py``, ``completion_create_params.py``,
``embedding_create_params.py``) and https://developers.openai.com/api/reference. Not OpenAI's, but sent by
clients of compatible servers: ``reasoning_content``, ``reasoning``, ``top_k``, the effort ``default``, and
``guided_*`` and ``structured_outputs`` (vLLM before and since 0.12). Ours: ``schema_id``,
``schema_version``, ``stream_structured``.
"""

from typing import Annotated, ClassVar, Literal

from msgspec import Meta, Raw, Struct

from llm_server.wire.shapes import Unmodelled

MAX_MESSAGES = 10_000
"""Messages of one request. Ours, far beyond any conversation: each costs time before a model is asked."""
MAX_PARTS = 20_000
"""Content parts of one request, in all messages together. Ours, for the same reason."""
MAX_TOOLS = 128
"""Documented by OpenAI."""
MAX_CHOICES = 16
"""Ours: OpenAI allows 128, but each choice costs as much as a request."""
MAX_STOP = 4
"""Documented by OpenAI."""
MAX_BIASES = 1024
"""Ours."""
MAX_PATTERN = 512
"""Characters of a regular expression; ours."""
MAX_ALTERNATIVES = 2000
"""Answers to choose from; ours."""
MAX_COUNT = 2**31 - 1
"""Bound on token counts and similar."""
MAX_SEED = 2**63 - 1
"""Documented by OpenAI, both ways."""

Name = Annotated[str, Meta(min_length=1, max_length=256)]
TokenId = Annotated[int, Meta(ge=0, le=MAX_COUNT)]
Count = Annotated[int, Meta(ge=1, le=MAX_COUNT)]
Penalty = Annotated[float, Meta(ge=-2, le=2)]
Temperature = Annotated[float, Meta(ge=0, le=2)]
Share = Annotated[float, Meta(ge=0, le=1)]
Choices = Annotated[int, Meta(ge=1, le=MAX_CHOICES)]
Seed = Annotated[int, Meta(ge=-MAX_SEED - 1, le=MAX_SEED)]
Stop = str | Annotated[list[str], Meta(max_length=MAX_STOP)]
Biases = Annotated[dict[str, Annotated[float, Meta(ge=-100, le=100)]], Meta(max_length=MAX_BIASES)]
Version = Annotated[int, Meta(ge=1, le=MAX_COUNT)]
Pattern = Annotated[str, Meta(min_length=1, max_length=MAX_PATTERN)]
Alternatives = Annotated[list[str], Meta(min_length=1, max_length=MAX_ALTERNATIVES)]
Effort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max", "default"]
"""OpenAI's words, and ``default``, which compatible servers take."""


class Request(Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """Base of everything in a request; a field at its default is not written."""


class TextPart(Request, frozen=True, tag="text"):
    """Text in a message."""

    text: str


class ImageUrl(Request, frozen=True):
    """Where an image is; a ``data:`` URL contains it."""

    url: str
    detail: Literal["auto", "low", "high", "original"] | None = None


class ImagePart(Request, frozen=True, tag="image_url"):
    """An image in a message."""

    image_url: ImageUrl


class RefusalPart(Request, frozen=True, tag="refusal"):
    """A refusal in an assistant's message."""

    refusal: str


class AudioPart(Unmodelled, frozen=True, tag="input_audio"):
    """Audio in a message: known, not modelled."""


class FilePart(Unmodelled, frozen=True, tag="file"):
    """A file in a message: known, not modelled."""


class FunctionCall(Request, frozen=True):
    """The function that a model called, with its arguments as JSON text."""

    name: str
    arguments: str


class FunctionToolCall(Request, frozen=True, tag="function"):
    """A tool call in a message: what a call without a ``type`` is, as some servers make and take back."""

    ASSUMED: ClassVar[bool] = True

    id: str
    function: FunctionCall


class CustomToolCall(Unmodelled, frozen=True, tag="custom"):
    """A call of a custom tool: known, not modelled."""


class SystemMessage(Request, frozen=True, tag_field="role", tag="system"):
    """Instructions."""

    content: str | list[TextPart | Unmodelled]
    name: str | None = None


class DeveloperMessage(Request, frozen=True, tag_field="role", tag="developer"):
    """Instructions, under the newer name."""

    content: str | list[TextPart | Unmodelled]
    name: str | None = None


class UserMessage(Request, frozen=True, tag_field="role", tag="user"):
    """What the user said."""

    content: str | list[TextPart | ImagePart | AudioPart | FilePart | Unmodelled]
    name: str | None = None


class AssistantMessage(Request, frozen=True, tag_field="role", tag="assistant"):
    """What the model said before."""

    content: str | list[TextPart | RefusalPart | Unmodelled] | None = None
    refusal: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    tool_calls: list[FunctionToolCall | CustomToolCall | Unmodelled] | None = None
    function_call: None = None
    name: str | None = None


class ToolMessage(Request, frozen=True, tag_field="role", tag="tool"):
    """What a tool answered. Images are not OpenAI's, but other servers take them here."""

    content: str | list[TextPart | ImagePart | Unmodelled]
    tool_call_id: str


Message = SystemMessage | DeveloperMessage | UserMessage | AssistantMessage | ToolMessage


class Function(Request, frozen=True):
    """A function that may be called; ``parameters`` is its JSON Schema."""

    name: Name
    description: str | None = None
    parameters: Raw = Raw(b"")
    strict: bool | None = None


class FunctionTool(Request, frozen=True, tag="function"):
    """A tool that may be called."""

    function: Function


class CustomTool(Unmodelled, frozen=True, tag="custom"):
    """A tool with free-form input: known, not modelled."""


class FunctionName(Request, frozen=True):
    """A function, by name."""

    name: Name


class NamedFunction(Request, frozen=True, tag="function"):
    """The one function that must be called, or one of those allowed."""

    function: FunctionName


class AllowedTools(Request, frozen=True):
    """The tools that may be called this time, out of all that are defined."""

    mode: Literal["auto", "required"]
    tools: Annotated[list[NamedFunction | Unmodelled], Meta(min_length=1, max_length=MAX_TOOLS)]


class AllowedToolsChoice(Request, frozen=True, tag="allowed_tools"):
    """A choice among some of the tools."""

    allowed_tools: AllowedTools


class TextFormat(Request, frozen=True, tag="text"):
    """Free text."""


class JsonObjectFormat(Request, frozen=True, tag="json_object"):
    """Any JSON object."""


class JsonSchema(Request, frozen=True):
    """A schema that the answer must follow: given here with a ``name``, or registered with this server."""

    name: Name | None = None
    description: str | None = None
    schema: Raw = Raw(b"")
    strict: bool | None = None
    schema_id: Name | None = None
    schema_version: Version | Literal["latest"] | None = None


class JsonSchemaFormat(Request, frozen=True, tag="json_schema"):
    """JSON that follows a schema."""

    json_schema: JsonSchema


class StructuredOutputs(Request, frozen=True):
    """The answer's form in vLLM's words since 0.12; one of them."""

    json: Raw = Raw(b"")
    regex: Pattern | None = None
    choice: Alternatives | None = None
    grammar: str | None = None
    json_object: bool | None = None
    structural_tag: Raw = Raw(b"")


class StreamOptions(Request, frozen=True):
    """Options of a streamed answer."""

    include_usage: bool | None = None


class ChatRequest(Request, frozen=True):
    """The body of ``POST /v1/chat/completions``."""

    model: Name
    messages: Annotated[list[Message], Meta(min_length=1, max_length=MAX_MESSAGES)]
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: Count | None = None
    max_completion_tokens: Count | None = None
    temperature: Temperature | None = None
    top_p: Share | None = None
    top_k: Annotated[int, Meta(ge=-1, le=MAX_COUNT)] | None = None
    n: Choices | None = None
    seed: Seed | None = None
    stop: Stop | None = None
    frequency_penalty: Penalty | None = None
    presence_penalty: Penalty | None = None
    logit_bias: Biases | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    tools: Annotated[list[FunctionTool | CustomTool | Unmodelled], Meta(max_length=MAX_TOOLS)] | None = None
    tool_choice: (
        Literal["none", "auto", "required"] | NamedFunction | AllowedToolsChoice | Unmodelled | None
    ) = None
    parallel_tool_calls: bool | None = None
    response_format: TextFormat | JsonObjectFormat | JsonSchemaFormat | None = None
    guided_json: Raw = Raw(b"")
    guided_regex: Pattern | None = None
    guided_choice: Alternatives | None = None
    guided_grammar: str | None = None
    structured_outputs: StructuredOutputs | None = None
    stream_structured: Literal["partial", "validated"] | None = None
    reasoning_effort: Effort | None = None
    user: str | None = None
    functions: None = None
    function_call: None = None


class TextRequest(Request, frozen=True):
    """The body of ``POST /v1/completions``."""

    model: Name
    prompt: str | list[str | TokenId | list[TokenId]]
    suffix: str | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: Annotated[int, Meta(ge=0, le=MAX_COUNT)] | None = None
    temperature: Temperature | None = None
    top_p: Share | None = None
    top_k: Annotated[int, Meta(ge=-1, le=MAX_COUNT)] | None = None
    n: Choices | None = None
    seed: Seed | None = None
    stop: Stop | None = None
    frequency_penalty: Penalty | None = None
    presence_penalty: Penalty | None = None
    logit_bias: Biases | None = None
    logprobs: Annotated[int, Meta(ge=0, le=5)] | None = None
    echo: bool | None = None
    user: str | None = None


class EmbeddingsRequest(Request, frozen=True):
    """The body of ``POST /v1/embeddings``."""

    model: Name
    input: str | list[str | TokenId | list[TokenId]]
    dimensions: Count | None = None
    encoding_format: Literal["float", "base64"] | None = None
    user: str | None = None
