"""Tools through every pair of dialects: definitions, the model's calls, the results, the answer.

What the upstream received is read with its vendor's own request types (``asked.py``).
"""

import json
import re
from collections.abc import Mapping
from typing import Any

import pytest

from tests.end_to_end.asked import Asked, read_asked
from tests.end_to_end.front import Front, before, fronting, provider
from tests.end_to_end.sdks import anthropic_sdk, openai_sdk
from tests.upstreams.cases import Case, Form, cases, load
from tests.upstreams.server import scripted

SCHEMA: Any = {
    "type": "object",
    "properties": {"city": {"type": "string", "description": "Where"}},
    "required": ["city"],
    "additionalProperties": False,
}
OPENAI_TOOLS: Any = [
    {
        "type": "function",
        "function": {"name": "get_weather", "description": "The weather", "parameters": SCHEMA},
    }
]
ANTHROPIC_TOOLS: Any = [{"name": "get_weather", "description": "The weather", "input_schema": SCHEMA}]
QUESTION = "How is the weather?"
CASES = [case for case in cases(form="whole") if case.name in {"tool", "tools"}]
"""Every vendor's single call, and every vendor's parallel calls."""


async def openai_round(front: Front, model: str, form: Form) -> tuple[list[dict[str, Any]], str]:
    """Ask with tools, send results back; return the calls as the application saw them and the final text."""
    messages: list[Any] = [{"role": "user", "content": QUESTION}]
    ask: Any = {"model": model, "tools": OPENAI_TOOLS}
    async with openai_sdk(front.url) as client:
        if form == "whole":
            answer: Any = await client.chat.completions.create(messages=messages, **ask)
        else:
            async with client.chat.completions.stream(messages=messages, **ask) as stream:
                answer = await stream.get_final_completion()
        message = answer.choices[0].message
        assert answer.choices[0].finish_reason == "tool_calls"
        messages.append(said_again(message))
        messages.extend(results_for(message))
        last = await client.chat.completions.create(messages=messages, **ask)
    calls = [
        {"id": call.id, "name": call.function.name, "arguments": json.loads(call.function.arguments)}
        for call in message.tool_calls
    ]
    return calls, last.choices[0].message.content or ""


def said_again(message: Any) -> Any:
    """Return the model's turn as applications send it back: as it came, but with a role.

    Streamed, some vendors name the role in every chunk or in none, and the SDK's helper joins what it gets.
    """
    turn = message.model_dump(exclude_none=True, exclude={"parsed": True, "role": True})
    for call in turn["tool_calls"]:
        call["function"].pop("parsed_arguments", None)
    return {**turn, "role": "assistant"}


async def anthropic_round(
    front: Front, model: str, form: Form, *, failed: bool = False
) -> tuple[list[dict[str, Any]], str]:
    """Do the same in Anthropic's dialect; with ``failed`` the last result is an error."""
    messages: list[Any] = [{"role": "user", "content": QUESTION}]
    ask: Any = {"model": model, "tools": ANTHROPIC_TOOLS, "max_tokens": 1000}
    async with anthropic_sdk(front.url) as client:
        if form == "whole":
            answer: Any = await client.messages.create(messages=messages, **ask)
        else:
            async with client.messages.stream(messages=messages, **ask) as stream:
                answer = await stream.get_final_message()
        assert answer.stop_reason == "tool_use"
        uses = [block for block in answer.content if block.type == "tool_use"]
        results: list[Any] = [
            {"type": "tool_result", "tool_use_id": use.id, "content": result_of(json.dumps(use.input))}
            for use in uses
        ]
        results[-1] |= {"is_error": True} if failed else {}
        messages.append({"role": "assistant", "content": answer.content})
        messages.append({"role": "user", "content": results})
        last: Any = await client.messages.create(messages=messages, **ask)
    return [{"id": use.id, "name": use.name, "arguments": use.input} for use in uses], last.content[-1].text


def result_of(arguments: str) -> str:
    """Return what the application answers to a call with these arguments."""
    return f"It rains in {json.loads(arguments).get('city', 'Paris')}: 7 °C"


def results_for(message: Any) -> list[dict[str, Any]]:
    """Return the messages that answer the calls in ``message``."""
    return [
        {"role": "tool", "tool_call_id": call.id, "content": result_of(call.function.arguments)}
        for call in message.tool_calls
    ]


ROUNDS = {"openai": openai_round, "anthropic": anthropic_round}


