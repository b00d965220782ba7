"""Whole answers in OpenAI's form."""

import sys
import time
import uuid
from array import array
from base64 import b64encode

import msgspec
from msgspec import UNSET

from llm_server.contract import (
    Call,
    Choice,
    Completion,
    EmbedCall,
    Embeddings,
    FinishReason,
    Refusal,
    Text,
    Thinking,
    ToolCall,
    Usage,
)
from llm_server.wire.openai import answers as wire

FINISH: dict[FinishReason, str] = {
    FinishReason.STOP: "stop",
    FinishReason.LENGTH: "length",
    FinishReason.TOOL_CALLS: "tool_calls",
    FinishReason.CONTENT_FILTER: "content_filter",
    FinishReason.REFUSAL: "content_filter",  # the closest word: declined, nothing to retry
    FinishReason.PAUSE: "stop",  # OpenAI has no pause; the answer so far is complete in itself
}
"""OpenAI's ``finish_reason`` for each reason."""

_encode = msgspec.json.Encoder().encode


def answer_id(prefix: str, given: str) -> str:
    """Return an identifier of OpenAI's form: the upstream's, or one with it in, or a new one."""
    return given if given.startswith(f"{prefix}-") else f"{prefix}-{given or uuid.uuid4().hex}"


def usage_body(usage: Usage) -> wire.UsageBody:
    """Return ``usage`` in OpenAI's terms."""
    return wire.UsageBody(
        prompt_tokens=usage.input_tokens,
        completion_tokens=usage.output_tokens,
        total_tokens=usage.input_tokens + usage.output_tokens,
        prompt_tokens_details=wire.PromptDetails(
            cached_tokens=usage.cached_tokens, cache_write_tokens=usage.cache_write_tokens or None
        ),
        completion_tokens_details=wire.CompletionDetails(reasoning_tokens=usage.reasoning_tokens),
    )


def chat_answer(call: Call, completion: Completion) -> bytes:
    """Return the body of a whole chat answer."""
    return completion.raw or _encode(
        wire.ChatAnswer(
            id=answer_id("chatcmpl", completion.id),
            created=completion.created or int(time.time()),
            model=completion.model or call.model,
            choices=[_chat_choice(choice) for choice in completion.choices],
            usage=usage_body(completion.usage),
        )
    )


def _chat_choice(choice: Choice) -> wire.ChatChoice:
    calls = [part for part in choice.parts if isinstance(part, ToolCall)]
    texts = [part.text for part in choice.parts if isinstance(part, Text)]
    refusals = [part.text for part in choice.parts if isinstance(part, Refusal)]
    thoughts = [part.text for part in choice.parts if isinstance(part, Thinking) and part.text]
    message = wire.Saying(
        role="assistant",
        content="".join(texts) if texts else None,
        refusal="".join(refusals) if refusals else None,
        reasoning_content="".join(thoughts) if thoughts else UNSET,
        tool_calls=[_tool_call(part) for part in calls] if calls else UNSET,
    )
    return wire.ChatChoice(
        index=choice.index,
        message=message,
        logprobs=choice.logprobs if bytes(choice.logprobs) else wire.NULL,
        finish_reason=FINISH[choice.finish],
    )


def _tool_call(call: ToolCall) -> wire.CalledTool:
    function = wire.CalledFunction(name=call.name, arguments=call.arguments)
    return wire.CalledTool(id=call.id, type="function", function=function)


def text_answer(call: Call, completion: Completion) -> bytes:
    """Return the body of a whole completions answer."""
    choices = [
        wire.TextChoice(
            text=choice.text,
            index=choice.index,
            logprobs=choice.logprobs if bytes(choice.logprobs) else wire.NULL,
            finish_reason=FINISH[choice.finish],
        )
        for choice in completion.choices
    ]
    return completion.raw or _encode(
        wire.TextAnswer(
            id=answer_id("cmpl", completion.id),
            created=completion.created or int(time.time()),
            model=completion.model or call.model,
            choices=choices,
            usage=usage_body(completion.usage),
        )
    )


def embeddings_answer(call: EmbedCall, embeddings: Embeddings) -> bytes:
    """Return the body of an embeddings answer, vectors in the form that ``call`` wants."""
    form = packed if call.base64 else list[float]
    used = embeddings.usage.input_tokens
    return embeddings.raw or _encode(
        wire.EmbeddingsAnswer(
            data=[wire.Vector(index=at, embedding=form(one)) for at, one in enumerate(embeddings.vectors)],
            model=embeddings.model or call.model,
            usage=wire.UsageBody(prompt_tokens=used, total_tokens=used),
        )
    )


def packed(vector: tuple[float, ...]) -> str:
    """Return ``vector`` as base64 of little-endian float32, as OpenAI packs it."""
    numbers = array("f", vector)
    if sys.byteorder == "big":
        numbers.byteswap()
    return b64encode(numbers).decode()
