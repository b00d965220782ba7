"""What real clients send that a strict server would refuse: see the recordings of their requests."""

import json
import re
from typing import Any

import pytest

from tests.end_to_end.conftest import World
from tests.end_to_end.front import before, fronting, provider
from tests.end_to_end.raw import Wire, connected
from tests.end_to_end.sdks import anthropic_sdk, openai_sdk
from tests.upstreams.cases import load
from tests.upstreams.server import scripted

pytestmark = pytest.mark.asyncio(loop_scope="module")

HELLO: Any = [{"role": "user", "content": "Hello"}]
CHAT = "/v1/chat/completions"
ASK: dict[str, Any] = {"model": "openai/text", "messages": HELLO}
TEXT = load("openai", "text").body


async def answer(wire: Wire) -> tuple[int, dict[str, str], bytes]:
    """Read one answer that has a length."""
    status, headers = await wire.head()
    return status, headers, await wire.reader.readexactly(int(headers["content-length"]))


HEADERS: dict[str, list[tuple[str, str]]] = {
    "two user agents": [("User-Agent", "google-genai/3.4"), ("User-Agent", "pydantic-ai/2.31")],
    "zstd": [("Accept-Encoding", "gzip, deflate, br, zstd")],
    "repeated content type": [("Content-Type", "application/json")],
    "another content type": [("Content-Type", "text/plain;charset=UTF-8")],
    "a browser's": [("Sec-Fetch-Mode", "cors"), ("Accept-Language", "*"), ("Origin", "http://localhost")],
    "the SDK's own": [("X-Stainless-Retry-Count", "0"), ("X-Stainless-Read-Timeout", "600")],
    "latin letters": [("X-OpenWebUI-User-Name", "J\u00f6rg")],
    "many": [(f"X-Trace-{at}", "v" * 100) for at in range(60)],
    "identity": [("Content-Encoding", "identity")],
    "key in x-api-key": [("X-Api-Key", "k")],
    "key in x-goog-api-key": [("X-Goog-Api-Key", "k")],
    "key in api-key": [("Api-Key", "k")],
    "two keys": [("Authorization", "Bearer k"), ("X-Api-Key", "k")],
}


@pytest.mark.parametrize("name", HEADERS)
async def test_headers_that_clients_send_are_no_reason_to_refuse(world: World, name: str) -> None:
    async with connected(world.url) as wire:
        await wire.ask(CHAT, ASK, HEADERS[name])
        status, headers, body = await answer(wire)
    assert (status, body) == (200, TEXT)
    assert "content-encoding" not in headers


async def test_a_client_that_waits_for_100_continue_is_answered(world: World) -> None:
    data = json.dumps(ASK).encode()
    head = f"POST {CHAT} HTTP/1.1\r\nhost: t\r\nexpect: 100-continue\r\ncontent-length: {len(data)}\r\n\r\n"
    async with connected(world.url) as wire:
        wire.writer.write(head.encode())
        assert (await wire.head())[0] == 100
        wire.writer.write(data)
        status, _, body = await answer(wire)
    assert (status, body) == (200, TEXT)


async def test_a_chunked_body_is_read(world: World) -> None:
    data = json.dumps(ASK).encode()
    head = f"POST {CHAT} HTTP/1.1\r\nhost: t\r\ntransfer-encoding: chunked\r\n\r\n"
    pieces = [data[at : at + 7] for at in range(0, len(data), 7)]
    async with connected(world.url) as wire:
        wire.writer.write(head.encode())
        for piece in pieces:
            wire.writer.write(b"%x\r\n%b\r\n" % (len(piece), piece))
        wire.writer.write(b"0\r\n\r\n")
        status, _, body = await answer(wire)
    assert (status, body) == (200, TEXT)


async def test_one_connection_serves_many_requests(world: World) -> None:
    async with connected(world.url) as wire:
        for path in (CHAT, "/chat/completions", CHAT):
            await wire.ask(path, ASK)
            assert (await answer(wire))[0] == 200


