"""What an answer must come to: the corpus' vendor-neutral truth in the contract's words.

``answers.yaml`` states each answer in the vendor's own words for ends and in the vendor's way of counting.
The tables here say what those mean in the contract, written by hand from the vendors' documentation and
not from the code under test.
"""

import base64
import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from llm_server.contract import (
    Choice,
    Completion,
    ErrorKind,
    FinishReason,
    Refusal,
    Text,
    Thinking,
    ToolCall,
    Usage,
)
from tests.conformance.enrolled import Enrolled
from tests.upstreams.cases import Case

FINISH: Mapping[str, FinishReason] = {
    # OpenAI and everything compatible
    "stop": FinishReason.STOP,
    "eos": FinishReason.STOP,  # Together
    "length": FinishReason.LENGTH,
    "tool_calls": FinishReason.TOOL_CALLS,
    "content_filter": FinishReason.CONTENT_FILTER,
    # Anthropic
    "end_turn": FinishReason.STOP,
    "stop_sequence": FinishReason.STOP,
    "max_tokens": FinishReason.LENGTH,
    "tool_use": FinishReason.TOOL_CALLS,
    "refusal": FinishReason.REFUSAL,
    "pause_turn": FinishReason.PAUSE,
    # Gemini; an answer that calls tools ends with STOP there, see expected_finish
    "STOP": FinishReason.STOP,
    "SAFETY": FinishReason.CONTENT_FILTER,
    # Gemini and Cohere
    "MAX_TOKENS": FinishReason.LENGTH,
    # Cohere
    "COMPLETE": FinishReason.STOP,
    "STOP_SEQUENCE": FinishReason.STOP,
    "TOOL_CALL": FinishReason.TOOL_CALLS,
}

FAILS: Mapping[str, ErrorKind] = {
    "anthropic/error_midstream": ErrorKind.UPSTREAM_OVERLOADED,  # overloaded_error is 529
    "cohere/error_midstream": ErrorKind.UPSTREAM_ERROR,  # finish_reason ERROR
    "deepseek/error_midstream": ErrorKind.UPSTREAM_OVERLOADED,  # service_unavailable_error is 503
    "deepseek/interrupted": ErrorKind.UPSTREAM_OVERLOADED,  # finish_reason insufficient_system_resource
    "gemini/error_midstream": ErrorKind.UPSTREAM_OVERLOADED,  # code 503
    "gemini/malformed_call": ErrorKind.UPSTREAM_ERROR,  # the model failed, another try may not
    "gemini/prompt_block": ErrorKind.CONTENT_REJECTED,  # nothing generated; only the caller can change it
    "groq/error_midstream": ErrorKind.UPSTREAM_INVALID,  # tool_use_failed: the model wrote a broken call
    "lmstudio/error_as_success": ErrorKind.UPSTREAM_ERROR,
    "lmstudio/error_midstream": ErrorKind.UPSTREAM_ERROR,
    "mistral/error_midstream": ErrorKind.UPSTREAM_ERROR,
    "ollama/error_midstream": ErrorKind.UPSTREAM_ERROR,
    "openai/error_midstream": ErrorKind.UPSTREAM_ERROR,
    "openrouter/error_midstream": ErrorKind.UPSTREAM_ERROR,
    "vllm/error_midstream": ErrorKind.UPSTREAM_ERROR,
}
"""Answers that are failures although they came with status 200, by vendor and case."""


def _openai(told: Mapping[str, int]) -> Usage:
    """Cached is a part of input, reasoning a part of output."""
    return Usage(
        input_tokens=told["input"],
        output_tokens=told.get("output", 0),
        cached_tokens=told.get("cached", 0),
        reasoning_tokens=told.get("reasoning", 0),
    )


def _reasoning_beside(told: Mapping[str, int]) -> Usage:
    """Reasoning is billed as output and counted beside it."""
    return _openai({**told, "output": told.get("output", 0) + told.get("reasoning", 0)})


def _anthropic(told: Mapping[str, int]) -> Usage:
    """Input counts neither what the cache gave nor what it took."""
    cached, written = told.get("cached", 0), told.get("cache_write", 0)
    return Usage(
        input_tokens=told["input"] + cached + written,
        output_tokens=told.get("output", 0),
        cached_tokens=cached,
        cache_write_tokens=written,
        reasoning_tokens=told.get("reasoning", 0),
    )


