"""Control routes: models, health, metrics, the document, and what is not there."""

import asyncio
import io
import re
from collections.abc import AsyncGenerator

import aiohttp
import pytest

from llm_server.api.server import MAX_CONTROL_BYTES
from llm_server.contract import ErrorKind, ModelInfo, ServerError
from llm_server.testing import FakeObserver, FakeProvider, chunks
from tests.api.conftest import build
from tests.serving import serving


@pytest.mark.parametrize("path", ["/v1/models", "/models", "/openai/v1/models", "/anthropic/models"])
async def test_models_are_listed_for_openai(client: aiohttp.ClientSession, path: str) -> None:
    async with client.get(path) as response:
        body = await response.json()
    assert body["object"] == "list"
    assert [model["id"] for model in body["data"]] == ["both", "fake/echo"]
    assert body["data"][1]["owned_by"] == "fake"


async def test_models_are_listed_for_anthropic(client: aiohttp.ClientSession) -> None:
    headers = {"anthropic-version": "2023-06-01"}
    async with client.get("/v1/models?limit=1", headers=headers) as response:
        page = await response.json()
    assert (page["has_more"], page["first_id"], page["last_id"]) == (True, "both", "both")
    async with client.get("/v1/models?after_id=both", headers=headers) as response:
        page = await response.json()
    assert (page["has_more"], page["data"][0]["id"]) == (False, "fake/echo")
    assert page["data"][0]["created_at"] == "2023-11-14T22:13:20Z"
    async with client.get("/v1/models?before_id=fake/echo&limit=5", headers=headers) as response:
        page = await response.json()
    assert [model["id"] for model in page["data"]] == ["both"]


async def _in_pieces(piece: bytes, count: int) -> AsyncGenerator[bytes, None]:
    for _ in range(count):
        yield piece


@pytest.mark.parametrize("param", ["after_id", "before_id"])
async def test_a_place_in_the_list_is_a_model(client: aiohttp.ClientSession, param: str) -> None:
    headers = {"anthropic-version": "2023-06-01"}
    async with client.get(f"/v1/models?{param}=no/such", headers=headers) as response:
        told = await response.json()
    assert (response.status, told["error"]["type"]) == (404, "not_found_error")
    assert param in told["error"]["message"]
    async with client.get(f"/v1/models?{param}=", headers=headers) as response:
        assert len((await response.json())["data"]) == 2


JSON_ROUTES = {
    "POST /v1/schemas": b'{"id": "a", "schema": {"type": "object", "default": %b}}',
    "PUT /v1/schemas/a": b'{"schema": {"type": "object", "default": %b}}',
    "POST /v1/schemas/infer": b'{"examples": [%b]}',
    "POST /v1/structured-completions": b'{"model": "both", "prompt": "x", "schema": {"default": %b}}',
}
AMBIGUOUS = {
    "a name twice": (b'{"a": 1, "a": 2}', "a"),
    "a name twice in disguise": (b'{"aa": 1, "a\\u0061": 2}', "aa"),
    "NaN": (b"NaN", None),
    "infinity": (b"-Infinity", None),
    "half of a pair": (b'"\\ud800"', None),
    "too deep": (b"[" * 80 + b"]" * 80, None),
    "not UTF-8": (b'"\xff"', None),
    "nothing": (b",", None),
}


@pytest.mark.parametrize("name", AMBIGUOUS)
@pytest.mark.parametrize("route", JSON_ROUTES)
async def test_json_that_is_read_differently_is_refused(
    client: aiohttp.ClientSession, provider: FakeProvider, route: str, name: str
) -> None:
    method, path = route.split()
    added, param = AMBIGUOUS[name]
    headers = {"content-type": "application/json"}
    async with client.request(method, path, data=JSON_ROUTES[route] % added, headers=headers) as response:
        error = (await response.json())["error"]
    assert (response.status, error["type"], error["param"]) == (400, "invalid_request_error", param)
    words = "more than once" if param else "deep" if name == "too deep" else "not valid JSON"
    assert words in error["message"]
    assert provider.calls == []
    async with client.request(
        method, path, data=JSON_ROUTES[route] % b'{"a": 1}', headers=headers
    ) as response:
        assert response.status != 400  # without that it is right


@pytest.mark.parametrize("path", ["/v1/schemas", "/v1/structured-completions"])
async def test_a_field_of_the_body_itself_that_is_given_twice_is_named(
    client: aiohttp.ClientSession, path: str
) -> None:
    headers = {"content-type": "application/json"}
    async with client.post(path, data=b'{"model": "a",\n "model": "b"}', headers=headers) as response:
        error = (await response.json())["error"]
    assert (response.status, error["param"]) == (400, "model")
    assert "more than once at line 2" in error["message"]