PATHS = {
    "openai": [
        "/v1/chat/completions",
        "/chat/completions",
        "/openai/v1/chat/completions",
        "/openai/chat/completions",
    ],
    "anthropic": ["/v1/messages", "/messages", "/anthropic/v1/messages", "/anthropic/messages"],
}


@pytest.mark.parametrize(
    ("caller", "path"), [(caller, path) for caller, paths in PATHS.items() for path in paths]
)
async def test_every_base_url_that_clients_are_given_works(world: World, caller: str, path: str) -> None:
    async with world.front.http.post(f"{path}?key=k&beta=true", json={**ASK, "max_tokens": 5}) as response:
        assert (await response.json())["object" if caller == "openai" else "type"]
    assert response.status == 200


async def test_litellms_and_other_base_urls_work_through_the_sdk(world: World) -> None:
    for base in (world.url, f"{world.url}/openai", f"{world.url}/openai/v1"):
        async with openai_sdk(world.url, base_url=base) as client:
            assert (await client.chat.completions.create(**ASK)).choices[0].message.content
            assert (await client.models.list()).data
    async with anthropic_sdk(f"{world.url}/anthropic") as other:
        assert (await other.messages.create(max_tokens=5, **ASK)).content
        assert (await other.models.list()).data


FIELDS: dict[str, dict[str, Any]] = {
    "null stream options": {"stream_options": None},
    "stream false": {"stream": False},
    "nulls": {
        "tools": None,
        "temperature": None,
        "stop": None,
        "user": None,
        "n": None,
        "response_format": None,
    },
    "no tools": {"tools": []},
    "penalties of zero": {"presence_penalty": 0, "frequency_penalty": 0, "top_p": 1, "temperature": 0.1},
    "64,000 tokens": {"max_tokens": 64_000},
    "store": {"store": False, "metadata": {"a": "b"}, "prompt_cache_key": "s", "service_tier": "auto"},
}


@pytest.mark.parametrize("vendor", ["openai", "anthropic", "gemini", "cohere"])
@pytest.mark.parametrize("name", FIELDS)
async def test_fields_that_clients_send_are_no_reason_to_refuse(world: World, name: str, vendor: str) -> None:
    asked = {**ASK, **FIELDS[name], "model": f"{vendor}/text"}
    async with world.front.http.post(CHAT, json=asked) as response:
        assert response.status == 200, await response.text()


@pytest.mark.parametrize("vendor", ["openai", "anthropic", "gemini", "cohere"])
async def test_a_body_of_400_kilobytes_goes_through(world: World, vendor: str) -> None:
    text = "Gr\u00fc\u00dfe \u6771\u4eac " * 25_000
    message: Any = {"role": "user", "content": text}
    whole = await world.openai.chat.completions.create(model=f"{vendor}/text", messages=[message])
    assert whole.choices[0].message.content == load(vendor, "text").answer["text"]
    assert text in json.dumps(world.upstreams[vendor].requests[-1].json(), ensure_ascii=False)


async def test_a_parameter_that_a_model_refuses_is_left_out_and_reported() -> None:
    async with before("openai", load("openai", "text")) as (front, up), openai_sdk(front.url) as client:
        ask = client.chat.completions.with_raw_response.create
        told = await ask(model="openai/gpt-5-mini", messages=HELLO, temperature=0.1, max_tokens=50)
        sent = up.requests[0].json()
    assert told.headers["x-llm-server-dropped"] == "temperature"
    assert "temperature" not in sent
    assert sent["max_completion_tokens"] == 50


LIMITS: dict[str, Any] = {
    "openai": lambda body: body["max_completion_tokens"],
    "anthropic": lambda body: body["max_tokens"],
    "gemini": lambda body: body["generationConfig"]["maxOutputTokens"],
    "cohere": lambda body: body["max_tokens"],
}


