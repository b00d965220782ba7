"""OpenAI's requests and answers as models. They accept and refuse what :mod:`llm_server.wire.openai` does."""

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
from llm_server.wire.openai import types as wire
from llm_server.wire.openai.prompts import MAX_INPUTS

Name = Annotated[str, Field(min_length=1, max_length=256)]
Count = Annotated[int, Field(ge=1, le=wire.MAX_COUNT)]
TokenId = Annotated[int, Field(ge=0, le=wire.MAX_COUNT)]
TokenIds = Annotated[list[TokenId], Field(min_length=1)]
Inputs = (
    str
    | Annotated[list[str], Field(min_length=1, max_length=MAX_INPUTS)]
    | TokenIds
    | Annotated[list[TokenIds], Field(min_length=1, max_length=MAX_INPUTS)]
)


Pattern = Annotated[str, Field(min_length=1, max_length=wire.MAX_PATTERN)]
Alternatives = Annotated[list[str], Field(min_length=1, max_length=wire.MAX_ALTERNATIVES)]


class TextPart(RequestModel):
    """Text."""

    type: Literal["text"]
    text: str = Field(examples=["What is in this picture?"])


class ImageURL(RequestModel):
    """Where an image is, or the image itself."""

    url: ImageUrl = Field(description="`https:`, `http:` or a base64 `data:` URL.")
    detail: Literal["auto", "low", "high", "original"] | None = None


class ImagePart(RequestModel):
    """An image."""

    type: Literal["image_url"]
    image_url: ImageURL


class RefusalPart(RequestModel):
    """A refusal of the model, given back."""

    type: Literal["refusal"]
    refusal: str


Other = Annotated[OtherPart, Tag("other")]
TextOrOther = Annotated[Annotated[TextPart, Tag("text")] | Other, Discriminator(by_type("text"))]
TextImageOrOther = Annotated[
    Annotated[TextPart, Tag("text")] | Annotated[ImagePart, Tag("image_url")] | Other,
    Discriminator(by_type("text", "image_url")),
]
TextRefusalOrOther = Annotated[
    Annotated[TextPart, Tag("text")] | Annotated[RefusalPart, Tag("refusal")] | Other,
    Discriminator(by_type("text", "refusal")),
]


class CalledFunction(RequestModel):
    """The function that a model called."""

    name: str = Field(examples=["get_weather"])
    arguments: str = Field(description="JSON text as the model wrote it.", examples=['{"city": "Paris"}'])


class ToolCall(RequestModel):
    """A tool call."""

    id: str = Field(examples=["call_1"])
    type: Literal["function"] | None = Field(default=None, description="`function` when left out.")
    function: CalledFunction


class SystemMessage(RequestModel):
    """Instructions."""

    role: Literal["system"]
    content: str | list[TextOrOther]
    name: str | None = None


class DeveloperMessage(RequestModel):
    """Instructions, under the newer name."""

    role: Literal["developer"]
    content: str | list[TextOrOther]
    name: str | None = None


class UserMessage(RequestModel):
    """What the user says."""

    role: Literal["user"]
    content: str | list[TextImageOrOther]
    name: str | None = None


class AssistantMessage(RequestModel):
    """What the model said before."""

    role: Literal["assistant"]
    content: str | list[TextRefusalOrOther] | None = None
    refusal: str | None = None
    reasoning_content: str | None = Field(default=None, description="What the model thought before.")
    reasoning: str | None = Field(default=None, description="Another name of `reasoning_content`.")
    tool_calls: (
        list[
            Annotated[
                Annotated[ToolCall, Tag("function")] | Other,
                Discriminator(by_type("function", assumed="function")),
            ]
        ]
        | None
    ) = None
    function_call: None = Field(default=None, description="No longer supported: use `tool_calls`.")
    name: str | None = None


class ToolMessage(RequestModel):
    """What a tool answered."""

    role: Literal["tool"]
    content: str | list[TextImageOrOther]
    tool_call_id: str


Message = Annotated[
    SystemMessage | DeveloperMessage | UserMessage | AssistantMessage | ToolMessage,
    Field(discriminator="role"),
]


class Function(RequestModel):
    """A function that the model may call."""

    name: Name = Field(examples=["get_weather"])
    description: str | None = None
    parameters: dict[str, Any] | None = Field(default=None, description="JSON Schema of the arguments.")
    strict: bool | None = None


class FunctionTool(RequestModel):
    """A tool that the model may call."""

    type: Literal["function"]
    function: Function


class FunctionName(RequestModel):
    """A function, by name."""

    name: Name


class NamedFunction(RequestModel):
    """A function tool, by name."""

    type: Literal["function"]
    function: FunctionName


NamedOrOther = Annotated[
    Annotated[NamedFunction, Tag("function")] | Other, Discriminator(by_type("function"))
]


class AllowedTools(RequestModel):
    """Some of the tools."""

    mode: Literal["auto", "required"]
    tools: list[NamedOrOther] = Field(min_length=1, max_length=wire.MAX_TOOLS)