@pytest.mark.parametrize("form", ["whole", "stream"])
@pytest.mark.parametrize("caller", ROUNDS)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
async def test_tools_make_the_round(case: Case, caller: str, form: Form) -> None:
    answers = (load(case.vendor, case.name, form), load(case.vendor, "text"))
    async with before(case.vendor, *answers) as (front, up):
        calls, text = await ROUNDS[caller](front, f"{case.vendor}/some-model", form)
        first, second = (read_asked(case.vendor, request) for request in up.requests)
    assert text == load(case.vendor, "text").answer["text"]
    assert first.tools == second.tools == [("get_weather", "The weather", SCHEMA)]
    assert first.turns == ["user"]
    assert second.turns == ["user", *["call"] * len(calls), *["result"] * len(calls)]
    _same_calls(second, case.answer["tools"])
    assert [call["arguments"] for call in calls] == [call["arguments"] for call in second.calls]
    texts = [result_of(json.dumps(call["arguments"])) for call in calls]
    assert second.results == [
        (call["id"], text, False) for call, text in zip(second.calls, texts, strict=True)
    ]


def _same_calls(asked: Asked, stated: list[Mapping[str, Any]]) -> None:
    """Check that an upstream gets back the calls that it made, with its own ids where it made any."""
    ids = [call["id"] for call in asked.calls]
    assert len(set(ids)) == len(ids)
    assert all(ids)
    for got, told in zip(asked.calls, stated, strict=True):
        assert (got["name"], got["arguments"]) == (told["name"], json.loads(told["arguments"]))
        assert told["id"] in {None, got["id"]}


@pytest.mark.parametrize("form", ["whole", "stream"])
@pytest.mark.parametrize("name", ["tool", "tools"])
@pytest.mark.parametrize("caller", ROUNDS)
async def test_a_thought_signature_comes_back_on_its_call(caller: str, name: str, form: Form) -> None:
    case = load("gemini", name, form)
    async with before("gemini", case, load("gemini", "text")) as (front, up):
        await ROUNDS[caller](front, "gemini/gemini-3-flash-preview", form)
        parts = up.requests[1].json()["contents"][1]["parts"]
    assert [part.get("thoughtSignature") for part in parts if "functionCall" in part][:1] == case.answer[
        "signatures"
    ]
    assert sum("thoughtSignature" in part for part in parts) == 1


@pytest.mark.parametrize("form", ["whole", "stream"])
async def test_signed_thinking_comes_back_to_its_vendor(form: Form) -> None:
    case = load("anthropic", "thinking_tool", form)
    async with before("anthropic", case, load("anthropic", "text")) as (front, up):
        await anthropic_round(front, "anthropic/claude-opus-5", form)
        second = read_asked("anthropic", up.requests[1])
    assert second.signatures == case.answer["signatures"]


@pytest.mark.parametrize("vendor", ["anthropic", "gemini", "cohere", "openai", "mistral"])
async def test_a_tool_that_failed_is_known_to_have(vendor: str) -> None:
    async with before(vendor, load(vendor, "tools"), load(vendor, "text")) as (front, up):
        await anthropic_round(front, f"{vendor}/some-model", "whole", failed=True)
        second = read_asked(vendor, up.requests[1])
    marks = [failed for _, _, failed in second.results]
    # OpenAI's dialect has no such mark; its absence is in the headers: see the next test.
    assert marks == ([False, False] if vendor in {"openai", "mistral"} else [False, True])


async def test_a_failure_that_cannot_be_marked_is_reported() -> None:
    use: Any = {"type": "tool_use", "id": "toolu_1", "name": "get_weather", "input": {"city": "Oslo"}}
    result: Any = {
        "type": "tool_result",
        "tool_use_id": "toolu_1",
        "content": "no such city",
        "is_error": True,
    }
    messages: Any = [
        {"role": "user", "content": QUESTION},
        {"role": "assistant", "content": [use]},
        {"role": "user", "content": [result]},
    ]
    ask: Any = {"model": "openai/x", "max_tokens": 9, "messages": messages, "tools": ANTHROPIC_TOOLS}
    async with before("openai", load("openai", "text")) as (front, _), anthropic_sdk(front.url) as client:
        answer = await client.messages.with_raw_response.create(**ask)
    assert answer.headers["x-llm-server-dropped"] == "tool_result.is_error"


