"""A conversation of another dialect as Anthropic's messages.

Turns of one speaker are merged (the API would do so too), tool results come first in their turn, as it
demands, and system turns inside the conversation move to its head, as Anthropic's own OpenAI layer does
(https://platform.claude.com/docs/en/api/openai-sdk#system-developer-message-hoisting).
"""

from collections.abc import Iterable
from typing import Any

from msgspec import DecodeError, Raw, json

from llm_server.contract import (
    ChatCall,
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
from llm_server.providers.dialects.toolids import fitting

Block = dict[str, Any]

TOOL_ID = r"[A-Za-z0-9_-]{1,128}"
"""The form of a ``tool_use`` id; a longer or odder one is answered with 400."""
TOOL_ID_LENGTH = 24


def conversation(call: ChatCall, dropped: list[str]) -> tuple[str, list[Block]]:
    """Return the system prompt and the turns; what is lost is named in ``dropped``.

    Raises:
        ServerError: ``UNSUPPORTED`` for a part that only its own dialect understands.
    """
    own = call.dialect == "anthropic"
    system: list[str] = []
    turns: list[Block] = []
    for message in call.messages:
        if message.name:
            dropped.append("messages.name")
        blocks = [block for part in message.parts for block in _blocks(part, dropped, own=own)]
        if message.role is Role.SYSTEM:
            system += [block["text"] for block in blocks]
        elif blocks:
            _add(turns, message, blocks)
    for turn in turns:
        turn["content"].sort(key=lambda block: block["type"] != "tool_result")
    _trim_last(turns)
    return "\n".join(system), turns


def _add(turns: list[Block], message: Message, blocks: list[Block]) -> None:
    role = "assistant" if message.role is Role.ASSISTANT else "user"
    if turns and turns[-1]["role"] == role:
        turns[-1]["content"] += blocks
    else:
        turns.append({"role": role, "content": blocks})


def _trim_last(turns: list[Block]) -> None:
    """A started answer must not end with white space, or the API refuses it."""
    last = turns[-1]["content"][-1] if turns and turns[-1]["role"] == "assistant" else None
    if last is None or last["type"] != "text":
        return
    last["text"] = last["text"].rstrip()
    if not last["text"]:
        turns[-1]["content"].pop()
    if not turns[-1]["content"]:
        turns.pop()


def _blocks(part: Part, dropped: list[str], *, own: bool) -> Iterable[Block]:
    """Yield ``part`` as blocks; empty text is none, because the API refuses it."""
    match part:
        case Text(text=text) | Refusal(text=text):
            if text:
                yield {"type": "text", "text": text}
        case Image():
            yield _image(part, dropped)
        case ToolCall():
            call_id = fitting(part.id, TOOL_ID, TOOL_ID_LENGTH)
            yield {"type": "tool_use", "id": call_id, "name": part.name, "input": _input(part.arguments)}
        case ToolResult():
            yield _result(part, dropped, own=own)
        case Thinking():
            yield from _thinking(part, dropped, own=own)
        case Opaque():
            raise ServerError(
                ErrorKind.UNSUPPORTED, f"Content of type '{part.type}' cannot be sent to this provider."
            )


def _thinking(part: Thinking, dropped: list[str], *, own: bool) -> Iterable[Block]:
    """Thinking goes back only to where its signature was made; the API refuses any other."""
    if not own or not part.signature:
        dropped.append("thinking")
    elif part.redacted:
        yield {"type": "redacted_thinking", "data": part.signature}
    else:
        yield {"type": "thinking", "thinking": part.text, "signature": part.signature}


def _result(part: ToolResult, dropped: list[str], *, own: bool) -> Block:
    content = [block for inner in part.parts for block in _blocks(inner, dropped, own=own)]
    block: Block = {"type": "tool_result", "tool_use_id": fitting(part.call_id, TOOL_ID, TOOL_ID_LENGTH)}
    if content:
        block["content"] = content
    if part.is_error:
        block["is_error"] = True
    return block


def _image(image: Image, dropped: list[str]) -> Block:
    if image.detail and image.detail != "auto":
        dropped.append("image_url.detail")
    if image.url:
        return {"type": "image", "source": {"type": "url", "url": image.url}}
    return {"type": "image", "source": {"type": "base64", "media_type": image.media_type, "data": image.data}}


def _input(arguments: str) -> Raw | Block:
    """Return a call's arguments as the object that the API wants; text that is none is kept inside one."""
    if not arguments.strip():
        return {}
    try:
        is_object = isinstance(json.decode(arguments), dict)
    except (DecodeError, RecursionError):
        is_object = False
    return Raw(arguments.encode()) if is_object else {"arguments": arguments}
