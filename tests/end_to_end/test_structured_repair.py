"""What wrong answers cost, and who is asked next: repair and fallback through the whole server."""

import json
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest

from tests.end_to_end.front import Front, fronting, provider
from tests.structured.answering import GOOD, PERSON
from tests.structured.test_vendors import ASKS, MESSAGES, as_sent, read_stream, read_whole
from tests.structured.vendors import MODELS, script
from tests.upstreams.cases import Refusal
from tests.upstreams.server import upstream
from tests.upstreams.upstream import Answer, Request, Upstream

BAD = '{"name":"Ada","age":"x"}'
CHAIN = ("groq", "gemini", "ollama")
"""Three vendors of three wires, behind one name; none promises to hold to a schema."""


class World:
    """A server with one name for several vendors, and what their models say in turn; the last repeats."""

    def __init__(self, front: Front, says: dict[str, list[str]], ups: dict[str, Upstream]) -> None:
        self.front = front
        self.says = says
        self.ups = ups

    def say(self, **words: list[str]) -> None:
        self.says.update(words)
        for up in self.ups.values():
            up.requests.clear()

    def asked(self) -> dict[str, int]:
        return {vendor: len(up.requests) for vendor, up in self.ups.items()}

    async def spent(self, vendor: str) -> float:
        return await self.front.metric("llm_server_tokens_total", provider=vendor)


@asynccontextmanager
async def world() -> AsyncGenerator[World, None]:
    says: dict[str, list[str]] = {}

    def answering(vendor: str) -> Any:
        def answer(request: Request) -> Answer:
            words = says[vendor]
            return script(vendor, request, as_sent(words.pop(0) if len(words) > 1 else words[0], request))

        return answer

    async with AsyncExitStack() as stack:
        ups = {vendor: await stack.enter_async_context(upstream(answering(vendor))) for vendor in CHAIN}
        targets = [f"{vendor}/{MODELS[vendor]}" for vendor in CHAIN]
        front = await stack.enter_async_context(
            fronting(
                {vendor: provider(up, vendor) for vendor, up in ups.items()},
                models={"person": targets},
                structured={"max_attempts": 2},
            )
        )
        yield World(front, says, ups)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("ask", ASKS)
async def test_the_next_model_is_asked_and_every_token_accounted(ask: str, stream: bool) -> None:
    path, more = ASKS[ask]
    body = {"model": "person", "messages": MESSAGES, "stream": stream, **more}
    async with world() as it:
        it.say(groq=[BAD], gemini=[BAD], ollama=[BAD, GOOD])
        async with it.front.http.post(path, json=body) as response:
            raw = await response.text()
        assert response.status == 200, raw
        value, _ = read_stream(ask, raw) if stream else read_whole(ask, json.loads(raw))
        assert value == json.loads(GOOD)
        assert it.asked() == {"groq": 2, "gemini": 2, "ollama": 2}
        assert response.headers["x-llm-server-attempts"] == "3"
        assert response.headers["x-llm-server-provider"] == "ollama"
        assert "attempts=2; outcome=valid" in response.headers["x-llm-server-structured"]
        for vendor in CHAIN:
            await it.front.until_metric(30, "llm_server_tokens_total", provider=vendor)
            assert await it.spent(vendor) == 30, "two answers of 10 and 5 tokens"
        assert await it.front.metric("llm_server_attempts_total", outcome="output_invalid") == 2


@pytest.mark.parametrize("ask", ASKS)
async def test_the_answer_s_usage_is_what_its_own_model_took(ask: str) -> None:
    path, more = ASKS[ask]
    async with world() as it:
        it.say(groq=[BAD, GOOD], gemini=[BAD], ollama=[BAD])
        async with it.front.http.post(path, json={"model": "person", "messages": MESSAGES, **more}) as got:
            body = await got.json()
    usage = body["usage"]
    words = (
        ("prompt_tokens", "completion_tokens")
        if ask.startswith("openai")
        else ("input_tokens", "output_tokens")
    )
    assert [usage[word] for word in words] == [20, 10]


async def test_when_nobody_can_the_last_words_are_shown() -> None:
    path, more = ASKS["openai format"]
    async with world() as it:
        it.say(groq=[BAD], gemini=["No."], ollama=['{"name":"Bob"}'])
        body = {"model": "person", "messages": MESSAGES, **more}
        async with it.front.http.post(path, json=body) as response:
            error = (await response.json())["error"]
        assert response.status == 422
        assert error["code"] == "output_invalid"
        assert [problem["keyword"] for problem in error["problems"]] == ["required"]
        assert error["raw_text"] == '{"name":"Bob"}'
        assert it.asked() == dict.fromkeys(CHAIN, 2)
        await it.front.until_metric(90, "llm_server_tokens_total")


async def test_the_native_endpoint_tells_attempts_problems_and_usage() -> None:
    async with world() as it:
        it.say(groq=[BAD], gemini=[BAD, GOOD], ollama=[BAD])
        body = {"model": "person", "prompt": "Who is it?", "schema": PERSON}
        async with it.front.http.post("/v1/structured-completions", json=body) as response:
            told = await response.json()
        assert told["structured_output"] == json.loads(GOOD)
        assert told["attempts"] == 2
        assert [problem["pointer"] for problem in told["problems"]] == ["/age"]
        assert told["usage"]["total_tokens"] == 30
        assert it.asked() == {"groq": 2, "gemini": 2, "ollama": 0}


async def test_a_vendor_that_refuses_the_schema_is_asked_in_another_way() -> None:
    refusal = Refusal(
        vendor="openai",
        name="no_schema_mode",
        status=400,
        headers={"content-type": "application/json"},
        body=b'{"error":{"message":"Invalid parameter: response_format of type json_schema is not '
        b'supported with this model.","type":"invalid_request_error","param":null,"code":null}}',
        trust="recalled",
        source="https://platform.openai.com/docs/guides/structured-outputs",
    )
    ways: list[str] = []

    def answer(request: Request) -> Answer:
        asked = request.json()
        ways.append("native" if "response_format" in asked else "tool" if "tools" in asked else "prompt")
        return refusal if "response_format" in asked else script("openai", request, GOOD)

    path, more = ASKS["openai format"]
    async with upstream(answer) as up, fronting({"openai": provider(up, "openai")}) as front:
        body = {"model": f"openai/{MODELS['openai']}", "messages": MESSAGES, **more}
        async with front.http.post(path, json=body) as response:
            value, _ = read_whole("openai format", await response.json())
    assert value == json.loads(GOOD)
    assert ways == ["native", "tool"]
    assert response.headers["x-llm-server-structured"].startswith("tool; guarantee=validated; attempts=1")
