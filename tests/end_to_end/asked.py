"""What an upstream was asked, in nobody's words; read with the request types of the vendor's own SDK."""

import json
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from anthropic.types.message_create_params import MessageCreateParamsBase
from cohere.types import ChatMessageV2, ToolV2
from google.genai import types as gemini
from mistralai.client.models import ChatCompletionRequest
from openai.types.chat.completion_create_params import CompletionCreateParamsBase
from pydantic import TypeAdapter

from tests.upstreams.upstream import Request

OPENAI = TypeAdapter(CompletionCreateParamsBase)
ANTHROPIC = TypeAdapter(MessageCreateParamsBase)
COHERE_MESSAGES = TypeAdapter(list[ChatMessageV2])
COHERE_TOOLS = TypeAdapter(list[ToolV2])


@dataclass
class Asked:
    """A conversation with tools. ``turns`` are what was said, in order: user's text, calls, results."""

    tools: list[tuple[str, str, Any]] = field(default_factory=list)
    choice: Any = None
    calls: list[dict[str, Any]] = field(default_factory=list)
    results: list[tuple[str, str, bool]] = field(default_factory=list)
    signatures: list[str] = field(default_factory=list)
    turns: list[str] = field(default_factory=list)

    def call(self, call_id: str, name: str, arguments: Any) -> None:
        """Note a call."""
        self.calls.append({"id": call_id, "name": name, "arguments": arguments})
        self.turns.append("call")

    def result(self, call_id: str, text: str, *, failed: bool = False) -> None:
        """Note a result."""
        self.results.append((call_id, text, failed))
        self.turns.append("result")


def read_asked(vendor: str, request: Request) -> Asked:
    """Return what ``request`` asks of ``vendor``; fails when the vendor's SDK knows no such request."""
    readers = {"anthropic": _anthropic, "gemini": _gemini, "cohere": _cohere}
    if vendor == "mistral":
        ChatCompletionRequest.model_validate(request.json())
    return readers.get(vendor, _openai)(request.json())


def _openai(body: Any) -> Asked:
    params = OPENAI.validate_python(body)
    list(params["messages"])  # a lazy list checks its items when they are read
    asked = Asked(choice=body.get("tool_choice"))
    for tool in body.get("tools", ()):
        function = tool["function"]
        asked.tools.append((function["name"], function.get("description", ""), function["parameters"]))
    for message in body["messages"]:
        calls = message.get("tool_calls") or ()
        if message["role"] == "user":
            asked.turns.append("user")
        for call in calls:
            function = call["function"]
            asked.call(call["id"], function["name"], json.loads(function["arguments"]))
        if message["role"] == "tool":
            asked.result(message["tool_call_id"], _openai_text(message["content"]))
    return asked


def _openai_text(content: Any) -> str:
    return content if isinstance(content, str) else "".join(part["text"] for part in content)


def _anthropic(body: Any) -> Asked:
    params = ANTHROPIC.validate_python(body)
    list(params["messages"])
    asked = Asked(choice=body.get("tool_choice"))
    for tool in body.get("tools", ()):
        asked.tools.append((tool["name"], tool.get("description", ""), tool["input_schema"]))
    roles = [message["role"] for message in body["messages"]]
    assert all(one != other for one, other in pairwise(roles)), "turns alternate"
    for message in body["messages"]:
        content = message["content"]
        for block in [{"type": "text", "text": content}] if isinstance(content, str) else content:
            _anthropic_block(asked, message["role"], block)
    return asked


def _anthropic_block(asked: Asked, role: str, block: Any) -> None:
    match block["type"]:
        case "tool_use":
            asked.call(block["id"], block["name"], block["input"])
        case "tool_result":
            content = block.get("content", "")
            text = content if isinstance(content, str) else "".join(part["text"] for part in content)
            asked.result(block["tool_use_id"], text, failed=block.get("is_error", False))
        case "thinking":
            asked.signatures.append(block["signature"])
        case "text" if role == "user":
            asked.turns.append("user")


def _gemini(body: Any) -> Asked:
    config = gemini.ToolConfig.model_validate(body.get("toolConfig", {})).function_calling_config
    asked = Asked(choice=config.model_dump(exclude_none=True, mode="json") if config else None)
    for tool in body.get("tools", ()):
        for declared in gemini.Tool.model_validate(tool).function_declarations or ():
            schema = declared.parameters_json_schema
            asked.tools.append((declared.name or "", declared.description or "", schema))
    contents = [gemini.Content.model_validate(content) for content in body["contents"]]
    roles = [content.role for content in contents]
    assert all(one != other for one, other in pairwise(roles)), "turns alternate"
    names: dict[str, str] = {}
    for raw, content in zip(body["contents"], contents, strict=True):
        for raw_part, part in zip(raw["parts"], content.parts or (), strict=True):
            if part.function_call:
                call = part.function_call
                names[call.id or ""] = call.name or ""
                asked.call(call.id or "", call.name or "", call.args)
            elif part.function_response:
                answer = part.function_response
                assert answer.name == names[answer.id or ""], "a result names its call's function"
                output: Any = answer.response
                failed = "error" in output
                asked.result(answer.id or "", output["error" if failed else "output"], failed=failed)
            elif content.role == "user":
                asked.turns.append("user")
            if "thoughtSignature" in raw_part:
                asked.signatures.append(raw_part["thoughtSignature"])
    return asked


def _cohere(body: Any) -> Asked:
    COHERE_MESSAGES.validate_python(body["messages"])
    COHERE_TOOLS.validate_python(body.get("tools", []))
    asked = Asked(choice=body.get("tool_choice"))
    for tool in body.get("tools", ()):
        function = tool["function"]
        asked.tools.append((function["name"], function.get("description", ""), function["parameters"]))
    for message in body["messages"]:
        if message["role"] == "user":
            asked.turns.append("user")
        for call in message.get("tool_calls", ()):
            function = call["function"]
            asked.call(call["id"], function["name"], json.loads(function["arguments"]))
        if message["role"] == "tool":
            _cohere_result(asked, message)
    return asked


def _cohere_result(asked: Asked, message: Any) -> None:
    (data,) = [part["document"]["data"] for part in message["content"]]
    failed = "error" in data
    asked.result(message["tool_call_id"], data["error" if failed else "output"], failed=failed)
