"""The vendors' own SDKs, pointed at a scripted upstream.

No client checks certificates: loopback has none, and loading the trust store costs more than the whole test.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anthropic
import cohere
import groq
import httpx
import httpx2
import ollama
import openai
from google import genai
from mistralai.client import Mistral

from tests.upstreams.server import scripted
from tests.upstreams.upstream import Answer

KEY = "sk-test-0123456789"


async def collect(stream: Any) -> list[Any]:
    """Return all items of an asynchronous iterator."""
    return [item async for item in stream]


@asynccontextmanager
async def openai_client(answer: Answer, path: str) -> AsyncIterator[Any]:
    """OpenAI's client with the vendor's base path; Azure's own client where the path says so.

    Checks at the end that the client asked for ``path`` once and for nothing else.
    """
    prefix = path
    for ending in ("/chat/completions", "/completions", "/embeddings", "/models"):
        prefix = prefix.removesuffix(ending)
    http = openai.DefaultAsyncHttpxClient(verify=False)
    async with scripted(answer) as up:
        ask: dict[str, Any] = {"api_key": KEY, "max_retries": 0, "http_client": http}
        if prefix.startswith("/openai/deployments"):
            ask |= {"azure_endpoint": up.url, "api_version": "2024-10-21"}
            client: Any = openai.AsyncAzureOpenAI(**ask)
        else:
            client = openai.AsyncOpenAI(base_url=up.url + prefix, **ask)
        async with client:
            yield client
        assert [request.path for request in up.requests] == [path]


@asynccontextmanager
async def groq_client(answer: Answer) -> AsyncIterator[groq.AsyncGroq]:
    """Groq's client."""
    http = groq.DefaultAsyncHttpxClient(verify=False)
    async with (
        scripted(answer) as up,
        groq.AsyncGroq(base_url=up.url, api_key=KEY, max_retries=0, http_client=http) as client,
    ):
        yield client


@asynccontextmanager
async def anthropic_client(answer: Answer) -> AsyncIterator[anthropic.AsyncAnthropic]:
    """Anthropic's client."""
    http = anthropic.DefaultAsyncHttpxClient(verify=False)
    async with (
        scripted(answer) as up,
        anthropic.AsyncAnthropic(base_url=up.url, api_key=KEY, max_retries=0, http_client=http) as client,
    ):
        yield client


@asynccontextmanager
async def gemini_client(answer: Answer) -> AsyncIterator[Any]:
    """Google's client: its asynchronous ``models``."""
    async with scripted(answer) as up, httpx2.AsyncClient(verify=False) as http:
        with httpx2.Client(verify=False) as unused:
            options = genai.types.HttpOptions(
                base_url=up.url, api_version="v1beta", httpx_async_client=http, httpx_client=unused
            )
            yield genai.Client(api_key=KEY, http_options=options).aio.models


@asynccontextmanager
async def cohere_client(answer: Answer) -> AsyncIterator[cohere.AsyncClientV2]:
    """Cohere's client, version 2 of the API."""
    async with scripted(answer) as up, httpx.AsyncClient(verify=False) as http:
        yield cohere.AsyncClientV2(api_key=KEY, base_url=up.url, max_retries=0, httpx_client=http)


@asynccontextmanager
async def mistral_client(answer: Answer) -> AsyncIterator[Mistral]:
    """Mistral's client."""
    async with scripted(answer) as up, httpx.AsyncClient(verify=False) as http:
        with httpx.Client(verify=False) as unused:
            clients: dict[str, Any] = {"async_client": http, "client": unused}
            yield Mistral(api_key=KEY, server_url=up.url, **clients)


@asynccontextmanager
async def ollama_client(answer: Answer, path: str) -> AsyncIterator[ollama.AsyncClient]:
    """Ollama's client: its native API. Checks at the end that it asked for ``path``."""
    async with scripted(answer) as up, ollama.AsyncClient(host=up.url, verify=False) as client:
        yield client
        assert [request.path for request in up.requests] == [path]
