"""Reasoning signatures through the whole server: back to who made them, and to nobody else."""

import json
from typing import Any

import pytest

from tests.end_to_end.front import Front, fronting, provider
from tests.upstreams.cases import load, refusal
from tests.upstreams.server import scripted
from tests.upstreams.upstream import Answer

pytestmark = pytest.mark.asyncio(loop_scope="module")

QUESTION = {"role": "user", "content": "How is the weather in Oslo?"}
TOOLS = [{"name": "get_weather", "input_schema": {"type": "object"}}]
ASK = {"max_tokens": 4000, "tools": TOOLS}
DOWN = refusal("anthropic", "overloaded")


async def answered(front: Front, model: str, messages: Any, *, stream: bool = False) -> list[Any]:
    """Return the blocks of an answer, as a client collects them."""
    body = {"model": model, "messages": messages, "stream": stream, **ASK}
    async with front.http.post("/v1/messages", json=body) as response:
        data = await response.read()
        assert response.status == 200, data
    if not stream:
        return list(json.loads(data)["content"])
    blocks: list[Any] = []
    for line in data.decode().split("\n"):
        if not line.startswith("data: "):
            continue
        event = json.loads(line[6:])
        if event["type"] == "content_block_start":
            blocks.append(event["content_block"])
        elif event["type"] == "content_block_delta":
            grow(blocks[event["index"]], event["delta"])
    for block in blocks:
        if block["type"] == "tool_use":
            block["input"] = json.loads(block.pop("json", "{}"))
    return blocks


def grow(block: Any, delta: Any) -> None:
    """Add a delta to its block."""
    match delta["type"]:
        case "thinking_delta":
            block["thinking"] += delta["thinking"]
        case "signature_delta":
            block["signature"] += delta["signature"]
        case "input_json_delta":
            block["json"] = block.get("json", "") + delta["partial_json"]
        case "text_delta":
            block["text"] += delta["text"]


def next_turn(blocks: list[Any]) -> list[Any]:
    """Return the conversation after the tools have been called."""
    results = [
        {"type": "tool_result", "tool_use_id": block["id"], "content": "It rains."}
        for block in blocks
        if block["type"] == "tool_use"
    ]
    return [
        QUESTION,
        {"role": "assistant", "content": blocks},
        {"role": "user", "content": results or "And in Bergen?"},
    ]


def signatures(messages: Any) -> list[str]:
    """Return the signatures of a conversation."""
    blocks = [b for turn in messages if isinstance(turn["content"], list) for b in turn["content"]]
    return [block["signature"] for block in blocks if block["type"] == "thinking"]


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("alone", [True, False], ids=["one provider", "two providers"])
async def test_who_made_a_signature_gets_it_back_byte_for_byte(stream: bool, alone: bool) -> None:
    case = load("anthropic", "thinking_tool", "stream" if stream else "whole")
    async with (
        scripted(case, load("anthropic", "text")) as first,
        scripted(load("anthropic", "text")) as second,
        fronting(
            {"first": provider(first, "anthropic"), "second": provider(second, "anthropic")},
            models={"both": ["first/x"] if alone else ["first/x", "second/y"]},
        ) as front,
    ):
        blocks = await answered(front, "both", [QUESTION], stream=stream)
        told = [block["signature"] for block in blocks if block["type"] == "thinking"]
        assert all(one.startswith("first~") != alone for one in told)
        await answered(front, "both", next_turn(blocks))
        assert signatures(first.requests[1].json()["messages"]) == case.answer["signatures"]


@pytest.mark.parametrize("marked", [True, False], ids=["made on this route", "made elsewhere"])
async def test_a_fallback_of_the_same_dialect_gets_none(marked: bool) -> None:
    case = load("anthropic", "thinking_tool")
    answers: list[Answer] = [case, DOWN]
    async with (
        scripted(*answers) as first,
        scripted(load("anthropic", "text")) as second,
        fronting(
            {"first": provider(first, "anthropic"), "second": provider(second, "anthropic")},
            models={"both": ["first/x", "second/y"]},
        ) as front,
    ):
        blocks = await answered(front, "both" if marked else "first/x", [QUESTION])
        await answered(front, "both", next_turn(blocks))
        assert signatures(first.requests[1].json()["messages"]) == case.answer["signatures"]
        (request,) = second.requests
        assert signatures(request.json()["messages"]) == []
        assert case.answer["signatures"][0].encode() not in request.body
        assert request.json()["messages"][1]["content"][0]["type"] == "tool_use", "the rest is there"


async def test_who_took_over_does_not_show_its_own_to_the_first() -> None:
    case = load("anthropic", "thinking_tool")
    async with (
        scripted(DOWN, load("anthropic", "text")) as first,
        scripted(case) as second,
        fronting(
            {"first": provider(first, "anthropic"), "second": provider(second, "anthropic")},
            models={"both": ["first/x", "second/y"]},
        ) as front,
    ):
        blocks = await answered(front, "both", [QUESTION])
        await answered(front, "both", next_turn(blocks))
        assert signatures(first.requests[1].json()["messages"]) == []
        assert len(second.requests) == 1


async def test_another_vendors_signature_does_not_pass_in_a_body_of_the_same_dialect() -> None:
    async with (
        scripted(load("gemini", "thinking")) as gemini,
        scripted(load("anthropic", "text")) as claude,
        fronting({"g": provider(gemini, "gemini"), "c": provider(claude, "anthropic")}) as front,
    ):
        blocks = await answered(front, "g/gemini-3-pro", [QUESTION])
        assert [block["signature"] for block in blocks if block["type"] == "thinking"]
        await answered(front, "c/x", next_turn(blocks))
        assert signatures(claude.requests[0].json()["messages"]) == []
        assert b"gemini." not in claude.requests[0].body
