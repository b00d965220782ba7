"""Whole answers in Anthropic's form."""

import uuid

import msgspec
from msgspec import Raw

from llm_server.contract import (
    Call,
    Choice,
    Completion,
    CountCall,
    FinishReason,
    Refusal,
    Text,
    Thinking,
    TokenCount,
    ToolCall,
    Usage,
)
from llm_server.wire.anthropic import answers as wire

FINISH: dict[FinishReason, str] = {
    FinishReason.STOP: "end_turn",
    FinishReason.LENGTH: "max_tokens",
    FinishReason.TOOL_CALLS: "tool_use",
    FinishReason.CONTENT_FILTER: "refusal",
    FinishReason.REFUSAL: "refusal",
    FinishReason.PAUSE: "pause_turn",
}
"""Anthropic's ``stop_reason`` for each reason, unless a stop sequence or a refusal part says otherwise."""

_encode = msgspec.json.Encoder().encode


def answer_id(given: str) -> str:
    """Return an identifier of Anthropic's form: the upstream's, or one with it in, or a new one."""
    return given if given.startswith("msg_") else f"msg_{given or uuid.uuid4().hex}"


def usage_body(usage: Usage) -> wire.UsageBody:
    """Return ``usage`` in Anthropic's terms, whose input excludes what the cache read or wrote."""
    fresh = usage.input_tokens - usage.cached_tokens - usage.cache_write_tokens
    thought = usage.reasoning_tokens
    return wire.UsageBody(
        input_tokens=max(0, fresh),
        cache_creation_input_tokens=usage.cache_write_tokens,
        cache_read_input_tokens=usage.cached_tokens,
        output_tokens=usage.output_tokens,
        output_tokens_details=wire.OutputDetails(thinking_tokens=thought) if thought else None,
    )


def stop_reason(reason: FinishReason, stop_sequence: str, *, refused: bool) -> str:
    """Return Anthropic's word for why an answer ended."""
    if stop_sequence:
        return "stop_sequence"
    return "refusal" if refused and reason is FinishReason.STOP else FINISH[reason]


def messages_answer(call: Call, completion: Completion) -> bytes:
    """Return the body of a whole answer; Anthropic's has room for the first choice only."""
    if completion.raw:
        return completion.raw
    choice = completion.choices[0] if completion.choices else Choice()
    refused = any(isinstance(part, Refusal) for part in choice.parts)
    return _encode(
        wire.MessageBody(
            id=answer_id(completion.id),
            type="message",
            role="assistant",
            model=completion.model or call.model,
            content=[_block(part) for part in choice.parts],
            stop_reason=stop_reason(choice.finish, choice.stop_sequence, refused=refused),
            stop_sequence=choice.stop_sequence or None,
            usage=usage_body(completion.usage),
        )
    )


def _block(part: Text | Thinking | ToolCall | Refusal) -> wire.Block:
    match part:
        case Text() | Refusal():
            return wire.Block(type="text", text=part.text)
        case ToolCall():
            return wire.Block(type="tool_use", id=part.id, name=part.name, input=tool_input(part.arguments))
        case Thinking(redacted=True):
            return wire.Block(type="redacted_thinking", data=part.signature)
        case Thinking():
            return wire.Block(type="thinking", thinking=part.text, signature=part.signature)


def tool_input(arguments: str) -> Raw:
    """Return tool arguments as the object that Anthropic wants.

    Arguments that are not an object (a model may write anything, or be cut off) are wrapped as Anthropic
    recommends: https://platform.claude.com/docs/en/agents-and-tools/tool-use/fine-grained-tool-streaming.
    """
    try:
        msgspec.json.decode(arguments, type=dict[str, Raw])
    except (msgspec.DecodeError, RecursionError):
        return Raw(_encode({"INVALID_JSON": arguments}) if arguments.strip() else b"{}")
    return Raw(arguments.encode())


def count_answer(call: CountCall, count: TokenCount) -> bytes:
    """Return the body of the answer to a count."""
    del call
    return _encode(wire.CountBody(input_tokens=count.input_tokens))
