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
from tests.structured.accepting import sent_format
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
