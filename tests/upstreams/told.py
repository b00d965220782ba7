"""What an answer says, read through a vendor's own SDK: the words of ``answers.yaml``."""

import base64
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Told:
    """An answer in nobody's dialect; token counts are as the vendor counts them."""

    text: str = ""
    reasoning: str = ""
    refusal: str = ""
    finish: str | None = None
    plan: str = ""
    stop_sequence: str | None = None
    tools: dict[int, dict[str, str]] = field(default_factory=dict)
    signatures: list[str] = field(default_factory=list)
    redacted: list[str] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    usage: dict[str, int] = field(default_factory=dict)
    more: dict[int, "Told"] = field(default_factory=dict)
    """Further choices by index (n > 1, or several prompts)."""

    def choice(self, index: int) -> "Told":
        """Return the answer of a choice: this one for the first."""
        return self if index == 0 else self.more.setdefault(index, Told())

    def tool(
        self, index: int, *, id: str | None = None, name: str | None = None, arguments: str = ""
    ) -> None:
        """Add a piece of tool call ``index``."""
        call = self.tools.setdefault(index, {"arguments": ""})
        call.update({key: value for key, value in {"id": id, "name": name}.items() if value})
        call["arguments"] += arguments

    def count(self, **counts: int | float | None) -> None:
        """Note token counts; a later one replaces an earlier one."""
        self.usage.update({name: int(value) for name, value in counts.items() if value is not None})


def assert_tells(told: Told, answer: Mapping[str, Any]) -> None:
    """Check everything that ``answers.yaml`` states, and that nothing else was told."""
    for name in ("text", "reasoning", "refusal", "plan"):
        assert getattr(told, name) == answer.get(name, ""), name
    for name in ("signatures", "redacted", "logprobs"):
        assert getattr(told, name) == answer.get(name, []), name
    assert told.finish == answer.get("finish")
    assert told.stop_sequence == answer.get("stop_sequence")
    assert [_parsed(told.tools[at]) for at in sorted(told.tools)] == [
        _parsed(t) for t in answer.get("tools", [])
    ]
    expected = {name: count for name, count in answer.get("usage", {}).items() if count}
    assert {name: told.usage.get(name, 0) for name in expected} == expected
    assert [(told.more[at].text, told.more[at].finish) for at in sorted(told.more)] == [
        (other["text"], other["finish"]) for other in answer.get("more", [])
    ]


def _parsed(call: Mapping[str, str]) -> dict[str, Any]:
    return {"id": call.get("id"), "name": call["name"], "arguments": json.loads(call["arguments"])}


def openai_usage(told: Told, usage: Any) -> None:
    """Note an OpenAI-shaped usage object."""
    told.count(input=usage.prompt_tokens, output=getattr(usage, "completion_tokens", None))
    cached = getattr(usage, "prompt_tokens_details", None)
    thought = getattr(usage, "completion_tokens_details", None)
    told.count(cached=_field(cached, "cached_tokens"), reasoning=_field(thought, "reasoning_tokens"))


def _field(value: Any, name: str) -> Any:
    return value.get(name) if isinstance(value, dict) else getattr(value, name, None)


def openai_delta(told: Told, delta: Any) -> None:
    """Add an OpenAI-shaped message or delta: content, reasoning under either name, refusal, tool calls."""
    content = delta.content
    if isinstance(content, list):  # Mistral: parts
        for part in content:
            told.text += part.text if part.type == "text" else ""
            told.reasoning += "".join(p.text for p in part.thinking) if part.type == "thinking" else ""
    elif content:
        told.text += content
    told.reasoning += getattr(delta, "reasoning", None) or getattr(delta, "reasoning_content", None) or ""
    told.refusal += getattr(delta, "refusal", None) or ""
    for at, call in enumerate(delta.tool_calls or ()):
        index = getattr(call, "index", None)
        function = call.function
        arguments = function.arguments
        told.tool(
            at if index is None else index,
            id=call.id,
            name=function.name,
            arguments=arguments if isinstance(arguments, str) else json.dumps(arguments or {}),
        )


def openai_chunks(chunks: Iterable[Any]) -> Told:
    """Read OpenAI-shaped chunks, or a whole completion as the one chunk that it is."""
    told = Told()
    for chunk in chunks:
        for choice in chunk.choices:
            one = told.choice(choice.index)
            openai_delta(one, getattr(choice, "delta", None) or choice.message)
            one.finish = choice.finish_reason or one.finish
            logprobs = getattr(choice, "logprobs", None)
            told.logprobs += [token.logprob for token in (getattr(logprobs, "content", None) or ())]
        if getattr(chunk, "usage", None):
            openai_usage(told, chunk.usage)
    return told


