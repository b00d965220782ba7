"""Tools through every pair of dialects: definitions, the model's calls, the results, the answer.

What the upstream received is read with its vendor's own request types (``asked.py``).
"""

import json
import re
from collections.abc import Mapping
from typing import Any

import anthropic
import openai
import pytest

from tests.end_to_end.asked import Asked, read_asked
from tests.end_to_end.conftest import World
from tests.upstreams.cases import Case, Form, cases, load

pytestmark = pytest.mark.asyncio(loop_scope="module")

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


Round = tuple[list[dict[str, Any]], str]
"""The calls as the application saw them, and the final text."""


async def openai_round(client: openai.AsyncOpenAI, model: str, form: Form) -> Round:
    """Ask with tools, and send back what the tools say."""
    messages: list[Any] = [{"role": "user", "content": QUESTION}]
    ask: Any = {"model": model, "tools": OPENAI_TOOLS}
    if form == "whole":
        answer: Any = await client.chat.completions.create(messages=messages, **ask)
    else:
        async with client.chat.completions.stream(messages=messages, **ask) as stream:
            answer = await stream.get_final_completion()
    message = answer.choices[0].message
    assert answer.choices[0].finish_reason == "tool_calls"
    messages += [said_again(message), *results_for(message)]
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
    client: anthropic.AsyncAnthropic, model: str, form: Form, *, failed: bool = False
) -> Round:
    """Do the same in Anthropic's dialect; with ``failed`` the last result is an error."""
    messages: list[Any] = [{"role": "user", "content": QUESTION}]
    ask: Any = {"model": model, "tools": ANTHROPIC_TOOLS, "max_tokens": 1000}
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
    messages += [{"role": "assistant", "content": answer.content}, {"role": "user", "content": results}]
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


async def the_round(world: World, caller: str, model: str, form: Form) -> Round:
    """Make the round as a caller of this dialect."""
    if caller == "openai":
        return await openai_round(world.openai, model, form)
    return await anthropic_round(world.anthropic, model, form)


