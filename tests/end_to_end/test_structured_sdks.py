"""The vendors' SDKs get typed answers from every scripted vendor, without knowing who answers."""

import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any, Literal

import anthropic
import openai
import pytest
from pydantic import BaseModel

from tests.end_to_end.front import Front, fronting, provider
from tests.end_to_end.sdks import anthropic_sdk, openai_sdk
from tests.structured.accepting import check, sent_format
from tests.structured.vendors import MODELS, script
from tests.upstreams.server import upstream
from tests.upstreams.upstream import Answer, Request

HELLO: Any = [{"role": "user", "content": "Who is it?"}]


class Person(BaseModel):
    """Somebody."""

    name: str
    age: int
    mood: Literal["glad", "sad"] | None = None
    friends: list[str] = []


ADA = {"name": "Ada", "age": 36, "mood": "glad", "friends": ["Charles"]}


@asynccontextmanager
async def saying(vendor: str, *values: Any) -> AsyncGenerator[Front, None]:
    """Serve before a vendor whose model gives these values in turn, in the form that it is sent."""
    left = list(values)

    def answer(request: Request) -> Answer:
        check(vendor, request)
        value = left.pop(0) if len(left) > 1 else left[0]
        sent = sent_format(request.json())
        wrapped = sent is not None and "value" in sent["properties"]
        return script(vendor, request, json.dumps({"value": value} if wrapped else value))

    async with upstream(answer) as up, fronting({vendor: provider(up, vendor)}) as front:
        yield front


@pytest.mark.parametrize("vendor", MODELS)
async def test_openai_s_sdk_parses_models(vendor: str) -> None:
    model = f"{vendor}/{MODELS[vendor]}"
    async with saying(vendor, {**ADA, "age": "old"}, ADA) as front, openai_sdk(front.url) as client:
        parsed = await client.chat.completions.parse(model=model, messages=HELLO, response_format=Person)
        assert parsed.choices[0].message.parsed == Person.model_validate(ADA)


@pytest.mark.parametrize("vendor", MODELS)
async def test_openai_s_sdk_streams_models(vendor: str) -> None:
    model = f"{vendor}/{MODELS[vendor]}"
    async with saying(vendor, ADA) as front, openai_sdk(front.url) as client:
        async with client.chat.completions.stream(
            model=model, messages=HELLO, response_format=Person
        ) as stream:
            final = await stream.get_final_completion()
        assert final.choices[0].message.parsed == Person.model_validate(ADA)


@pytest.mark.parametrize("vendor", MODELS)
async def test_anthropic_s_sdk_parses_models(vendor: str) -> None:
    model = f"{vendor}/{MODELS[vendor]}"
    async with saying(vendor, {**ADA, "mood": "so-so"}, ADA) as front, anthropic_sdk(front.url) as client:
        ask = client.messages.parse
        parsed = await ask(model=model, max_tokens=100, messages=HELLO, output_format=Person)
        assert parsed.parsed_output == Person.model_validate(ADA)


@pytest.mark.parametrize("vendor", MODELS)
async def test_anthropic_s_sdk_streams_models(vendor: str) -> None:
    model = f"{vendor}/{MODELS[vendor]}"
    async with saying(vendor, ADA) as front, anthropic_sdk(front.url) as client:
        ask: Any = client.messages.stream
        async with ask(model=model, max_tokens=100, messages=HELLO, output_format=Person) as stream:
            final = await stream.get_final_message()
        assert final.parsed_output == Person.model_validate(ADA)


@pytest.mark.parametrize("vendor", MODELS)
async def test_anthropic_s_sdk_says_the_schema_itself(vendor: str) -> None:
    """By ``output_config``, and by a tool that is forced."""
    ask: dict[str, Any] = {"model": f"{vendor}/{MODELS[vendor]}", "max_tokens": 100, "messages": HELLO}
    schema = Person.model_json_schema()
    form: Any = {"format": {"type": "json_schema", "schema": schema}}
    tool: Any = {"name": "person", "input_schema": schema}
    async with saying(vendor, {"name": "Ada"}, ADA) as front, anthropic_sdk(front.url) as client:
        answer = await client.messages.create(output_config=form, **ask)
        (block,) = answer.content
        assert isinstance(block, anthropic.types.TextBlock)
        assert json.loads(block.text) == ADA
        answer = await client.messages.create(
            tools=[tool], tool_choice={"type": "tool", "name": "person"}, **ask
        )
        use = answer.content[-1]
        assert isinstance(use, anthropic.types.ToolUseBlock)
        assert (use.name, use.input, answer.stop_reason) == ("person", ADA, "tool_use")


