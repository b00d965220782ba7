"""A conversation as Cohere's messages: system, user, assistant and tool.

Source: https://docs.cohere.com/reference/chat (``messages``); ``cohere`` 7.3, ``types/chat_message_v2.py``;
tool results: https://docs.cohere.com/docs/tool-use-overview; images:
https://docs.cohere.com/docs/image-inputs.
"""

from collections.abc import Iterable
from typing import Any

from msgspec import DecodeError, json

from llm_server.contract import (
    ErrorKind,
    Image,
    Message,
    Opaque,
    Part,
    Refusal,
    Role,
    ServerError,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
)

Messages = list[dict[str, Any]]


def conversation(messages: tuple[Message, ...], dropped: list[str]) -> Messages:
    """Return ``messages`` as Cohere's.

    Only one system message is taken, and only as the first: the leading system turns are joined, later ones
    become user text where they stand, and ``dropped`` says so. Tool results are messages of their own.

    Raises:
        ServerError: ``UNSUPPORTED`` for content that cannot be said.
    """
    written: Messages = []
    system: list[str] = []
    for at, message in enumerate(messages):
        if message.name:
            dropped.append("messages.name")
        if message.role is Role.SYSTEM and not written:
            system.append(_only_text(message, f"messages[{at}]"))
        elif message.role is Role.ASSISTANT:
            written += _assistant(message, f"messages[{at}]", dropped)
        else:
            if message.role is Role.SYSTEM:
                dropped.append("mid_conversation_system")
            written += _user(message, f"messages[{at}]", dropped)
    if instruction := "\n\n".join(filter(None, system)):
        written.insert(0, {"role": "system", "content": instruction})
    return written


def _refuse(part: Part, param: str) -> ServerError:
    kind = part.type if isinstance(part, Opaque) else type(part).__name__
    message = f"Content of type {kind!r} cannot be sent to this provider here."
    return ServerError(ErrorKind.UNSUPPORTED, message, param=param)


def _only_text(message: Message, param: str) -> str:
    for part in message.parts:
        if not isinstance(part, Text):
            raise _refuse(part, param)
    return message.text


def _assistant(message: Message, param: str, dropped: list[str]) -> Messages:
    """Return an assistant turn; text next to tool calls is their plan (see ``response.py``)."""
    blocks: Messages = []
    calls: Messages = []
    for part in message.parts:
        match part:
            case Text() | Refusal():
                blocks += [{"type": "text", "text": part.text}] if part.text else []
            case Thinking(signature=""):
                blocks += [{"type": "thinking", "thinking": part.text}] if part.text else []
            case Thinking():
                dropped.append("thinking")
            case ToolCall():
                function = {"name": part.name, "arguments": part.arguments or "{}"}
                calls.append({"id": part.id, "type": "function", "function": function})
            case _:
                raise _refuse(part, param)
    return _assistant_turn(blocks, calls)


def _assistant_turn(blocks: Messages, calls: Messages) -> Messages:
    turn: dict[str, Any] = {"role": "assistant"}
    if calls:
        turn["tool_calls"] = calls
        plan = "".join(block["text"] for block in blocks if block["type"] == "text")
        blocks = [block for block in blocks if block["type"] != "text"]
        turn |= {"tool_plan": plan} if plan else {}
    if blocks:
        turn["content"] = _content(blocks)
    return [turn] if calls or blocks else []


def _user(message: Message, param: str, dropped: list[str]) -> Messages:
    """Return the tool messages in a turn, then what else the user said."""
    results: Messages = []
    blocks: Messages = []
    for part in message.parts:
        match part:
            case Text():
                blocks += [{"type": "text", "text": part.text}] if part.text else []
            case Image():
                blocks.append({"type": "image_url", "image_url": _image(part)})
            case ToolResult():
                results.append(_result(part, param))
            case Thinking():
                dropped.append("thinking")
            case _:
                raise _refuse(part, param)
    return [*results, {"role": "user", "content": _content(blocks)}] if blocks else results


def _content(blocks: Messages) -> str | Messages:
    """Return plain text as a string, the form that every model takes, and anything else as blocks."""
    return blocks[0]["text"] if len(blocks) == 1 and blocks[0]["type"] == "text" else blocks


def _image(image: Image) -> dict[str, str]:
    url = f"data:{image.media_type};base64,{image.data}" if image.data else image.url
    return {"url": url} | ({"detail": image.detail} if image.detail else {})


def _result(result: ToolResult, param: str) -> dict[str, Any]:
    for part in result.parts:
        if not isinstance(part, Text):
            raise _refuse(part, param)
    texts = [part.text for part in result.parts if isinstance(part, Text)]
    return {
        "role": "tool",
        "tool_call_id": result.call_id,
        "content": list(_documents(texts, result.is_error)),
    }


def _documents(texts: Iterable[str], is_error: bool) -> Iterable[dict[str, Any]]:
    """Yield each text as a document that can be cited: a JSON object as it is, other text in one."""
    for text in texts or [""]:
        data = {"error": text} if is_error else _object(text) or {"output": text}
        yield {"type": "document", "document": {"data": data}}


def _object(text: str) -> dict[str, Any] | None:
    try:
        value = json.decode(text)
    except DecodeError:
        return None
    return value if isinstance(value, dict) else None
