"""A caller's chat request, from OpenAI's body to a :class:`ChatCall`."""

from collections.abc import Mapping, Sequence

from msgspec import Raw

from llm_server.contract import (
    ChatCall,
    Image,
    Message,
    Opaque,
    OutputFormat,
    Part,
    Reasoning,
    Refusal,
    Role,
    Sampling,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
)
from llm_server.wire.images import image_from_url
from llm_server.wire.openai import types as wire
from llm_server.wire.reading import Reader, invalid
from llm_server.wire.shapes import Unmodelled

_LEGACY_FUNCTIONS = "Use 'tools' and 'tool_choice' instead of 'functions' and 'function_call'."
_NULL = b"null"

READER = Reader(
    wire.ChatRequest,
    {"functions": _LEGACY_FUNCTIONS, "function_call": _LEGACY_FUNCTIONS, "role": _LEGACY_FUNCTIONS},
)


def chat_call(body: bytes, headers: Mapping[str, str]) -> ChatCall:
    """Return the call that ``body`` asks for; raises ``INVALID_REQUEST`` as :meth:`Reader.read` does."""
    del headers  # none of OpenAI's own changes the meaning
    request = READER.read(body)
    choice, allowed = _tool_choice(request.tool_choice)
    tools = tuple(_tool(tool, at) for at, tool in enumerate(request.tools)) if request.tools else ()
    if allowed is not None:
        tools = tuple(tool for tool in tools if tool.name in allowed)
    return ChatCall(
        model=request.model,
        dialect="openai",
        raw=body,
        stream=request.stream or False,
        messages=tuple(_message(message, at) for at, message in enumerate(request.messages)),
        tools=tools,
        tool_choice=choice,
        parallel_tools=request.parallel_tool_calls,
        sampling=_sampling(request),
        output=_output(request.response_format),
        reasoning=_reasoning(request.reasoning_effort),
        user=request.user or "",
        include_usage=wants_usage(request.stream_options),
    )


def wants_usage(options: wire.StreamOptions | None) -> bool:
    """Whether the caller asked for usage at the end of a stream."""
    return options is not None and bool(options.include_usage)


def stop_sequences(stop: str | list[str] | None) -> tuple[str, ...]:
    """Return the stop sequences of either form."""
    return (stop,) if isinstance(stop, str) else tuple(stop or ())


def shared_sampling(
    request: wire.ChatRequest | wire.TextRequest, max_tokens: int | None, logprobs: int | None
) -> Sampling:
    """Return the sampling parameters that chat and completions have in common, and the two that differ."""
    top_k = request.top_k
    return Sampling(
        max_tokens=max_tokens,
        temperature=request.temperature,
        top_p=request.top_p,
        top_k=top_k if top_k is not None and top_k > 0 else None,
        seed=request.seed,
        stop=stop_sequences(request.stop),
        frequency_penalty=request.frequency_penalty,
        presence_penalty=request.presence_penalty,
        n=request.n or 1,
        logprobs=logprobs,
        logit_bias=request.logit_bias,
    )


def _sampling(request: wire.ChatRequest) -> Sampling:
    alternatives = request.top_logprobs
    if alternatives and not request.logprobs:
        raise invalid("top_logprobs", "'logprobs' must be true to ask for alternatives.")
    limit = request.max_completion_tokens if request.max_completion_tokens is not None else request.max_tokens
    return shared_sampling(request, limit, (alternatives or 0) if request.logprobs else None)


def _message(message: wire.Message, at: int) -> Message:
    match message:
        case wire.UserMessage():
            role = Role.USER
        case wire.AssistantMessage():
            return Message(Role.ASSISTANT, _said(message, at), message.name or "")
        case wire.ToolMessage():
            return Message(Role.TOOL, _tool_result(message, at))
        case _:
            role = Role.SYSTEM
    content = message.content
    parts = (Text(content),) if isinstance(content, str) else _parts(content, at)
    return Message(role, parts, message.name or "")


_ContentPart = wire.TextPart | wire.ImagePart | wire.RefusalPart | Unmodelled


