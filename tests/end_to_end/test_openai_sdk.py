"""OpenAI's SDK as a client: everything that it can ask of this server, and what it makes of our errors."""

import asyncio
from base64 import b64decode
from dataclasses import replace
from typing import Any

import openai
import pytest

from tests.end_to_end.conftest import World
from tests.end_to_end.front import ONCE, before
from tests.end_to_end.sdks import openai_sdk, openai_sync
from tests.upstreams.cases import Refusal, load, refusal
from tests.upstreams.clients import collect

pytestmark = pytest.mark.asyncio(loop_scope="module")

HELLO: Any = [{"role": "user", "content": "Hello"}]
VECTORS = [[-0.0069580078125, -0.0053253173828125, 0.0146484375, 0.5]]
VECTORS += [[0.0230712890625, -0.009307861328125, -0.0028839111328125, 0.25]]
EMBEDDERS = (
    "azure",
    "cohere",
    "fireworks",
    "gemini",
    "lmstudio",
    "mistral",
    "ollama",
    "openai",
    "together",
    "vllm",
)


async def test_the_synchronous_client_chats_streams_and_lists(world: World) -> None:
    def ask() -> tuple[str, str, str]:
        with openai_sync(world.url) as client:
            whole = client.chat.completions.create(model="openai/text", messages=HELLO)
            stream = client.chat.completions.create(model="openai/text", messages=HELLO, stream=True)
            pieces = [chunk.choices[0].delta.content or "" for chunk in stream]
            with client.chat.completions.stream(model="anthropic/text", messages=HELLO) as helper:
                folded = helper.get_final_completion()
            return (
                whole.choices[0].message.content or "",
                "".join(pieces),
                folded.choices[0].message.content or "",
            )

    said = load("openai", "text").answer["text"]
    assert await asyncio.to_thread(ask) == (said, said, load("anthropic", "text").answer["text"])


@pytest.mark.parametrize(
    "model", ["openai/text", "anthropic/text", "gemini/text", "cohere/text", "mistral/text"]
)
async def test_usage_ends_a_stream_only_when_asked_for(world: World, model: str) -> None:
    ask: Any = {"model": model, "messages": HELLO, "stream": True}
    without = await collect(await world.openai.chat.completions.create(**ask))
    asked = await collect(
        await world.openai.chat.completions.create(**ask, stream_options={"include_usage": True})
    )
    assert all(chunk.choices for chunk in without)
    assert asked[-1].usage.total_tokens > 0


async def test_a_response_format_becomes_the_upstreams(world: World) -> None:
    asked: Any = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
    schema = {**asked, "additionalProperties": False}
    form: Any = {"type": "json_schema", "json_schema": {"name": "a", "schema": schema, "strict": True}}
    seen = {}
    for vendor in ("openai", "anthropic", "gemini", "cohere"):
        ask = world.openai.chat.completions.create
        with pytest.raises(openai.UnprocessableEntityError, match="JSON"):
            await ask(model=f"{vendor}/text", messages=HELLO, response_format=form)
        seen[vendor] = world.upstreams[vendor].requests[-1].json()
    assert seen["openai"]["response_format"] == form
    assert seen["anthropic"]["output_config"]["format"] == {"type": "json_schema", "schema": schema}
    assert seen["gemini"]["generationConfig"]["responseJsonSchema"] == schema
    hint = {"description": "(additionalProperties: false)"}
    assert seen["cohere"]["response_format"] == {"type": "json_object", "json_schema": {**asked, **hint}}


@pytest.mark.parametrize("vendor", ["openai", "vllm", "ollama"])
async def test_legacy_completions_go_through(world: World, vendor: str) -> None:
    ask: Any = {"model": f"{vendor}/completion", "prompt": "This is"}
    whole = await world.openai.completions.create(**ask)
    streamed = await collect(await world.openai.completions.create(**ask, stream=True))
    said = load(vendor, "completion").answer
    assert (whole.choices[0].text, whole.choices[0].finish_reason) == (said["text"], said["finish"])
    assert "".join(chunk.choices[0].text for chunk in streamed if chunk.choices) == said["text"]


@pytest.mark.parametrize("vendor", ["anthropic", "gemini", "cohere", "groq"])
async def test_legacy_completions_of_a_model_that_only_chats_are_chats(world: World, vendor: str) -> None:
    ask: Any = {"model": f"{vendor}/text", "prompt": ["Hello", "Hello again"]}
    whole = await world.openai.completions.create(**ask)
    streamed = await collect(await world.openai.completions.create(**ask, stream=True))
    said = load(vendor, "text").answer["text"]
    assert [(choice.index, choice.text) for choice in whole.choices] == [(0, said), (1, said)]
    for index in (0, 1):
        pieces = (one.text for chunk in streamed for one in chunk.choices if one.index == index)
        assert "".join(pieces) == said


@pytest.mark.parametrize("vendor", EMBEDDERS)
@pytest.mark.parametrize("form", [{}, {"encoding_format": "float"}, {"encoding_format": "base64"}], ids=str)
async def test_embeddings_come_in_every_form(world: World, vendor: str, form: Any) -> None:
    ask = world.openai.embeddings.create
    answer = await ask(model=f"{vendor}/embeddings", input=["a", "b"], **form)
    vectors: list[Any] = [row.embedding for row in answer.data]
    assert all(isinstance(vector, str) == (form.get("encoding_format") == "base64") for vector in vectors)
    if isinstance(vectors[0], str):
        vectors = [list(memoryview(b64decode(vector)).cast("f")) for vector in vectors]
    assert vectors == VECTORS
    assert [row.index for row in answer.data] == [0, 1]