class Weather(BaseModel):
    """The weather somewhere."""

    city: str


@pytest.mark.parametrize("choice", ["auto", "required"])
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("vendor", MODELS)
async def test_strict_tools_are_held_to_everywhere(vendor: str, stream: bool, choice: Any) -> None:
    """The model calls the first of two tools, first wrongly; ``vendors`` lets it call where it must."""
    tools = [openai.pydantic_function_tool(Person), openai.pydantic_function_tool(Weather)]
    ask: dict[str, Any] = {"messages": HELLO, "tools": tools, "tool_choice": choice}
    ask["model"] = f"{vendor}/{MODELS[vendor]}"
    left = [{**ADA, "age": "old"}, ADA]

    def answer(request: Request) -> Answer:
        check(vendor, request)
        return script(vendor, request, json.dumps(left.pop(0)), call="Person")

    async with (
        upstream(answer) as up,
        fronting({vendor: provider(up, vendor)}) as front,
        openai_sdk(front.url) as client,
    ):
        if stream:
            async with client.chat.completions.stream(**ask) as events:
                final: Any = await events.get_final_completion()
        else:
            final = await client.chat.completions.parse(**ask)
    (call,) = final.choices[0].message.tool_calls
    assert call.function.parsed_arguments == Person.model_validate(ADA)
    assert final.choices[0].finish_reason == "tool_calls"
    assert left == []


@pytest.mark.parametrize("vendor", MODELS)
async def test_any_tool_of_anthropic_s_must_be_called_rightly(vendor: str) -> None:
    tools: Any = [
        {"name": each.__name__, "input_schema": each.model_json_schema()} for each in (Person, Weather)
    ]
    left: list[Any] = ["It rains.", {"town": "Rome"}, {"city": "Rome"}]

    def answer(request: Request) -> Answer:
        check(vendor, request)
        said = left.pop(0)
        calling = "" if isinstance(said, str) else "Weather"
        return script(vendor, request, said if not calling else json.dumps(said), call=calling)

    async with (
        upstream(answer) as up,
        fronting({vendor: provider(up, vendor)}) as front,
        anthropic_sdk(front.url) as client,
    ):
        model = f"{vendor}/{MODELS[vendor]}"
        told = await client.messages.create(
            model=model, max_tokens=100, messages=HELLO, tools=tools, tool_choice={"type": "any"}
        )
    use = told.content[-1]
    assert isinstance(use, anthropic.types.ToolUseBlock)
    assert (use.name, use.input) == ("Weather", {"city": "Rome"})
    assert left == []


VLLM: list[tuple[dict[str, Any], Any]] = [
    ({"guided_json": Person.model_json_schema()}, ADA),
    ({"guided_choice": ["red", "green"]}, "green"),
    ({"guided_regex": "[0-9]{3}"}, "123"),
    ({"structured_outputs": {"json": Person.model_json_schema()}}, ADA),
    ({"structured_outputs": {"choice": ["red", "green"]}}, "green"),
    ({"structured_outputs": {"regex": "[0-9]{3}"}}, "123"),
    ({"structured_outputs": {"json_object": True}}, ADA),
]
"""Bodies as vLLM's documentation has clients of OpenAI's SDK send them, before 0.12 and since."""


@pytest.mark.parametrize("vendor", MODELS)
async def test_the_words_of_vllm_are_understood_for_every_vendor(vendor: str) -> None:
    for more, good in VLLM:
        async with saying(vendor, "blue", good) as front, openai_sdk(front.url) as client:
            answer = await client.chat.completions.create(
                model=f"{vendor}/{MODELS[vendor]}", messages=HELLO, extra_body=more
            )
        text = answer.choices[0].message.content or ""
        assert (text if isinstance(good, str) else json.loads(text)) == good, more


async def test_what_stays_wrong_is_an_error_that_says_why() -> None:
    async with saying("openai", {"name": "Ada"}) as front:
        async with openai_sdk(front.url) as client:
            with pytest.raises(openai.UnprocessableEntityError) as raised:
                await client.chat.completions.parse(
                    model="openai/gpt-5-mini", messages=HELLO, response_format=Person
                )
            body: Any = raised.value.body
            assert body["code"] == "output_invalid"
            assert body["problems"][0]["keyword"] == "required"
            assert json.loads(body["raw_text"]) == {"name": "Ada"}
        async with anthropic_sdk(front.url) as other:
            with pytest.raises(anthropic.UnprocessableEntityError, match="age"):
                await other.messages.parse(
                    model="openai/gpt-5-mini", max_tokens=100, messages=HELLO, output_format=Person
                )