def _parts(content: Sequence[_ContentPart], message: int) -> tuple[Text | Image | Refusal | Opaque, ...]:
    return tuple(_part(part, message, at) for at, part in enumerate(content))


def _part(part: _ContentPart, message: int, at: int) -> Text | Image | Refusal | Opaque:
    match part:
        case wire.TextPart():
            return Text(part.text)
        case wire.ImagePart():
            image = image_from_url(part.image_url.url, part.image_url.detail or "")
            if image is None:
                where = f"messages[{message}].content[{at}].image_url.url"
                raise invalid(where, "expected an http(s) URL or a base64 data: URL of an image.")
            return image
        case wire.RefusalPart():
            return Refusal(part.refusal)
        case Unmodelled():
            return Opaque(part.kind)


def _said(message: wire.AssistantMessage, at: int) -> tuple[Part, ...]:
    parts: list[Part] = []
    if thought := message.reasoning_content or message.reasoning:
        parts.append(Thinking(text=thought))
    if isinstance(message.content, str):
        parts.append(Text(message.content))
    elif message.content:
        parts += _parts(message.content, at)
    if message.refusal:
        parts.append(Refusal(message.refusal))
    for call in message.tool_calls or ():
        match call:
            case wire.FunctionToolCall():
                parts.append(ToolCall(call.id, call.function.name, call.function.arguments))
            case Unmodelled():
                parts.append(Opaque(f"{call.kind} tool call"))
    return tuple(parts)


def _tool_result(message: wire.ToolMessage, at: int) -> tuple[Part, ...]:
    """The result; parts that a result cannot hold stand beside it, so that a translation still meets them."""
    content = message.content
    if isinstance(content, str):
        return (ToolResult(call_id=message.tool_call_id, parts=(Text(content),)),)
    parts = _parts(content, at)
    held = tuple(part for part in parts if isinstance(part, (Text, Image)))
    return (
        ToolResult(call_id=message.tool_call_id, parts=held),
        *(part for part in parts if isinstance(part, Opaque)),
    )


def _tool(tool: wire.FunctionTool | Unmodelled, at: int) -> Tool:
    if isinstance(tool, Unmodelled):
        return Tool(name=tool.kind, type=tool.kind)
    function = tool.function
    return Tool(
        name=function.name,
        description=function.description or "",
        parameters=schema_object(function.parameters, f"tools[{at}].function.parameters"),
        strict=function.strict,
    )


def schema_object(schema: Raw, path: str) -> Raw:
    """Return a JSON Schema's bytes, empty for none or null; a schema that is not an object is refused at ``path``."""
    text = bytes(schema)
    if not text or text == _NULL:
        return Raw(b"")
    if text[:1] != b"{":
        raise invalid(path, "expected a JSON Schema object.")
    return schema


def _tool_choice(choice: object) -> tuple[ToolChoice | None, frozenset[str] | None]:
    """Return the choice, and the names of the allowed tools when it allows only some."""
    match choice:
        case "auto" | "none" | "required":
            return ToolChoice(choice), None
        case wire.NamedFunction():
            return ToolChoice("tool", choice.function.name), None
        case wire.AllowedToolsChoice():
            some = choice.allowed_tools
            names = [tool.function.name for tool in some.tools if isinstance(tool, wire.NamedFunction)]
            return ToolChoice(some.mode), frozenset(names)
        case Unmodelled():
            return ToolChoice("tool", choice.kind), None
    return None, None


def _output(
    form: wire.TextFormat | wire.JsonObjectFormat | wire.JsonSchemaFormat | None,
) -> OutputFormat | None:
    match form:
        case wire.JsonObjectFormat():
            return OutputFormat(kind="json_object")
        case wire.JsonSchemaFormat():
            schema = form.json_schema
            return OutputFormat(
                kind="json_schema",
                schema=schema_object(schema.schema, "response_format.json_schema.schema"),
                name=schema.name,
                description=schema.description or "",
                strict=schema.strict,
            )
    return None


def _reasoning(effort: str | None) -> Reasoning | None:
    return Reasoning(effort=effort, enabled=effort != "none") if effort else None
