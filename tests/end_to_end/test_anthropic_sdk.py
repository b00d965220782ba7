"""Anthropic's SDK as a client: everything that it can ask of this server, and what it makes of our errors."""

import asyncio
from typing import Any

import anthropic
import pytest

from tests.end_to_end.conftest import World
from tests.end_to_end.front import before
from tests.end_to_end.sdks import KEY, anthropic_sdk, anthropic_sync
from tests.upstreams.cases import load, refusal

pytestmark = pytest.mark.asyncio(loop_scope="module")

HELLO: Any = [{"role": "user", "content": "Hello"}]
ASK: Any = {"max_tokens": 100, "messages": HELLO}


async def test_the_synchronous_client_asks_streams_and_lists(world: World) -> None:
    def ask() -> tuple[str, str, list[str]]:
        with anthropic_sync(world.url) as client:
            whole: Any = client.messages.create(model="anthropic/text", **ASK).content[0]
            with client.messages.stream(model="openai/text", **ASK) as stream:
                pieces = "".join(stream.text_stream)
            return whole.text, pieces, [model.id for model in client.models.list(limit=3)]

    text, streamed, models = await asyncio.to_thread(ask)
    assert text == load("anthropic", "text").answer["text"]
    assert streamed == load("openai", "text").answer["text"]
    assert len(models) > 3, "the SDK asks for further pages"
    assert len(set(models)) == len(models)


@pytest.mark.parametrize("version", ["2023-06-01", "2026-10-21"])
@pytest.mark.parametrize(
    "auth", [{"x-api-key": KEY}, {"authorization": f"Bearer {KEY}"}], ids=lambda a: next(iter(a))
)
async def test_both_versions_and_both_ways_to_give_a_key(world: World, version: str, auth: Any) -> None:
    body = {"model": "anthropic/text", **ASK}
    headers = {"anthropic-version": version, **auth}
    async with world.front.http.post("/v1/messages", json=body, headers=headers) as response:
        assert response.status == 200
        assert (await response.json())["content"][0]["text"] == load("anthropic", "text").answer["text"]
    sent = world.upstreams["anthropic"].requests[-1]
    assert sent.headers["anthropic-version"] == version
    assert KEY not in str(sent.raw_headers), "the caller's key is not for upstreams"
    async with world.front.http.get("/v1/models", headers=headers) as response:
        assert {"data", "has_more", "first_id", "last_id"} == (await response.json()).keys()


async def test_the_older_way_to_give_a_key_works_through_the_sdk(world: World) -> None:
    async with anthropic_sdk(world.url, default_headers={"x-api-key": KEY, "authorization": ""}) as client:
        message = await client.messages.create(model="cohere/text", **ASK)
    block: Any = message.content[0]
    assert block.text == load("cohere", "text").answer["text"]


async def test_tokens_are_counted_by_who_can_and_estimated_for_others(world: World) -> None:
    count = world.anthropic.messages.with_raw_response.count_tokens
    exact = await count(model="anthropic/text", messages=HELLO)
    assert (await exact.parse()).input_tokens == load("anthropic", "count_tokens").answer["usage"]["input"]
    assert "x-llm-server-estimated" not in exact.headers
    exact = await count(model="gemini/text", messages=HELLO)
    assert (await exact.parse()).input_tokens == load("gemini", "count_tokens").answer["usage"]["input"]
    guess = await count(model="openai/text", messages=[{"role": "user", "content": "word " * 400}])
    assert 400 <= (await guess.parse()).input_tokens <= 800
    assert guess.headers["x-llm-server-estimated"] == "input_tokens"


async def test_a_model_is_described(world: World) -> None:
    await world.front.http.get("/v1/models")
    model = await world.anthropic.models.retrieve("anthropic/claude-sonnet-5")
    assert (model.id, model.type) == ("anthropic/claude-sonnet-5", "model")
    with pytest.raises(anthropic.NotFoundError, match="Unknown model"):
        await world.anthropic.models.retrieve("anthropic/none")


async def test_structured_output_of_the_sdk_reaches_other_vendors(world: World) -> None:
    schema: Any = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
    config: Any = {"format": {"type": "json_schema", "schema": schema}}
    with pytest.raises(anthropic.UnprocessableEntityError, match="JSON"):
        await world.anthropic.messages.create(model="openai/text", output_config=config, **ASK)
    form = world.upstreams["openai"].requests[-1].json()["response_format"]
    assert form["json_schema"]["schema"] == {**schema, "additionalProperties": False}


WRONG: list[tuple[dict[str, Any], type[anthropic.APIStatusError], str]] = [
    ({"model": "nobody/x", **ASK}, anthropic.NotFoundError, "No provider named 'nobody'"),
    (
        {"model": "openai/text", "max_tokens": 5, "messages": [{"role": "user"}]},
        anthropic.BadRequestError,
        "messages",
    ),
    ({"model": "openai/text", "max_tokens": -5, "messages": HELLO}, anthropic.BadRequestError, "max_tokens"),
]


@pytest.mark.parametrize(("body", "kind", "words"), WRONG, ids=lambda value: str(value)[:40])
async def test_mistakes_are_typed_errors(world: World, body: Any, kind: Any, words: str) -> None:
    with pytest.raises(kind, match=words) as caught:
        await world.anthropic.messages.create(**body)
    assert caught.value.request_id == caught.value.response.headers["request-id"]
    assert caught.value.body["request_id"] == caught.value.request_id


FAILED = {
    "rate_limit": anthropic.RateLimitError,
    "overloaded": anthropic.ServiceUnavailableError,
    "billing": anthropic.ServiceUnavailableError,
    "invalid_auth": anthropic.InternalServerError,
    "bad_request": anthropic.BadRequestError,
    "context_length": anthropic.BadRequestError,
    "too_large": anthropic.RequestTooLargeError,
    "model_not_found": anthropic.NotFoundError,
}


@pytest.mark.parametrize("name", FAILED)
async def test_an_upstreams_refusals_are_typed_errors(name: str) -> None:
    async with (
        before("anthropic", refusal("anthropic", name)) as (front, _),
        anthropic_sdk(front.url) as client,
    ):
        with pytest.raises(FAILED[name]) as caught:
            await client.messages.create(model="anthropic/x", **ASK)
    assert caught.value.response.headers["x-llm-server-provider"] == "anthropic"
    assert caught.value.body["type"] == "error"
