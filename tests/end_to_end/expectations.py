"""What a caller must be told of an upstream's answer: ``answers.yaml`` turned into the caller's words.

Written from the vendors' documents and apart from the server's own translations, so that a test compares two
opinions.
"""

from collections.abc import Mapping
from typing import Any

from tests.upstreams.cases import Case

FINISH = {
    "stop": ("stop", "end_turn"),
    "eos": ("stop", "end_turn"),
    "length": ("length", "max_tokens"),
    "tool_calls": ("tool_calls", "tool_use"),
    "content_filter": ("content_filter", "refusal"),
    "end_turn": ("stop", "end_turn"),
    "max_tokens": ("length", "max_tokens"),
    "tool_use": ("tool_calls", "tool_use"),
    "stop_sequence": ("stop", "stop_sequence"),
    "refusal": ("content_filter", "refusal"),
    "pause_turn": ("stop", "pause_turn"),
    "STOP": ("stop", "end_turn"),
    "MAX_TOKENS": ("length", "max_tokens"),
    "SAFETY": ("content_filter", "refusal"),
    "COMPLETE": ("stop", "end_turn"),
    "STOP_SEQUENCE": ("stop", "end_turn"),
    "TOOL_CALL": ("tool_calls", "tool_use"),
}
"""Every vendor's word for why an answer ended, as OpenAI and as Anthropic say it."""


def dialect_of(case: Case) -> str:
    """Return the dialect in which a case is written."""
    return {"messages": "anthropic", "generate": "gemini"}.get(case.operation) or (
        "cohere" if case.vendor == "cohere" else "openai"
    )


def expected(caller: str, case: Case) -> Mapping[str, Any]:
    """Return what ``caller`` (``openai`` or ``anthropic``) must read, in the form of ``answers.yaml``."""
    if caller == dialect_of(case):
        return case.answer
    answer = dict(case.answer)
    told: dict[str, Any] = {
        "text": answer.get("text", "") + answer.get("plan", ""),
        "reasoning": answer.get("reasoning", ""),
        "tools": answer.get("tools", []),
        "finish": _finish(caller, answer),
        "usage": _usage(caller, case),
    }
    if caller == "openai":
        return told | {"refusal": answer.get("refusal", ""), "logprobs": answer.get("logprobs", [])}
    # Anthropic has no field for a refusal's words.
    told["text"] += answer.get("refusal", "")
    if told["reasoning"]:
        # Another provider's proof means nothing to Anthropic's clients, but they bring it back.
        told["signatures"] = [f"{case.vendor}.{signature}" for signature in answer.get("signatures", ())]
    return told


def _finish(caller: str, answer: Mapping[str, Any]) -> str:
    word = answer["finish"]
    if answer.get("tools") and word == "STOP":
        word = "tool_calls"  # Gemini ends every whole answer with STOP
    if caller == "anthropic" and answer.get("refusal"):
        return "refusal"
    return FINISH[word][caller == "anthropic"]


def _usage(caller: str, case: Case) -> dict[str, int]:
    """Return token counts as the caller counts them.

    Anthropic's input leaves out what the cache read or wrote. Gemini counts thoughts beside the output, so
    does xAI; everybody else within it.
    """
    told: Mapping[str, int] = case.answer.get("usage", {})
    cached, written = told.get("cached", 0), told.get("cache_write", 0)
    reasoning, output = told.get("reasoning", 0), told.get("output", 0)
    if case.vendor in {"gemini", "xai"}:
        output += reasoning
    whole = told.get("input", 0) + (cached + written if dialect_of(case) == "anthropic" else 0)
    shown = whole if caller == "openai" else whole - cached - written
    usage = {"input": shown, "output": output, "cached": cached, "reasoning": reasoning}
    return usage if caller == "openai" else usage | {"cache_write": written}
