"""The other vendors' SDKs: those that speak OpenAI's dialect work, the others get a clear refusal."""

from typing import Any

import cohere
import groq
import httpx
import httpx2
import ollama
import pytest
from google import genai
from mistralai.client import Mistral, errors

from tests.end_to_end.conftest import World
from tests.end_to_end.sdks import KEY
from tests.upstreams.cases import load
from tests.upstreams.clients import collect

pytestmark = pytest.mark.asyncio(loop_scope="module")

HELLO: Any = [{"role": "user", "content": "Hello"}]
MODELS = ["openai/text", "anthropic/text", "gemini/text", "cohere/text", "groq/text", "mistral/text"]


def said(model: str) -> str:
    """Return the text of the case that a model's name stands for."""
    text: str = load(*model.split("/")).answer["text"]
    return text


@pytest.mark.parametrize("model", MODELS)
async def test_groqs_sdk_asks_and_streams(world: World, model: str) -> None:
    http = groq.DefaultAsyncHttpxClient(verify=False)
    async with groq.AsyncGroq(base_url=world.url, api_key=KEY, max_retries=0, http_client=http) as client:
        whole: Any = await client.chat.completions.create(model=model, messages=HELLO)
        chunks = await collect(await client.chat.completions.create(model=model, messages=HELLO, stream=True))
    assert whole.choices[0].message.content == said(model)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == said(model)


async def test_groqs_sdk_lists_embeds_and_raises(world: World) -> None:
    http = groq.DefaultAsyncHttpxClient(verify=False)
    async with groq.AsyncGroq(base_url=world.url, api_key=KEY, max_retries=0, http_client=http) as client:
        assert "anthropic/claude-sonnet-5" in [model.id for model in (await client.models.list()).data]
        embedded = await client.embeddings.create(model="openai/embeddings", input=["a", "b"])
        assert [row.embedding for row in embedded.data] == load("openai", "embeddings").answer["vectors"]
        with pytest.raises(groq.NotFoundError, match="nobody"):
            await client.chat.completions.create(model="nobody/x", messages=HELLO)


@pytest.mark.parametrize("model", MODELS)
async def test_mistrals_sdk_asks_and_streams(world: World, model: str) -> None:
    async with httpx.AsyncClient(verify=False) as http:
        with httpx.Client(verify=False) as unused:
            clients: dict[str, Any] = {"async_client": http, "client": unused}
            client = Mistral(api_key=KEY, server_url=world.url, **clients)
            whole = await client.chat.complete_async(model=model, messages=HELLO)
            async with await client.chat.stream_async(model=model, messages=HELLO) as stream:
                chunks = [event.data async for event in stream]
    assert whole.choices[0].message.content == said(model)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == said(model)


async def test_mistrals_sdk_embeds_and_raises(world: World) -> None:
    async with httpx.AsyncClient(verify=False) as http:
        with httpx.Client(verify=False) as unused:
            clients: dict[str, Any] = {"async_client": http, "client": unused}
            client = Mistral(api_key=KEY, server_url=world.url, **clients)
            embedded = await client.embeddings.create_async(model="mistral/embeddings", inputs=["a", "b"])
            with pytest.raises(errors.SDKError, match="nobody"):
                await client.chat.complete_async(model="nobody/x", messages=HELLO)
    assert [row.embedding for row in embedded.data] == load("mistral", "embeddings").answer["vectors"]


async def test_coheres_own_api_is_not_served(world: World) -> None:
    async with httpx.AsyncClient(verify=False) as http:
        client = cohere.AsyncClientV2(api_key=KEY, base_url=world.url, max_retries=0, httpx_client=http)
        with pytest.raises(cohere.NotFoundError, match="There is no /v2/chat here"):
            await client.chat(model="openai/text", messages=HELLO)


async def test_ollamas_own_api_is_not_served(world: World) -> None:
    async with ollama.AsyncClient(host=world.url, verify=False) as client:
        with pytest.raises(ollama.ResponseError, match="There is no /api/chat here") as caught:
            await client.chat(model="openai/text", messages=HELLO)
    assert caught.value.status_code == 404


@pytest.mark.parametrize(
    ("version", "status", "words"), [("v1beta", 404, "There is no"), ("v1", 405, "not allowed")]
)
async def test_geminis_api_is_not_served(world: World, version: str, status: int, words: str) -> None:
    async with httpx2.AsyncClient(verify=False) as http:
        with httpx2.Client(verify=False) as unused:
            options = genai.types.HttpOptions(
                base_url=world.url, api_version=version, httpx_async_client=http, httpx_client=unused
            )
            client = genai.Client(api_key=KEY, http_options=options).aio.models
            with pytest.raises(genai.errors.ClientError, match=words) as caught:
                await client.generate_content(model="gemini-3-pro", contents="Hello")
    assert caught.value.code == status