@pytest.mark.parametrize("vendor", LIMITS)
async def test_more_output_than_a_model_can_write_is_not_asked_for_in_translation(vendor: str) -> None:
    caller = "openai" if vendor == "anthropic" else "anthropic"
    path = CHAT if caller == "openai" else "/v1/messages"
    facts = {"x": {"max_output_tokens": 16_384}}
    async with (
        scripted(load(vendor, "text")) as up,
        fronting({vendor: provider(up, vendor, facts=facts)}) as front,
        front.http.post(path, json={**ASK, "model": f"{vendor}/x", "max_tokens": 64_000}) as response,
    ):
        assert response.status == 200
        assert response.headers["x-llm-server-dropped"] == "max_tokens:capped"
        assert LIMITS[vendor](up.requests[0].json()) == 16_384


@pytest.mark.parametrize("chunked", [False, True], ids=["announced", "chunked"])
async def test_a_body_beyond_the_limit_is_413_in_the_callers_dialect(chunked: bool) -> None:
    body = json.dumps({**ASK, "messages": [{"role": "user", "content": "x" * 4000}]}).encode()
    async with before("openai", load("openai", "text"), api={"max_body_bytes": 2048}) as (front, up):
        for path, kind in ((CHAT, "invalid_request_error"), ("/v1/messages", "request_too_large")):

            async def pieces() -> Any:
                yield body

            async with front.http.post(path, data=pieces() if chunked else body) as response:
                told = await response.json()
            assert (response.status, told["error"]["type"]) == (413, kind)
        assert up.requests == []


async def test_a_body_that_is_too_deep_or_no_json_is_400(world: World) -> None:
    deep = b'{"model":"openai/text","messages":[],"x":' + b"[" * 10_000 + b"]" * 10_000 + b"}"
    for body, words in ((deep, "nested"), (b"\xff\xfe", "UTF-8"), (b"", "JSON"), (b"[1]", "object")):
        async with world.front.http.post(CHAT, data=body) as response:
            assert response.status == 400
            assert words in (await response.json())["error"]["message"]


async def test_who_speaks_is_told_by_path_and_not_by_key(world: World) -> None:
    async with world.front.http.post(CHAT, json=ASK, headers={"x-api-key": "sk-ant-1"}) as response:
        assert (await response.json())["object"] == "chat.completion"
    async with world.front.http.post(
        "/v1/messages", json={**ASK, "max_tokens": 5}, headers={"authorization": "Bearer sk-1"}
    ) as response:
        assert (await response.json())["type"] == "message"


async def test_clients_can_set_no_upstream_url_or_key() -> None:
    """Neither fields nor headers nor a model's name lead anywhere but to the configured upstream."""
    tries: list[tuple[dict[str, Any], dict[str, str]]] = [
        ({"base_url": "http://127.0.0.1:1/v1", "api_key": "x", "api_base": "http://127.0.0.1:1"}, {}),
        ({}, {"x-base-url": "http://127.0.0.1:1", "x-forwarded-host": "evil", "host": "evil"}),
    ]
    async with (
        scripted(load("openai", "text")) as up,
        fronting({"openai": provider(up, "openai")}) as front,
    ):
        for fields, headers in tries:
            async with front.http.post(CHAT, json={**ASK, **fields}, headers=headers) as response:
                assert response.status == 200
        keys = {request.headers["authorization"] for request in up.requests}
        assert len(up.requests) == len(tries)
        assert keys == {"Bearer sk-canary-8a1f3c5e7d9b2f4a6c8e"}
        assert {request.headers["host"] for request in up.requests} == {up.url.removeprefix("http://")}


NAMES = ["../../x", "x?key=1", "x#y", "%2e%2e/x", "a b\n", "x:streamGenerateContent?a=", "models/../y"]


@pytest.mark.parametrize("name", NAMES)
async def test_a_models_name_stays_a_name(name: str) -> None:
    async with before("gemini", load("gemini", "text")) as (front, up):
        async with front.http.post(CHAT, json={**ASK, "model": f"gemini/{name}"}) as response:
            await response.read()
        assert response.status == (200 if up.requests else 400)
        for request in up.requests:
            assert re.fullmatch(r"/v1beta/models/[^/?#]+:generateContent", request.target)