async def test_bodies_of_control_routes_have_a_largest_size(client: aiohttp.ClientSession) -> None:
    for data in (
        io.BytesIO(b"x" * (MAX_CONTROL_BYTES + 1)),
        _in_pieces(b"x" * 1000, MAX_CONTROL_BYTES // 1000 + 1),
    ):
        headers = {"content-type": "application/json"}
        async with client.post("/v1/schemas", data=data, headers=headers) as response:
            error = (await response.json())["error"]
        assert (response.status, error["code"]) == (413, "request_too_large")


async def test_one_model_is_described(client: aiohttp.ClientSession) -> None:
    async with client.get("/v1/models/fake/echo") as response:
        assert (await response.json())["id"] == "fake/echo"
    async with client.get("/v1/models/nope") as response:
        body = await response.json()
    assert (response.status, body["error"]["code"]) == (404, "model_not_found")


async def test_health(client: aiohttp.ClientSession, provider: FakeProvider) -> None:
    for path in ("/health", "/health/live"):
        async with client.get(path) as response:
            assert await response.json() == {"status": "ok", "version": "9.9"}
    async with client.get("/health/ready") as response:
        body = await response.json()
    assert (response.status, body["status"]) == (503, "starting")
    await provider.start()
    async with client.get("/health/ready") as response:
        body = await response.json()
    assert (response.status, body["status"]) == (200, "ready")
    assert body["parts"] == [{"name": "fake", "state": "ready", "message": ""}]


async def test_health_names_a_provider_that_cannot_list_its_models(
    client: aiohttp.ClientSession, provider: FakeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def models() -> tuple[ModelInfo, ...]:
        raise ServerError(ErrorKind.UPSTREAM_UNREACHABLE, "cannot be reached")

    monkeypatch.setattr(provider, "models", models)
    async with client.get("/v1/models") as response:
        assert response.headers["x-request-id"]
    async with client.get("/health/ready") as response:
        assert (await response.json())["parts"][0]["message"] == "cannot be reached"


async def test_metrics(client: aiohttp.ClientSession) -> None:
    async with client.get("/metrics") as response:
        assert await response.text() == "x 1\n"


async def test_the_document_has_every_route_with_its_models(client: aiohttp.ClientSession) -> None:
    async with client.get("/openapi.json") as response:
        document = await response.json()
    for path in ("chat/completions", "completions", "embeddings", "messages", "messages/count_tokens"):
        operation = document["paths"][f"/v1/{path}"]["post"]
        schema = operation["requestBody"]["content"]["application/json"]["schema"]["$ref"]
        model = document["components"]["schemas"][schema.rpartition("/")[2]]
        assert "model" in model["required"]
        assert "examples" in model or any("examples" in field for field in model["properties"].values())
        assert "$ref" in operation["responses"]["200"]["content"]["application/json"]["schema"]
        assert {"400", "429", "502"} <= operation["responses"].keys()


async def test_the_page_of_the_api_needs_nothing_from_elsewhere(client: aiohttp.ClientSession) -> None:
    async with client.get("/docs") as response:
        page = await response.text()
    found = re.findall(r'(?:src|href)="([^"]*)"', page)
    assert len(found) == 3
    for address in found:
        assert address.startswith("/docs/assets/")
        async with client.get(address) as response:
            assert (response.status, bool(await response.read())) == (200, True)


@pytest.mark.parametrize(
    ("method", "path", "status", "words"),
    [
        ("POST", "/v1/messages/", 404, "/docs lists every route"),
        ("GET", "/v1/nothing", 404, "/docs lists every route"),
        ("GET", "/v1/chat/completions", 405, "GET is not allowed"),
        ("DELETE", "/v1/models", 405, "DELETE is not allowed"),
    ],
)
async def test_what_is_not_there_is_said(
    client: aiohttp.ClientSession, method: str, path: str, status: int, words: str
) -> None:
    async with client.request(method, path) as response:
        body = await response.json()
    assert response.status == status
    assert words in body["error"]["message"]
    assert response.headers["x-request-id"] == response.headers["request-id"]
    async with client.request(method, path, headers={"anthropic-version": "2023-06-01"}) as response:
        assert (await response.json())["type"] == "error"


async def test_stopping_ends_streams_in_band(
    provider: FakeProvider, observer: FakeObserver, transport: str
) -> None:
    provider.gate = asyncio.Event()
    provider.gate.set()
    async with aiohttp.ClientSession() as client:
        async with serving(build(provider, observer), drain_s=0) as url:
            asked = {"model": "both", "stream": True, "messages": [{"role": "user", "content": "x"}]}

            def endless(_: object) -> object:

                for chunk in chunks("one", "two"):
                    yield chunk
                    provider.gate.clear()

            provider.script = endless
            response = await client.post(f"{url}/v1/chat/completions", json=asked)
            await response.content.readline()
        rest = await response.read()
    assert b"shutting down" in rest
    assert provider.open == 0