@pytest.mark.parametrize("second", ["openai", "anthropic", "mistral", "cohere", "gemini"])
@pytest.mark.parametrize("first", ["openai", "anthropic", "mistral", "cohere", "gemini"])
async def test_a_conversation_may_go_on_at_another_vendor(first: str, second: str) -> None:
    async with (
        scripted(load(first, "tools")) as one,
        scripted(load(second, "text")) as two,
        fronting({"one": provider(one, first), "two": provider(two, second)}) as front,
    ):
        calls, messages = await _first_half(front)
        async with openai_sdk(front.url) as client:
            last = await client.chat.completions.create(model="two/x", messages=messages, tools=OPENAI_TOOLS)
        asked = read_asked(second, two.requests[0])
    assert last.choices[0].message.content == load(second, "text").answer["text"]
    ids = [call["id"] for call in asked.calls]
    assert [result[0] for result in asked.results] == ids
    assert len(set(ids)) == len(calls)
    forms = {"mistral": r"[A-Za-z0-9]{9}", "anthropic": r"[A-Za-z0-9_-]{1,128}", "openai": r".{1,40}"}
    assert all(re.fullmatch(forms.get(second, r".+"), call_id) for call_id in ids)


async def _first_half(front: Front) -> tuple[list[Any], Any]:
    messages: list[Any] = [{"role": "user", "content": QUESTION}]
    async with openai_sdk(front.url) as client:
        ask = client.chat.completions.create
        answer: Any = await ask(model="one/x", messages=messages, tools=OPENAI_TOOLS)
    message = answer.choices[0].message
    return message.tool_calls, [*messages, said_again(message), *results_for(message)]


CHOICES: dict[str, tuple[Any, Any, dict[str, Any]]] = {
    "auto": (
        "auto",
        {"type": "auto"},
        {"openai": "auto", "anthropic": {"type": "auto"}, "gemini": {"mode": "AUTO"}, "cohere": None},
    ),
    "required": (
        "required",
        {"type": "any"},
        {"openai": "required", "anthropic": {"type": "any"}, "gemini": {"mode": "ANY"}, "cohere": "REQUIRED"},
    ),
    "none": (
        "none",
        {"type": "none"},
        {"openai": "none", "anthropic": {"type": "none"}, "gemini": {"mode": "NONE"}, "cohere": "NONE"},
    ),
    "one": (
        {"type": "function", "function": {"name": "get_weather"}},
        {"type": "tool", "name": "get_weather"},
        {
            "openai": {"type": "function", "function": {"name": "get_weather"}},
            "anthropic": {"type": "tool", "name": "get_weather"},
            "gemini": {"mode": "ANY", "allowed_function_names": ["get_weather"]},
            "cohere": "REQUIRED",
        },
    ),
}
"""What may be asked, as OpenAI's and as Anthropic's clients say it, and as each upstream must hear it."""


@pytest.mark.parametrize("choice", CHOICES)
@pytest.mark.parametrize("vendor", ["openai", "anthropic", "gemini", "cohere"])
async def test_a_choice_of_tools_survives(vendor: str, choice: str) -> None:
    for_openai, for_anthropic, heard = CHOICES[choice]
    model, messages = f"{vendor}/x", [{"role": "user", "content": QUESTION}]
    async with before(vendor, load(vendor, "text")) as (front, up):
        async with openai_sdk(front.url) as client:
            ask: Any = {"model": model, "messages": messages, "tools": OPENAI_TOOLS}
            await client.chat.completions.create(tool_choice=for_openai, **ask)
        async with anthropic_sdk(front.url) as other:
            ask = {"model": model, "messages": messages, "tools": ANTHROPIC_TOOLS, "max_tokens": 9}
            await other.messages.create(tool_choice=for_anthropic, **ask)
        assert [read_asked(vendor, request).choice for request in up.requests] == [heard[vendor]] * 2


async def test_one_call_at_a_time_survives_both_ways() -> None:
    messages: Any = [{"role": "user", "content": QUESTION}]
    async with before("anthropic", load("anthropic", "text")) as (front, up), openai_sdk(front.url) as client:
        ask = client.chat.completions.create
        await ask(model="anthropic/x", messages=messages, tools=OPENAI_TOOLS, parallel_tool_calls=False)
        assert up.requests[0].json()["tool_choice"] == {"type": "auto", "disable_parallel_tool_use": True}
    async with before("openai", load("openai", "text")) as (front, up), anthropic_sdk(front.url) as other:
        choice: Any = {"type": "any", "disable_parallel_tool_use": True}
        tools, limit = ANTHROPIC_TOOLS, 9
        await other.messages.create(
            model="openai/x", messages=messages, tools=tools, tool_choice=choice, max_tokens=limit
        )
        assert up.requests[0].json()["tool_choice"] == "required"
        assert up.requests[0].json()["parallel_tool_calls"] is False
