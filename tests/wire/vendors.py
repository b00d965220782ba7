"""The vendors' own SDKs as readers of what we write; their transport hands them our bytes."""

from collections.abc import Iterator
from typing import Any

import anthropic
import httpx2
import msgspec
import openai
from msgspec import Raw
from openai.lib.streaming.chat import ChatCompletionStreamState

from llm_server.contract import (
    Choice,
    Chunk,
    Completion,
    FinishReason,
    Refusal,
    Text,
    Thinking,
    ToolCall,
    Usage,
)
from llm_server.wire.codec import StreamEncoder


class Reply:
    """The answer to the next request."""

    def __init__(self) -> None:
        self.response = httpx2.Response(500)

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        return self.response

    def whole(self, body: bytes, status: int = 200) -> None:
        headers = {"content-type": "application/json", "request-id": "req_1", "x-request-id": "req_1"}
        self.response = httpx2.Response(status, content=body, headers=headers)

    def stream(self, body: bytes) -> None:
        self.response = httpx2.Response(200, content=body, headers={"content-type": "text/event-stream"})


REPLY = Reply()
OPENAI = openai.OpenAI(
    api_key="x",
    base_url="http://test/v1",
    max_retries=0,
    http_client=httpx2.Client(transport=httpx2.MockTransport(REPLY)),
)
ANTHROPIC = anthropic.Anthropic(
    api_key="x",
    base_url="http://test",
    max_retries=0,
    http_client=httpx2.Client(transport=httpx2.MockTransport(REPLY)),
)
ASK: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}


def written(encoder: StreamEncoder, chunks: tuple[Chunk, ...]) -> bytes:
    return b"".join([*(encoder.encode(chunk) for chunk in chunks), encoder.end()])


def sorted_json(value: Any) -> Raw:
    """The one spelling of a JSON value, so that log probabilities can be compared."""
    return Raw(msgspec.json.encode(value, order="sorted"))


def openai_whole(body: bytes) -> Completion:
    REPLY.whole(body)
    return from_openai(OPENAI.chat.completions.create(**ASK))


def openai_chunks(stream: bytes) -> Iterator[Any]:
    REPLY.stream(stream)
    return iter(OPENAI.chat.completions.create(**ASK, stream=True))


def openai_streamed(stream: bytes) -> Completion:
    state = ChatCompletionStreamState()
    for chunk in openai_chunks(stream):
        state.handle_chunk(chunk)
    return from_openai(state.current_completion_snapshot)


def from_openai(answer: Any) -> Completion:
    usage = answer.usage
    return Completion(
        id=answer.id,
        model=answer.model,
        created=answer.created,
        choices=tuple(_openai_choice(choice) for choice in answer.choices),
        usage=Usage(
            input_tokens=usage.prompt_tokens,
            output_tokens=usage.completion_tokens,
            cached_tokens=usage.prompt_tokens_details.cached_tokens,
            cache_write_tokens=usage.prompt_tokens_details.cache_write_tokens or 0,
            reasoning_tokens=usage.completion_tokens_details.reasoning_tokens,
        )
        if usage
        else Usage(),
    )


def _openai_choice(choice: Any) -> Choice:
    message = choice.message
    thought = (message.model_extra or {}).get("reasoning_content")
    return Choice(
        index=choice.index,
        parts=(
            *([Thinking(text=thought)] if thought else []),
            *([Text(message.content)] if message.content else []),
            *([Refusal(message.refusal)] if message.refusal else []),
            *(
                ToolCall(call.id, call.function.name, call.function.arguments)
                for call in message.tool_calls or ()
            ),
        ),
        finish=FinishReason(choice.finish_reason),
        logprobs=sorted_json(choice.logprobs.to_dict()) if choice.logprobs else Raw(b""),
    )


def anthropic_whole(body: bytes) -> Completion:
    REPLY.whole(body)
    return from_anthropic(ANTHROPIC.messages.create(**ASK, max_tokens=9))


def anthropic_events(stream: bytes) -> list[Any]:
    REPLY.stream(stream)
    return list(ANTHROPIC.messages.create(**ASK, max_tokens=9, stream=True))


def anthropic_streamed(stream: bytes) -> Completion:
    REPLY.stream(stream)
    with ANTHROPIC.messages.stream(**ASK, max_tokens=9) as events:
        return from_anthropic(events.get_final_message())


_STOP = {
    "end_turn": FinishReason.STOP,
    "stop_sequence": FinishReason.STOP,
    "max_tokens": FinishReason.LENGTH,
    "tool_use": FinishReason.TOOL_CALLS,
    "pause_turn": FinishReason.PAUSE,
    "refusal": FinishReason.REFUSAL,
}


def from_anthropic(message: Any) -> Completion:
    usage = message.usage
    details = usage.output_tokens_details
    return Completion(
        id=message.id,
        model=message.model,
        choices=(
            Choice(
                parts=tuple(_anthropic_part(block) for block in message.content),
                finish=_STOP[message.stop_reason],
                stop_sequence=message.stop_sequence or "",
            ),
        ),
        usage=Usage(
            input_tokens=usage.input_tokens
            + usage.cache_creation_input_tokens
            + usage.cache_read_input_tokens,
            output_tokens=usage.output_tokens,
            cached_tokens=usage.cache_read_input_tokens,
            cache_write_tokens=usage.cache_creation_input_tokens,
            reasoning_tokens=details.thinking_tokens if details else 0,
        ),
    )


def _anthropic_part(block: Any) -> Any:
    match block.type:
        case "text":
            return Text(block.text)
        case "thinking":
            return Thinking(text=block.thinking, signature=block.signature)
        case "redacted_thinking":
            return Thinking(signature=block.data, redacted=True)
        case "tool_use":
            return ToolCall(block.id, block.name, msgspec.json.encode(block.input).decode())
    raise AssertionError(block)
