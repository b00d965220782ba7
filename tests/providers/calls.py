"""Calls as a codec would decode them, for tests of what goes upstream."""

from typing import Any

from msgspec import json

from llm_server.contract import ChatCall, Message, Part, Role, Text
from llm_server.wire.openai.request import chat_call


def chat(*messages: Message, **fields: Any) -> ChatCall:
    """A call of a dialect that no upstream speaks; one user turn when no messages are given."""
    return ChatCall(**{"model": "m", "messages": messages or (user(),), **fields})


def user(*parts: Part) -> Message:
    return Message(Role.USER, parts or (Text("Hi"),))


def assistant(*parts: Part) -> Message:
    return Message(Role.ASSISTANT, parts)


def system(text: str) -> Message:
    return Message(Role.SYSTEM, (Text(text),))


def tool(*parts: Part) -> Message:
    return Message(Role.TOOL, parts)


def from_openai(model: str = "m", **body: Any) -> ChatCall:
    """The call of an OpenAI client, addressed to ``model``."""
    body = {"model": "public", "messages": [{"role": "user", "content": "Hi"}], **body}
    return chat_call(json.encode(body), {}).addressed(model)