@pytest.mark.parametrize("form", ["whole", "stream"])
@pytest.mark.parametrize("caller", ["openai", "anthropic"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
async def test_tools_make_the_round(world: World, case: Case, caller: str, form: Form) -> None:
    up = world.upstreams[case.vendor]
    calls, text = await the_round(world, caller, f"{case.vendor}/{case.name}", form)
    first, second = (read_asked(case.vendor, request) for request in up.requests[-2:])
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
@pytest.mark.parametrize("caller", ["openai", "anthropic"])
async def test_a_thought_signature_comes_back_on_its_call(
    world: World, caller: str, name: str, form: Form
) -> None:
    await the_round(world, caller, f"gemini/{name}", form)
    parts = world.upstreams["gemini"].requests[-1].json()["contents"][1]["parts"]
    signed = [part.get("thoughtSignature") for part in parts if "functionCall" in part]
    assert signed[:1] == load("gemini", name).answer["signatures"]
    assert sum("thoughtSignature" in part for part in parts) == 1


@pytest.mark.parametrize("form", ["whole", "stream"])
async def test_signed_thinking_comes_back_to_its_vendor(world: World, form: Form) -> None:
    await anthropic_round(world.anthropic, "anthropic/thinking_tool", form)
    second = read_asked("anthropic", world.upstreams["anthropic"].requests[-1])
    assert second.signatures == load("anthropic", "thinking_tool").answer["signatures"]


@pytest.mark.parametrize("vendor", ["anthropic", "gemini", "cohere", "openai", "mistral"])
async def test_a_tool_that_failed_is_known_to_have(world: World, vendor: str) -> None:
    await anthropic_round(world.anthropic, f"{vendor}/tools", "whole", failed=True)
    second = read_asked(vendor, world.upstreams[vendor].requests[-1])
    marks = [failed for _, _, failed in second.results]
    # OpenAI's dialect has no such mark; its absence is in the headers: see the next test.
    assert marks == ([False, False] if vendor in {"openai", "mistral"} else [False, True])


async def test_a_failure_that_cannot_be_marked_is_reported(world: World) -> None:
    use: Any = {"type": "tool_use", "id": "toolu_1", "name": "get_weather", "input": {"city": "Oslo"}}
    result: Any = {"type": "tool_result", "tool_use_id": "toolu_1", "content": "no such", "is_error": True}
    messages: Any = [
        {"role": "user", "content": QUESTION},
        {"role": "assistant", "content": [use]},
        {"role": "user", "content": [result]},
    ]
    ask: Any = {"model": "openai/text", "max_tokens": 9, "messages": messages, "tools": ANTHROPIC_TOOLS}
    answer = await world.anthropic.messages.with_raw_response.create(**ask)
    assert answer.headers["x-llm-server-dropped"] == "tool_result.is_error"


@pytest.mark.parametrize("second", ["openai", "anthropic", "mistral", "cohere", "gemini"])
@pytest.mark.parametrize("first", ["openai", "anthropic", "mistral", "cohere", "gemini"])
async def test_a_conversation_may_go_on_at_another_vendor(world: World, first: str, second: str) -> None:
    messages: list[Any] = [{"role": "user", "content": QUESTION}]
    ask = world.openai.chat.completions.create
    answer: Any = await ask(model=f"{first}/tools", messages=messages, tools=OPENAI_TOOLS)
    message = answer.choices[0].message
    messages += [said_again(message), *results_for(message)]
    last = await ask(model=f"{second}/text", messages=messages, tools=OPENAI_TOOLS)
    assert last.choices[0].message.content == load(second, "text").answer["text"]
    asked = read_asked(second, world.upstreams[second].requests[-1])
    ids = [call["id"] for call in asked.calls]
    assert [result[0] for result in asked.results] == ids
    assert len(set(ids)) == len(message.tool_calls)
    forms = {"mistral": r"[A-Za-z0-9]{9}", "anthropic": r"[A-Za-z0-9_-]{1,128}", "openai": r".{1,40}"}
    assert all(re.fullmatch(forms.get(second, r".+"), call_id) for call_id in ids)


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
async def test_a_choice_of_tools_survives(world: World, vendor: str, choice: str) -> None:
    for_openai, for_anthropic, heard = CHOICES[choice]
    case = "tools" if choice in {"required", "one"} else "text"
    ask: Any = {"model": f"{vendor}/{case}", "messages": [{"role": "user", "content": QUESTION}]}
    await world.openai.chat.completions.create(tool_choice=for_openai, tools=OPENAI_TOOLS, **ask)
    create: Any = world.anthropic.messages.create
    await create(tool_choice=for_anthropic, tools=ANTHROPIC_TOOLS, max_tokens=9, **ask)
    asked = [read_asked(vendor, request) for request in world.upstreams[vendor].requests[-2:]]
    assert [each.choice for each in asked] == [heard[vendor]] * 2


async def test_one_call_at_a_time_survives_both_ways(world: World) -> None:
    messages: Any = [{"role": "user", "content": QUESTION}]
    ask = world.openai.chat.completions.create
    await ask(model="anthropic/text", messages=messages, tools=OPENAI_TOOLS, parallel_tool_calls=False)
    sent = world.upstreams["anthropic"].requests[-1].json()
    assert sent["tool_choice"] == {"type": "auto", "disable_parallel_tool_use": True}
    create: Any = world.anthropic.messages.create
    choice = {"type": "any", "disable_parallel_tool_use": True}
    limits = {"max_tokens": 9, "tool_choice": choice, "tools": ANTHROPIC_TOOLS}
    await create(model="openai/tool", messages=messages, **limits)
    sent = world.upstreams["openai"].requests[-1].json()
    assert (sent["tool_choice"], sent["parallel_tool_calls"]) == ("required", False)
