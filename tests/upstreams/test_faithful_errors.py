"""Errors are faithful too: each vendor's own SDK raises its typed exception for every scripted refusal."""

import json
from collections.abc import Callable, Mapping
from typing import Any

import anthropic
import cohere
import groq
import ollama
import openai
import pytest
from cohere.core.api_error import ApiError
from google.genai import errors as genai_errors
from mistralai.client import errors as mistral_errors

from tests.upstreams.cases import VENDORS, Refusal, exists, load, refusal, refusals
from tests.upstreams.clients import (
    anthropic_client,
    cohere_client,
    collect,
    gemini_client,
    groq_client,
    mistral_client,
    ollama_client,
    openai_client,
)
from tests.upstreams.test_faithful import HELLO, OPENAI_SPOKEN


def each_refusal(*vendors: str) -> pytest.MarkDecorator:
    """Parametrise over all error responses of these vendors."""
    rows = [row for vendor in vendors for row in refusals(vendor)]
    return pytest.mark.parametrize("row", rows, ids=lambda row: row.id)


def openai_error(sdk: Any, status: int) -> type[Exception]:
    """The exception that an SDK made by Stainless documents for a status."""
    named = {
        400: sdk.BadRequestError,
        401: sdk.AuthenticationError,
        403: sdk.PermissionDeniedError,
        404: sdk.NotFoundError,
        422: sdk.UnprocessableEntityError,
        429: sdk.RateLimitError,
    }
    found: type[Exception] = named.get(status) or (
        sdk.InternalServerError if status >= 500 else sdk.APIStatusError
    )
    return found


ANTHROPIC_ERRORS: Mapping[int, type[Exception]] = {
    402: anthropic.PaymentRequiredError,
    413: anthropic.ContentTooLargeError,
    503: anthropic.ServiceUnavailableError,
    504: anthropic.GatewayTimeoutError,
    529: anthropic.OverloadedError,
}

COHERE_ERRORS: Mapping[int, type[Exception]] = {
    400: cohere.BadRequestError,
    401: cohere.UnauthorizedError,
    403: cohere.ForbiddenError,
    404: cohere.NotFoundError,
    429: cohere.TooManyRequestsError,
    498: cohere.InvalidTokenError,
    499: cohere.ClientClosedRequestError,
    500: cohere.InternalServerError,
    503: cohere.ServiceUnavailableError,
    504: cohere.GatewayTimeoutError,
}


def decoded(row: Refusal) -> Any:
    """The body as JSON, or ``None`` where it is none."""
    return json.loads(row.body) if "json" in row.headers.get("content-type", "") else None


def inner(body: Any) -> Any:
    """What OpenAI's SDK hands out: the ``error`` member if there is a true one."""
    return (body.get("error") or body) if isinstance(body, dict) else body


@each_refusal(*OPENAI_SPOKEN)
async def test_openai_sdk_raises_its_typed_error(row: Refusal) -> None:
    path = load(row.vendor, "text").path
    async with openai_client(row, path) as client:
        with pytest.raises(openai.APIStatusError) as caught:
            await client.chat.completions.create(model="gpt-4o", messages=HELLO)
    assert type(caught.value) is openai_error(openai, row.status)
    assert caught.value.response.content == row.body
    assert caught.value.response.headers.get("retry-after") == row.headers.get("retry-after")
    if decoded(row) is not None:
        assert caught.value.body == inner(decoded(row))


@each_refusal("groq")
async def test_groq_sdk_raises_its_typed_error(row: Refusal) -> None:
    async with groq_client(row) as client:
        with pytest.raises(groq.APIStatusError) as caught:
            await client.chat.completions.create(model="llama", messages=HELLO)
    assert type(caught.value) is openai_error(groq, row.status)
    assert caught.value.response.content == row.body


@each_refusal("anthropic")
async def test_anthropic_sdk_raises_its_typed_error(row: Refusal) -> None:
    async with anthropic_client(row) as client:
        with pytest.raises(anthropic.APIStatusError) as caught:
            await client.messages.create(model="claude-sonnet-5", max_tokens=9, messages=HELLO)
    plain = ANTHROPIC_ERRORS.get(row.status, openai_error(anthropic, row.status))
    spent = anthropic.EnforcedSpendLimitReachedError
    assert type(caught.value) is (spent if row.name == "spend_limit" else plain)
    assert caught.value.response.content == row.body
    if decoded(row) is not None:
        assert caught.value.body == decoded(row)


@each_refusal("gemini")
async def test_genai_sdk_raises_its_typed_error(row: Refusal) -> None:
    async with gemini_client(row) as models:
        with pytest.raises(genai_errors.APIError) as caught:
            await models.generate_content(model="gemini-3-flash-preview", contents="Hello")
    assert type(caught.value) is (genai_errors.ServerError if row.status >= 500 else genai_errors.ClientError)
    assert caught.value.code == row.status
    if (body := decoded(row)) is not None:
        assert (caught.value.status, caught.value.message) == (
            body["error"]["status"],
            body["error"]["message"],
        )


@each_refusal("cohere")
async def test_cohere_sdk_raises_its_typed_error(row: Refusal) -> None:
    async with cohere_client(row) as client:
        with pytest.raises(ApiError) as caught:
            await client.chat(model="command-a-03-2025", messages=HELLO)
    if decoded(row) is not None:
        assert type(caught.value) is COHERE_ERRORS.get(row.status, ApiError)
        assert caught.value.body == decoded(row)
    assert caught.value.status_code == row.status