COUNTS: Mapping[str, Callable[[Mapping[str, int]], Usage]] = {
    "anthropic": _anthropic,
    "gemini": _reasoning_beside,
    "xai": _reasoning_beside,
}
"""How a vendor counts, where not as OpenAI does."""


def usage(who: Enrolled, case: Case) -> Usage:
    """Return what the contract says was used."""
    told = case.answer.get("usage")
    return COUNTS.get(who.vendor, _openai)(told) if told else Usage()


def failure(case: Case) -> ErrorKind | None:
    """Return the kind that a case fails with, ``None`` for an answer."""
    return FAILS.get(f"{case.vendor}/{case.name}")


def answers(case: Case) -> bool:
    """Whether a case is an answer and no failure."""
    return failure(case) is None


def statement(case: Case) -> list[dict[str, Any]]:
    """Return what the corpus states of each choice; nothing that it does not state may be there."""
    answer = case.answer
    whole = {
        "text": answer.get("plan", "") + answer.get("text", ""),
        "reasoning": answer.get("reasoning", ""),
        "refusal": answer.get("refusal", ""),
        "tools": [(call["name"], json.loads(call["arguments"])) for call in answer.get("tools", ())],
        "finish": _finish(answer["finish"], called="tools" in answer),
        "stop_sequence": answer.get("stop_sequence", ""),
        "signatures": answer.get("signatures", []),
        "redacted": answer.get("redacted", []),
        "logprobs": answer.get("logprobs", []),
    }
    others = [
        {**_NOTHING, "text": one["text"], "finish": FINISH[one["finish"]]} for one in answer.get("more", ())
    ]
    return [whole, *others]


def heard(completion: Completion) -> list[dict[str, Any]]:
    """Return what a completion says, choice by choice, in the corpus' words."""
    assert [choice.index for choice in completion.choices] == list(range(len(completion.choices)))
    return [_heard(choice) for choice in completion.choices]


def call_ids(completion: Completion) -> list[str]:
    """Return the ids of the first choice's tool calls, without what rides in them."""
    calls = [part for part in completion.choices[0].parts if isinstance(part, ToolCall)]
    return [call.id.partition(_RIDER)[0] for call in calls]


_NOTHING: dict[str, Any] = {
    "text": "",
    "reasoning": "",
    "refusal": "",
    "tools": [],
    "stop_sequence": "",
    "signatures": [],
    "redacted": [],
    "logprobs": [],
}
_RIDER = "__sig_"
"""Between a tool call's id and a signature that rides in it, because other dialects have no field for it."""


def _finish(word: str, *, called: bool) -> FinishReason:
    """Some servers end an answer that calls tools with their word for a plain stop."""
    return FinishReason.TOOL_CALLS if called and FINISH[word] is FinishReason.STOP else FINISH[word]


def _heard(choice: Choice) -> dict[str, Any]:
    thoughts = [part for part in choice.parts if isinstance(part, Thinking)]
    calls = [part for part in choice.parts if isinstance(part, ToolCall)]
    probable = json.loads(bytes(choice.logprobs) or b"{}")
    return {
        "text": choice.text,
        "reasoning": "".join(thought.text for thought in thoughts),
        "refusal": "".join(part.text for part in choice.parts if isinstance(part, Refusal)),
        "tools": [(call.name, json.loads(call.arguments)) for call in calls],
        "finish": choice.finish,
        "stop_sequence": choice.stop_sequence,
        "signatures": [signature for part in choice.parts for signature in _signatures(part)],
        "redacted": [thought.signature for thought in thoughts if thought.redacted],
        "logprobs": [token["logprob"] for token in probable.get("content") or ()],
    }


def _signatures(part: Text | Thinking | ToolCall | Refusal) -> list[str]:
    """Return the upstream's signature on a part, as the upstream wrote it."""
    if isinstance(part, Thinking) and not part.redacted and part.signature:
        return [re.sub(r"\Agemini\.", "", part.signature)]
    if isinstance(part, ToolCall) and _RIDER in part.id:
        coded = part.id.partition(_RIDER)[2]
        return [base64.urlsafe_b64decode(coded + "=" * (-len(coded) % 4)).decode()]
    return []