class AllowedToolsChoice(RequestModel):
    """A choice among some of the tools."""

    type: Literal["allowed_tools"]
    allowed_tools: AllowedTools


class TextFormat(RequestModel):
    """Free text."""

    type: Literal["text"]


class JsonObjectFormat(RequestModel):
    """Any JSON object."""

    type: Literal["json_object"]


class JsonSchema(RequestModel):
    """A schema that the answer must follow."""

    name: Name | None = Field(default=None, description="Required with a schema of the caller's own.")
    description: str | None = None
    schema_: dict[str, Any] | None = Field(default=None, alias="schema", description="JSON Schema.")
    strict: bool | None = None
    schema_id: Name | None = Field(default=None, description="A registered schema, instead of `schema`.")
    schema_version: SchemaVersion = Field(default=None, description="Its version; by default the latest.")

    @model_validator(mode="after")
    def _one_schema(self) -> Self:
        if self.name is None and self.schema_id is None:
            raise ValueError("give 'name'")
        if self.schema_ is not None and self.schema_id is not None:
            raise ValueError("give either 'schema' or 'schema_id'")
        return self


class StructuredOutputs(RequestModel):
    """The answer's form in vLLM's words since 0.12: one of them."""

    json_: dict[str, Any] | None = Field(default=None, alias="json", description="JSON Schema.")
    regex: Pattern | None = None
    choice: Alternatives | None = None
    grammar: str | None = Field(default=None, description="Lark or EBNF.")
    json_object: bool | None = None
    structural_tag: None = Field(default=None, description="Not supported.")


class JsonSchemaFormat(RequestModel):
    """JSON that follows a schema."""

    type: Literal["json_schema"]
    json_schema: JsonSchema


class StreamOptions(RequestModel):
    """Options of a streamed answer."""

    include_usage: bool | None = Field(default=None, description="Send a last chunk with the usage.")


class Sampled(RequestModel):
    """What chat and completions requests have in common."""

    model: Name = Field(
        description="`provider/model`, or a configured name.", examples=["local/smollm2-135m"]
    )
    stream: bool | None = Field(default=None, description="Answer as server-sent events.")
    stream_options: StreamOptions | None = None
    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, ge=0, le=1)
    top_k: int | None = Field(
        default=None, ge=-1, le=wire.MAX_COUNT, description="Not OpenAI's; -1 and 0 mean off."
    )
    n: int | None = Field(default=None, ge=1, le=wire.MAX_CHOICES, description="Number of choices.")
    seed: int | None = Field(default=None, ge=-wire.MAX_SEED - 1, le=wire.MAX_SEED)
    stop: str | Annotated[list[str], Field(max_length=wire.MAX_STOP)] | None = None
    frequency_penalty: float | None = Field(default=None, ge=-2, le=2)
    presence_penalty: float | None = Field(default=None, ge=-2, le=2)
    logit_bias: dict[str, Annotated[float, Field(ge=-100, le=100)]] | None = Field(
        default=None, max_length=wire.MAX_BIASES, description="Bias by token id."
    )
    user: str | None = Field(default=None, description="Your end user, for abuse detection upstream.")


class ChatCompletionRequest(Sampled):
    """Continue a conversation."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"model": "local/smollm2-135m", "messages": [{"role": "user", "content": "Say hello."}]}
            ]
        }
    )

    messages: list[Message] = Field(min_length=1, max_length=wire.MAX_MESSAGES)
    max_tokens: Count | None = Field(default=None, description="Older name of `max_completion_tokens`.")
    max_completion_tokens: Count | None = Field(
        default=None, description="Bound on output tokens, thinking included."
    )
    logprobs: bool | None = Field(default=None, description="Return log probabilities of the output tokens.")
    top_logprobs: int | None = Field(default=None, ge=0, le=20, description="Needs `logprobs`.")
    tools: (
        Annotated[
            list[
                Annotated[
                    Annotated[FunctionTool, Tag("function")] | Other, Discriminator(by_type("function"))
                ]
            ],
            Field(max_length=wire.MAX_TOOLS),
        ]
        | None
    ) = None
    tool_choice: (
        Literal["none", "auto", "required"]
        | Annotated[
            Annotated[NamedFunction, Tag("function")]
            | Annotated[AllowedToolsChoice, Tag("allowed_tools")]
            | Other,
            Discriminator(by_type("function", "allowed_tools")),
        ]
        | None
    ) = None
    parallel_tool_calls: bool | None = None
    response_format: (
        Annotated[TextFormat | JsonObjectFormat | JsonSchemaFormat, Field(discriminator="type")] | None
    ) = None
    guided_json: dict[str, Any] | None = Field(default=None, description="JSON Schema, in vLLM's words.")
    guided_regex: Pattern | None = Field(default=None, description="The whole answer matches this.")
    guided_choice: Alternatives | None = Field(default=None, description="The answer is one of these.")
    guided_grammar: str | None = Field(default=None, description="Lark or EBNF; for models held to grammars.")
    structured_outputs: StructuredOutputs | None = None
    stream_structured: StreamStructured
    reasoning_effort: wire.Effort | None = Field(default=None, description="How much to think.")
    functions: None = Field(default=None, description="No longer supported: use `tools`.")
    function_call: None = Field(default=None, description="No longer supported: use `tool_choice`.")

    @model_validator(mode="after")
    def _one_form(self) -> Self:
        guided = (self.guided_json, self.guided_regex, self.guided_choice, self.guided_grammar)
        more = self.structured_outputs or StructuredOutputs()
        asked = (*guided, more.json_, more.regex, more.choice, more.grammar, more.json_object or None)
        plain = self.response_format is None or self.response_format.type == "text"
        if sum(form is not None for form in asked) + (not plain) > 1:
            raise ValueError("the answer can have one form only")
        return self

    @model_validator(mode="after")
    def _alternatives_need_logprobs(self) -> Self:
        if self.top_logprobs and not self.logprobs:
            raise ValueError("'logprobs' must be true to ask for 'top_logprobs'")
        return self

    @model_validator(mode="after")
    def _choice_needs_tools(self) -> Self:
        choice = self.tool_choice
        mode = choice.allowed_tools.mode if isinstance(choice, AllowedToolsChoice) else choice
        check_choice(mode not in {None, "auto", "none"}, self.tools)
        return self


class CompletionRequest(Sampled):
    """Continue prompts: OpenAI's legacy form."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"model": "local/smollm2-135m", "prompt": "Once upon a time"}]}
    )

    prompt: Inputs = Field(description="A text, texts, token ids, or lists of token ids.")
    suffix: str | None = None
    max_tokens: int | None = Field(default=None, ge=0, le=wire.MAX_COUNT)
    logprobs: int | None = Field(default=None, ge=0, le=5)
    echo: bool | None = Field(default=None, description="Repeat the prompt before the continuation.")


