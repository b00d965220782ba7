"""A caller's chat request, from OpenAI's body to a :class:`ChatCall`."""

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from llm_server.contract import (
    ChatCall,
    Image,
    Message,
    Opaque,
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
from llm_server.wire.forms import stream_structured
from llm_server.wire.images import image_from_url
from llm_server.wire.openai import types as wire
from llm_server.wire.openai.forms import output_format
from llm_server.wire.reading import Reader, check_choice, check_parts, invalid, object_or_empty
from llm_server.wire.shapes import Unmodelled

_LEGACY_FUNCTIONS = "Use 'tools' and 'tool_choice' instead of 'functions' and 'function_call'."

_SYSTEM, _USER, _ASSISTANT = Role.SYSTEM, Role.USER, Role.ASSISTANT

READER = Reader(wire.ChatRequest, {"functions": _LEGACY_FUNCTIONS, "function_call": _LEGACY_FUNCTIONS})


def chat_call(body: bytes, headers: Mapping[str, str]) -> ChatCall:
    """Return the call that ``body`` asks for; raises ``INVALID_REQUEST`` as :meth:`Reader.read` does."""
    request = READER.read(body)
    check_parts(request.messages, wire.MAX_PARTS)
    offered = request.tools is not None or request.tool_choice is not None
    tools, choice = _tools(request) if offered else ((), None)
    return ChatCall(
        model=request.model,
        dialect="openai",
        raw=body,
        stream=request.stream or False,
        messages=tuple(
            [_MESSAGES[type(message)](message, at) for at, message in enumerate(request.messages)]
        ),
        tools=tools,
        tool_choice=choice,
        parallel_tools=request.parallel_tool_calls,
        sampling=_sampling(request),
        output=output_format(request),
        stream_structured=stream_structured(request.stream_structured, headers),
        reasoning=_reasoning(request.reasoning_effort) if request.reasoning_effort else None,
        user=request.user or "",
        include_usage=wants_usage(request.stream_options),
    )


def _tools(request: wire.ChatRequest) -> tuple[tuple[Tool, ...], ToolChoice | None]:
    """Return the tools that may be called, and the choice among them."""
    choice, allowed = _tool_choice(request.tool_choice)
    check_choice(choice, request.tools)
    tools = tuple([_tool(tool, at) for at, tool in enumerate(request.tools or ())])
    if allowed is not None:
        tools = tuple(tool for tool in tools if tool.name in allowed)
    return tools, choice


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
    top_k = top_k if top_k is not None and top_k > 0 else None
    if request.stop is None and request.logit_bias is None:
        return _simple_sampling(
            max_tokens,
            request.temperature,
            request.top_p,
            top_k,
            request.seed,
            request.frequency_penalty,
            request.presence_penalty,
            request.n or 1,
            logprobs,
        )
    return Sampling(
        max_tokens=max_tokens,
        temperature=request.temperature,
        top_p=request.top_p,
        top_k=top_k,
        seed=request.seed,
        stop=stop_sequences(request.stop),
        frequency_penalty=request.frequency_penalty,
        presence_penalty=request.presence_penalty,
        n=request.n or 1,
        logprobs=logprobs,
        logit_bias=request.logit_bias,
    )


@lru_cache(maxsize=1024)
def _simple_sampling(*values: Any) -> Sampling:
    """Return parameters in the order of their names: applications ask with the same ones again and again."""
    return Sampling(**dict(zip(_SIMPLE, values, strict=True)))


_SIMPLE = (
    "max_tokens",
    "temperature",
    "top_p",
    "top_k",
    "seed",
    "frequency_penalty",
    "presence_penalty",
    "n",
    "logprobs",
)


def _sampling(request: wire.ChatRequest) -> Sampling:
    alternatives = request.top_logprobs
    if alternatives and not request.logprobs:
        raise invalid("top_logprobs", "'logprobs' must be true to ask for alternatives.")
    limit = request.max_completion_tokens if request.max_completion_tokens is not None else request.max_tokens
    return shared_sampling(request, limit, (alternatives or 0) if request.logprobs else None)


def _user(message: wire.UserMessage, at: int) -> Message:
    return Message(_USER, _parts(message.content, at), message.name or "")


def _system(message: wire.SystemMessage | wire.DeveloperMessage, at: int) -> Message:
    return Message(_SYSTEM, _parts(message.content, at), message.name or "")


def _assistant(message: wire.AssistantMessage, at: int) -> Message:
    parts: list[Part] = []
    if thought := message.reasoning_content or message.reasoning:
        parts.append(Thinking(text=thought))
    if message.content is not None:
        parts += _parts(message.content, at)
    if message.refusal:
        parts.append(Refusal(message.refusal))
    if message.tool_calls:
        parts += [_PARTS[type(call)](call, at, 0) for call in message.tool_calls]
    return Message(_ASSISTANT, tuple(parts), message.name or "")


def _tool_result(message: wire.ToolMessage, at: int) -> Message:
    """The result; parts that a result cannot hold stand beside it, so that a translation still meets them."""
    parts = _parts(message.content, at)
    held = tuple(part for part in parts if isinstance(part, (Text, Image)))
    beside = (part for part in parts if isinstance(part, Opaque))
    return Message(Role.TOOL, (ToolResult(call_id=message.tool_call_id, parts=held), *beside))


_MESSAGES: dict[type, Callable[[Any, int], Message]] = {
    wire.SystemMessage: _system,
    wire.DeveloperMessage: _system,
    wire.UserMessage: _user,
    wire.AssistantMessage: _assistant,
    wire.ToolMessage: _tool_result,
}
"""How each message is read; a table, because asking one type after the other costs more than the reading."""


def _parts(content: str | Sequence[object], message: int) -> tuple[Part, ...]:
    if isinstance(content, str):
        return (Text(content),)
    return tuple([_PARTS[type(part)](part, message, at) for at, part in enumerate(content)])


def _image(part: wire.ImagePart, message: int, at: int) -> Image:
    image = image_from_url(part.image_url.url, part.image_url.detail or "")
    if image is None:
        where = f"messages[{message}].content[{at}].image_url.url"
        raise invalid(where, "expected an http(s) URL or a base64 data: URL of an image.")
    return image


def _opaque(part: Unmodelled, _message: int, _at: int) -> Opaque:
    return Opaque(part.kind)


_PARTS: dict[type, Callable[[Any, int, int], Part]] = {
    wire.TextPart: lambda part, _message, _at: Text(part.text),
    wire.ImagePart: _image,
    wire.RefusalPart: lambda part, _message, _at: Refusal(part.refusal),
    wire.FunctionToolCall: lambda call, _message, _at: ToolCall(
        call.id, call.function.name, call.function.arguments
    ),
    wire.AudioPart: _opaque,
    wire.FilePart: _opaque,
    wire.CustomToolCall: lambda call, _message, _at: Opaque(f"{call.kind} tool call"),
    Unmodelled: _opaque,
}
"""How each part is read, with its place for error messages: the message's number and its own."""


def _tool(tool: wire.FunctionTool | Unmodelled, at: int) -> Tool:
    if isinstance(tool, Unmodelled):
        return Tool(name=tool.kind, type=tool.kind)
    function = tool.function
    schema = object_or_empty(function.parameters)
    if schema is None:
        raise invalid(f"tools[{at}].function.parameters", "expected a JSON Schema object.")
    return Tool(
        name=function.name, description=function.description or "", parameters=schema, strict=function.strict
    )


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


def _reasoning(effort: str) -> Reasoning:
    return Reasoning(effort=effort, enabled=effort != "none")