def openai_texts(chunks: Iterable[Any]) -> Told:
    """Read legacy completions, whole or streamed."""
    told = Told()
    for chunk in chunks:
        for choice in chunk.choices:
            one = told.choice(choice.index)
            one.text += choice.text
            one.finish = choice.finish_reason or one.finish
        if chunk.usage:
            openai_usage(told, chunk.usage)
    return told


def anthropic_message(message: Any) -> Told:
    """Read an Anthropic message: whole, or as its SDK folded it from a stream."""
    told = Told(finish=message.stop_reason, stop_sequence=message.stop_sequence)
    for block in message.content:
        match block.type:
            case "text":
                told.text += block.text
            case "thinking":
                told.reasoning += block.thinking
                told.signatures.append(block.signature)
            case "redacted_thinking":
                told.redacted.append(block.data)
            case "tool_use":
                told.tool(len(told.tools), id=block.id, name=block.name, arguments=json.dumps(block.input))
    usage = message.usage
    told.count(input=usage.input_tokens, output=usage.output_tokens, cached=usage.cache_read_input_tokens)
    told.count(cache_write=usage.cache_creation_input_tokens)
    told.count(reasoning=_field(usage.output_tokens_details, "thinking_tokens"))
    return told


def gemini_responses(responses: Iterable[Any]) -> Told:
    """Read Gemini responses, one or a stream of them."""
    told = Told()
    for response in responses:
        candidate = (response.candidates or [None])[0]
        for part in (candidate.content.parts or ()) if candidate and candidate.content else ():
            _gemini_part(told, part)
        if candidate and candidate.finish_reason:
            told.finish = candidate.finish_reason.value
        usage = response.usage_metadata
        told.count(input=usage.prompt_token_count, output=usage.candidates_token_count)
        told.count(cached=usage.cached_content_token_count, reasoning=usage.thoughts_token_count)
    return told


def _gemini_part(told: Told, part: Any) -> None:
    if part.thought:
        told.reasoning += part.text or ""
    else:
        told.text += part.text or ""
    if part.function_call:
        call = part.function_call
        told.tool(len(told.tools), id=call.id, name=call.name, arguments=json.dumps(call.args or {}))
    if part.thought_signature:
        told.signatures.append(base64.b64encode(part.thought_signature).decode())


def cohere_usage(told: Told, usage: Any) -> None:
    """Note a Cohere v2 usage object; input tokens are those of the prompt, not those billed."""
    told.count(input=usage.tokens.input_tokens, output=usage.tokens.output_tokens, cached=usage.cached_tokens)


def cohere_response(response: Any) -> Told:
    """Read a whole Cohere v2 answer."""
    told = Told(finish=response.finish_reason, plan=response.message.tool_plan or "")
    for part in response.message.content or ():
        told.text += part.text if part.type == "text" else ""
        told.reasoning += part.thinking if part.type == "thinking" else ""
    for at, call in enumerate(response.message.tool_calls or ()):
        told.tool(at, id=call.id, name=call.function.name, arguments=call.function.arguments)
    cohere_usage(told, response.usage)
    return told


def cohere_events(events: Iterable[Any]) -> Told:
    """Read Cohere v2 stream events."""
    told = Told()
    for event in events:
        message: Any = getattr(getattr(event, "delta", None), "message", None)
        match event.type:
            case "content-delta":
                told.text += message.content.text or ""
                told.reasoning += message.content.thinking or ""
            case "tool-plan-delta":
                told.plan += message.tool_plan
            case "tool-call-start":
                call = message.tool_calls
                told.tool(event.index, id=call.id, name=call.function.name, arguments=call.function.arguments)
            case "tool-call-delta":
                told.tool(event.index, arguments=message.tool_calls.function.arguments)
            case "message-end":
                told.finish = event.delta.finish_reason
                cohere_usage(told, event.delta.usage)
    return told


def ollama_responses(responses: Iterable[Any]) -> Told:
    """Read Ollama's native chat responses, one or a stream of them."""
    told = Told()
    for response in responses:
        told.text += response.message.content or ""
        for call in response.message.tool_calls or ():
            told.tool(len(told.tools), name=call.function.name, arguments=json.dumps(call.function.arguments))
        told.finish = response.done_reason or told.finish
        told.count(input=response.prompt_eval_count, output=response.eval_count)
    return told
