"""A caller's messages or count request, from Anthropic's body to a call."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from llm_server.contract import (
    ChatCall,
    CountCall,
    Image,
    Message,
    Opaque,
    OutputFormat,
    Part,
    Reasoning,
    Role,
    Sampling,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
)
from llm_server.wire.anthropic import types as wire
from llm_server.wire.forms import registered, stream_structured
from llm_server.wire.images import image_from_url
from llm_server.wire.reading import Reader, check_choice, check_parts, invalid, object_or_empty
from llm_server.wire.shapes import Unmodelled

HEADERS = ("anthropic-version", "anthropic-beta")
"""Request headers that belong to the dialect and go upstream byte for byte."""

READER = Reader(wire.MessagesRequest)
COUNT_READER = Reader(wire.CountRequest)


def chat_call(body: bytes, headers: Mapping[str, str]) -> ChatCall:
    """Return the call that ``body`` asks for; raises ``INVALID_REQUEST`` as :meth:`Reader.read` does."""
    request = READER.read(body)
    sampling = Sampling(
        max_tokens=request.max_tokens,
        temperature=request.temperature,
        top_p=request.top_p,
        top_k=request.top_k or None,
        stop=tuple(request.stop_sequences or ()),
    )
    user = request.metadata.user_id or "" if request.metadata else ""
    return ChatCall(
        raw=body,
        stream=request.stream or False,
        sampling=sampling,
        user=user,
        stream_structured=stream_structured(request.stream_structured, headers),
        **_shared(request, headers),
    )


def count_call(body: bytes, headers: Mapping[str, str]) -> CountCall:
    """Return the count that ``body`` asks for; raises ``INVALID_REQUEST`` as :meth:`Reader.read` does."""
    return CountCall(raw=body, **_shared(COUNT_READER.read(body), headers))


def _shared(request: wire.CountRequest, headers: Mapping[str, str]) -> dict[str, Any]:
    check_parts(request.messages, wire.MAX_PARTS)
    messages = [_message(message, at) for at, message in enumerate(request.messages)]
    if request.system:
        messages.insert(0, Message(Role.SYSTEM, _parts(request.system, "system")))
    choice, parallel = _tool_choice(request.tool_choice)
    check_choice(choice, request.tools)
    return {
        "model": request.model,
        "dialect": "anthropic",
        "headers": tuple((name, headers[name]) for name in HEADERS if name in headers),
        "messages": tuple(messages),
        "tools": tuple([_tool(tool, at) for at, tool in enumerate(request.tools or ())]),
        "tool_choice": choice,
        "parallel_tools": parallel,
        "output": _output(request),
        "reasoning": _reasoning(request),
    }


_ROLES: dict[type, Role] = {
    wire.UserMessage: Role.USER,
    wire.AssistantMessage: Role.ASSISTANT,
    wire.SystemMessage: Role.SYSTEM,
}


def _message(message: wire.Message, at: int) -> Message:
    content = message.content
    if isinstance(content, str):
        return Message(_ROLES[type(message)], (Text(content),))
    return Message(_ROLES[type(message)], _parts(content, f"messages[{at}].content"))


def _parts(content: str | Sequence[object], path: str) -> tuple[Part, ...]:
    if isinstance(content, str):
        return (Text(content),)
    parts: list[Part] = []
    for at, block in enumerate(content):
        parts += _PARTS.get(type(block), _opaque)(block, path, at)
    return tuple(parts)


def _text(block: wire.TextBlock, _path: str, _at: int) -> tuple[Text]:
    return (Text(block.text),)


def _image(block: wire.ImageBlock, path: str, at: int) -> tuple[Image | Opaque]:
    source = block.source
    if isinstance(source, Unmodelled):
        return (Opaque(f"image from {source.kind}"),)
    if isinstance(source, wire.Base64Source):
        return (Image(data=source.data, media_type=source.media_type),)
    image = image_from_url(source.url)
    if image is None:
        raise invalid(f"{path}[{at}].source.url", "expected an http(s) URL.")
    return (image,)


def _thinking(block: wire.ThinkingBlock, _path: str, _at: int) -> tuple[Thinking]:
    return (Thinking(text=block.thinking, signature=block.signature),)


def _redacted(block: wire.RedactedThinkingBlock, _path: str, _at: int) -> tuple[Thinking]:
    return (Thinking(signature=block.data, redacted=True),)


def _tool_use(block: wire.ToolUseBlock, path: str, at: int) -> tuple[ToolCall]:
    arguments = object_or_empty(block.input)
    if not arguments:
        raise invalid(f"{path}[{at}].input", "expected an object.")
    return (ToolCall(block.id, block.name, bytes(arguments).decode()),)


def _tool_result(block: wire.ToolResultBlock, path: str, at: int) -> tuple[Part, ...]:
    """The result; parts that a result cannot hold stand beside it, so that a translation still meets them."""
    parts = _parts(block.content or (), f"{path}[{at}].content")
    held = tuple(part for part in parts if isinstance(part, (Text, Image)))
    beside = (part for part in parts if isinstance(part, Opaque))
    return (ToolResult(call_id=block.tool_use_id, parts=held, is_error=block.is_error or False), *beside)


def _opaque(block: Unmodelled, _path: str, _at: int) -> tuple[Opaque]:
    return (Opaque(block.kind),)


_PARTS: dict[type, Callable[[Any, str, int], tuple[Part, ...]]] = {
    wire.TextBlock: _text,
    wire.ImageBlock: _image,
    wire.ThinkingBlock: _thinking,
    wire.RedactedThinkingBlock: _redacted,
    wire.ToolUseBlock: _tool_use,
    wire.ToolResultBlock: _tool_result,
}
"""How each block is read, with its place for error messages; any other is opaque."""


def _tool(tool: wire.Tool, at: int) -> Tool:
    if tool.type not in {None, "custom"}:
        return Tool(name=tool.name or tool.type or "", type=tool.type or "")
    schema = object_or_empty(tool.input_schema)
    if not schema:
        raise invalid(f"tools[{at}].input_schema", "expected a JSON Schema object; this field is required.")
    if tool.name is None:
        raise invalid(f"tools[{at}].name", "this field is required.")
    return Tool(name=tool.name, description=tool.description or "", parameters=schema, strict=tool.strict)


def _tool_choice(choice: object) -> tuple[ToolChoice | None, bool | None]:
    """Return the choice, and whether tools may be called in parallel when the caller says so."""
    parallel = getattr(choice, "disable_parallel_tool_use", None)
    allowed = None if parallel is None else not parallel
    match choice:
        case wire.AutoChoice():
            return ToolChoice("auto"), allowed
        case wire.AnyChoice():
            return ToolChoice("required"), allowed
        case wire.ToolChoice():
            return ToolChoice("tool", choice.name), allowed
        case wire.NoneChoice():
            return ToolChoice("none"), None
    return None, None


def _output(request: wire.CountRequest) -> OutputFormat | None:
    """``output_format`` is the older place of ``output_config.format``; Anthropic always holds to it."""
    config = request.output_config
    form, path = (
        (config.format, "output_config.format") if config and config.format else (None, "output_format")
    )
    form = form or request.output_format
    if form is None:
        return None
    if form.schema_id is not None:
        named = registered(form.schema_id, form.schema_version, form.schema, f"{path}.schema")
        return msgspec.structs.replace(named, strict=True)
    schema = object_or_empty(form.schema)
    if not schema:
        raise invalid(f"{path}.schema", "expected a JSON Schema object.")
    return OutputFormat(kind="json_schema", schema=schema, strict=True)


def _reasoning(request: wire.CountRequest) -> Reasoning | None:
    thinking = request.thinking
    effort = (request.output_config.effort if request.output_config else None) or ""
    if isinstance(thinking, wire.ThinkingEnabled):
        return Reasoning(effort=effort, budget_tokens=thinking.budget_tokens)
    if thinking is not None or effort:
        return Reasoning(effort=effort, enabled=not isinstance(thinking, wire.ThinkingDisabled))
    return None