async def test_dimensions_are_asked_for_in_each_vendors_words(world: World) -> None:
    for vendor in ("openai", "mistral", "gemini", "cohere"):
        await world.openai.embeddings.create(model=f"{vendor}/embeddings", input=["a", "b"], dimensions=4)
    seen = {vendor: up.requests[-1].json() for vendor, up in world.upstreams.items() if up.requests}
    assert seen["openai"]["dimensions"] == 4
    assert seen["mistral"]["output_dimension"] == 4
    assert [one["outputDimensionality"] for one in seen["gemini"]["requests"]] == [4, 4]
    assert seen["cohere"]["output_dimension"] == 4


async def test_token_ids_go_to_who_takes_them_and_are_refused_for_others(world: World) -> None:
    ids = [[15339, 1917], [9906]]
    await world.openai.embeddings.create(model="openai/embeddings", input=ids)
    assert world.upstreams["openai"].requests[-1].json()["input"] == ids
    seen = len(world.upstreams["gemini"].requests)
    with pytest.raises(openai.BadRequestError, match="token ids"):
        await world.openai.embeddings.create(model="gemini/embeddings", input=ids)
    assert len(world.upstreams["gemini"].requests) == seen


async def test_models_are_listed_and_described(world: World) -> None:
    listed = {model.id: model async for model in world.openai.models.list()}
    assert {"openai/gpt-4o", "anthropic/claude-sonnet-5", "groq/qwen/qwen3-32b"} <= listed.keys()
    assert any(name.startswith("gemini/") for name in listed)
    one = await world.openai.models.retrieve("groq/qwen/qwen3-32b")
    assert (one.id, one.object, one.owned_by) == ("groq/qwen/qwen3-32b", "model", "groq")
    with pytest.raises(openai.NotFoundError, match="Unknown model 'openai/no'"):
        await world.openai.models.retrieve("openai/no")


WRONG: list[tuple[dict[str, Any], type[openai.APIStatusError], str | None]] = [
    ({"model": "nobody/x", "messages": HELLO}, openai.NotFoundError, "model"),
    ({"model": "openai/text", "messages": [{"role": "user"}]}, openai.BadRequestError, "messages[0].content"),
    ({"model": "openai/text", "messages": "Hello"}, openai.BadRequestError, "messages"),
    ({"model": "openai/text", "messages": HELLO, "temperature": 3}, openai.BadRequestError, "temperature"),
]


@pytest.mark.parametrize(("body", "kind", "param"), WRONG, ids=lambda value: str(value)[:40])
async def test_mistakes_are_typed_errors_that_name_the_field(
    world: World, body: Any, kind: Any, param: Any
) -> None:
    with pytest.raises(kind) as caught:
        await world.openai.chat.completions.create(**body)
    assert caught.value.param == param
    assert caught.value.request_id == caught.value.response.headers["x-request-id"]
    assert caught.value.body["message"]


FAILED = {
    "rate_limit": openai.RateLimitError,
    "insufficient_quota": openai.InternalServerError,
    "invalid_auth": openai.InternalServerError,
    "server_error": openai.InternalServerError,
    "overloaded": openai.InternalServerError,
    "bad_request": openai.BadRequestError,
    "context_length": openai.BadRequestError,
    "model_not_found": openai.NotFoundError,
}


@pytest.mark.parametrize("name", FAILED)
async def test_an_upstreams_refusals_are_typed_errors(name: str) -> None:
    refused = before("openai", refusal("openai", name), retry=ONCE)
    async with refused as (front, _), openai_sdk(front.url) as client:
        with pytest.raises(FAILED[name]) as caught:
            await client.chat.completions.create(model="openai/x", messages=HELLO)
    headers = caught.value.response.headers
    assert (headers["x-llm-server-provider"], headers["x-llm-server-attempts"]) == ("openai", "1")
    assert caught.value.request_id == headers["x-request-id"]


def soon(row: Refusal) -> Refusal:
    """Return a refusal that may be tried again after a millisecond."""
    return replace(row, headers={**row.headers, "retry-after-ms": "1"})


async def test_the_sdk_tries_again_when_that_may_help() -> None:
    limited, text = soon(refusal("openai", "rate_limit")), load("openai", "text")
    async with before("openai", limited, limited, text, retry=ONCE) as (front, up):
        async with openai_sdk(front.url, max_retries=2) as client:
            await client.chat.completions.create(model="openai/x", messages=HELLO)
        assert len(up.requests) == 3


async def test_the_sdk_gives_up_after_its_retries() -> None:
    async with before("openai", soon(refusal("openai", "rate_limit")), retry=ONCE) as (front, up):
        async with openai_sdk(front.url, max_retries=1) as client:
            with pytest.raises(openai.RateLimitError):
                await client.chat.completions.create(model="openai/x", messages=HELLO)
        assert len(up.requests) == 2


@pytest.mark.parametrize("name", ["invalid_auth", "insufficient_quota"])
async def test_the_sdk_does_not_try_again_what_cannot_help(name: str) -> None:
    async with before("openai", refusal("openai", name)) as (front, up):
        async with openai_sdk(front.url, max_retries=2) as client:
            with pytest.raises(openai.InternalServerError) as caught:
                await client.chat.completions.create(model="openai/x", messages=HELLO)
        assert caught.value.response.headers["x-should-retry"] == "false"
        assert len(up.requests) == 1
