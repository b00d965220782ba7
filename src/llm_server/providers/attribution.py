"""The billing line that Claude Code puts before its system prompt: for Anthropic alone.

It changes with every request and means nothing elsewhere (https://code.claude.com/docs/en/llm-gateway).
"""

import re

import msgspec

from llm_server.contract import ChatCall, Message, Part, Role, Text

_LINE = re.compile(r"\Ax-anthropic-billing-header:[^\n]*\n*")


def without_attribution(call: ChatCall) -> ChatCall:
    """Return ``call`` without that line; the caller's bytes stay, so this is for translation only."""
    first = call.messages[0] if call.messages else None
    if first is None or first.role is not Role.SYSTEM or not _LINE.match(first.text):
        return call
    kept = [text for part in first.parts if (text := _stripped(part)) is not None]
    head = (Message(Role.SYSTEM, tuple(kept), first.name),) if kept else ()
    return msgspec.structs.replace(call, messages=(*head, *call.messages[1:]))


def _stripped(part: Part) -> Part | None:
    if not isinstance(part, Text):
        return part
    text = _LINE.sub("", part.text)
    return Text(text) if text else None