class EmbeddingRequest(RequestModel):
    """Embed texts."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"model": "openai/text-embedding-3-small", "input": ["first", "second"]}]
        }
    )

    model: Name = Field(description="`provider/model`, or a configured name.")
    input: Inputs = Field(description="A text, texts, token ids, or lists of token ids.")
    dimensions: Count | None = None
    encoding_format: Literal["float", "base64"] | None = Field(
        default=None, description="`base64` is little-endian float32."
    )
    user: str | None = None


class PromptTokensDetails(AnswerModel):
    """Which input tokens were cheap or dear."""

    cached_tokens: int = 0
    cache_write_tokens: int | None = None


class CompletionTokensDetails(AnswerModel):
    """Which output tokens were thought."""

    reasoning_tokens: int = 0


class Usage(AnswerModel):
    """Tokens billed."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptTokensDetails | None = None
    completion_tokens_details: CompletionTokensDetails | None = None


class AnsweredFunction(AnswerModel):
    """The function that the model calls."""

    name: str
    arguments: str = Field(description="JSON text as the model wrote it.")


class AnsweredToolCall(AnswerModel):
    """A tool call of the model."""

    id: str
    type: Literal["function"]
    function: AnsweredFunction


class AnsweredMessage(AnswerModel):
    """What the model says."""

    role: Literal["assistant"]
    content: str | None = None
    refusal: str | None = None
    reasoning_content: str | None = Field(default=None, description="What the model thought.")
    tool_calls: list[AnsweredToolCall] | None = None


class ChatChoice(AnswerModel):
    """One alternative answer."""

    index: int
    message: AnsweredMessage
    logprobs: dict[str, Any] | None = None
    finish_reason: Literal["stop", "length", "tool_calls", "content_filter", "function_call"]


class ChatCompletion(AnswerModel):
    """A whole answer to a chat request."""

    id: str = Field(examples=["chatcmpl-9f0c"])
    object: Literal["chat.completion"]
    created: int = Field(description="Unix time in seconds.")
    model: str
    choices: list[ChatChoice]
    usage: Usage | None = None


class TextChoice(AnswerModel):
    """One continuation of one prompt; `index` counts all choices of the first prompt, then of the second."""

    text: str
    index: int
    logprobs: dict[str, Any] | None = None
    finish_reason: Literal["stop", "length", "content_filter", "tool_calls"]


class TextCompletion(AnswerModel):
    """A whole answer to a completions request."""

    id: str = Field(examples=["cmpl-9f0c"])
    object: Literal["text_completion"]
    created: int = Field(description="Unix time in seconds.")
    model: str
    choices: list[TextChoice]
    usage: Usage | None = None


class Embedding(AnswerModel):
    """One vector."""

    object: Literal["embedding"]
    index: int
    embedding: list[float] | str = Field(description="Numbers, or base64 of little-endian float32.")


class EmbeddingUsage(AnswerModel):
    """Tokens billed."""

    prompt_tokens: int
    total_tokens: int


class EmbeddingList(AnswerModel):
    """Vectors in the order of the inputs."""

    object: Literal["list"]
    data: list[Embedding]
    model: str
    usage: EmbeddingUsage