@each_refusal("mistral")
async def test_mistral_sdk_raises_its_typed_error(row: Refusal) -> None:
    async with mistral_client(row) as client:
        with pytest.raises(mistral_errors.MistralError) as caught:
            await client.chat.complete_async(model="mistral-small-latest", messages=HELLO)
    assert caught.value.status_code == row.status
    assert caught.value.body == row.body.decode()


async def test_ollama_sdk_raises_for_its_native_error() -> None:
    row = refusal("ollama", "native_not_found")
    async with ollama_client(row, "/api/chat") as client:
        with pytest.raises(ollama.ResponseError) as caught:
            await client.chat(model="nope", messages=HELLO)
    assert (caught.value.status_code, caught.value.error) == (404, decoded(row)["error"])


# errors in the middle of a stream: the status was 200 and text has arrived

MIDSTREAM = [vendor for vendor in OPENAI_SPOKEN if exists(vendor, "error_midstream", "stream")]


async def hear(stream: Any, said: list[str], text_of: Callable[[Any], str | None]) -> None:
    """Note the text of a stream's items, until it ends or raises."""
    async for item in stream:
        said.append(text_of(item) or "")  # noqa: PERF401  what came before an error must be kept


def delta(chunk: Any) -> str | None:
    """The text of an OpenAI-shaped chunk."""
    return str(chunk.choices[0].delta.content or "")


@pytest.mark.parametrize("vendor", MIDSTREAM)
async def test_openai_sdk_raises_in_mid_stream(vendor: str) -> None:
    case = load(vendor, "error_midstream", "stream")
    said: list[str] = []
    async with openai_client(case, case.path) as client:
        stream = await client.chat.completions.create(model="gpt-4o", messages=HELLO, stream=True)
        with pytest.raises(openai.APIError) as caught:
            await hear(stream, said, delta)
    assert ("".join(said), caught.value.message) == (case.answer["text"], case.answer["error"])


async def test_groq_sdk_raises_in_mid_stream() -> None:
    case = load("groq", "error_midstream", "stream")
    said: list[str] = []
    async with groq_client(case) as client:
        stream: Any = await client.chat.completions.create(model="llama", messages=HELLO, stream=True)
        with pytest.raises(groq.APIError) as caught:
            await hear(stream, said, delta)
    assert "".join(said) == case.answer["text"]
    assert caught.value.message.startswith(case.answer["error"])


async def test_anthropic_sdk_raises_in_mid_stream() -> None:
    case = load("anthropic", "error_midstream", "stream")
    ask: Any = {"model": "claude-sonnet-5", "max_tokens": 9, "messages": HELLO}
    said: list[str] = []
    async with anthropic_client(case) as client, client.messages.stream(**ask) as stream:
        with pytest.raises(anthropic.APIStatusError) as caught:
            await hear(stream.text_stream, said, str)
    assert "".join(said) == case.answer["text"]
    assert isinstance(caught.value.body, dict)
    assert caught.value.body["error"]["message"] == case.answer["error"]


async def test_genai_sdk_raises_in_mid_stream() -> None:
    case = load("gemini", "error_midstream", "stream")
    said: list[str] = []
    async with gemini_client(case) as models:
        stream = await models.generate_content_stream(model="gemini-3-flash-preview", contents="Hello")
        with pytest.raises(genai_errors.ServerError) as caught:
            await hear(stream, said, lambda response: response.text)
    assert ("".join(said), caught.value.message) == (case.answer["text"], case.answer["error"])


async def test_mistral_sdk_raises_in_mid_stream() -> None:
    case = load("mistral", "error_midstream", "stream")
    said: list[str] = []
    async with mistral_client(case) as client:
        stream = await client.chat.stream_async(model="mistral-small-latest", messages=HELLO)
        with pytest.raises(mistral_errors.ResponseValidationError, match="validation failed"):
            await hear(stream, said, lambda event: delta(event.data))
    assert "".join(said) == case.answer["text"]


async def test_cohere_sdk_tells_of_an_error_in_its_last_event() -> None:
    case = load("cohere", "error_midstream", "stream")
    async with cohere_client(case) as client:
        ask: Any = {"model": "command-a-03-2025", "messages": HELLO}
        events: Any = await collect(client.chat_stream(**ask))
    assert events[-1].delta.finish_reason == case.answer["finish"]
    assert events[-1].delta.error == case.answer["error"]


async def test_openai_sdk_sees_an_error_that_came_with_success() -> None:
    case = load("lmstudio", "error_as_success")
    async with openai_client(case, case.path) as client:
        completion = await client.chat.completions.create(model="gpt-4o", messages=HELLO)
    assert completion.choices is None
    assert completion.model_extra == {"error": case.answer["error"]}


def test_every_vendor_has_the_errors_that_matter() -> None:
    for vendor in VENDORS:
        rows = {row.name: row.status for row in refusals(vendor)}
        assert rows, vendor
        assert len(rows) == len(refusals(vendor)), f"{vendor}: a name twice"
        local = vendor in {"vllm", "lmstudio", "ollama"}
        assert {"model_not_found"} <= rows.keys(), vendor
        assert local or {"rate_limit", "invalid_auth"} <= rows.keys(), vendor
        assert any(status >= 500 for status in rows.values()), vendor
