"""The OpenAPI document tells the truth: generated requests are answered as it says, and never by a 500."""

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from llm_server.app import create
from llm_server.settings import Settings
from tests.end_to_end.front import QUIET, fronting, provider
from tests.upstreams.cases import Case, load
from tests.upstreams.server import upstream, wants_stream
from tests.upstreams.upstream import Request

CHECKS: list[Any] = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    response_headers_conformance,
]


def obliging(request: Request) -> Case:
    """Answer whatever is asked: a text, or as many vectors as there are inputs."""
    if request.method == "GET":
        return load("openai", "models")
    if request.path.endswith("/embeddings"):
        return _embeddings(request.json())
    return load("openai", "text", "stream" if wants_stream(request) else "whole")


def _embeddings(asked: Any) -> Case:
    base64 = asked.get("encoding_format") == "base64"
    case = load("openai", "embeddings_base64" if base64 else "embeddings")
    told = json.loads(case.body)
    inputs = asked["input"]
    many = isinstance(inputs, list) and bool(inputs) and not isinstance(inputs[0], int)
    told["data"] = [{**told["data"][0], "index": at} for at in range(len(inputs) if many else 1)]
    return replace(case, body=json.dumps(told).encode())


@pytest.fixture(scope="module")
def served() -> Iterator[str]:
    """Serve in a thread, because the generated requests are synchronous."""
    ready, urls = threading.Event(), []
    loop = asyncio.new_event_loop()
    done = asyncio.Event()

    async def serve() -> None:
        async with AsyncExitStack() as stack:
            up = await stack.enter_async_context(upstream(obliging))
            front = await stack.enter_async_context(fronting({"openai": provider(up, "openai")}))
            urls.append(front.url)
            ready.set()
            await done.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    ready.wait()
    yield urls[0]
    loop.call_soon_threadsafe(done.set)
    thread.join()
    loop.close()


# The coverage phase alone would make thousands of requests.
CONFIG = schemathesis.Config.from_dict({"phases": {"coverage": {"enabled": False}}})
DOCUMENT = create(Settings.model_validate(QUIET)).openapi()
SCHEMA = schemathesis.openapi.from_dict(DOCUMENT, config=CONFIG)


@SCHEMA.parametrize()
@settings(max_examples=8, suppress_health_check=list(HealthCheck))
def test_answers_are_as_documented(case: schemathesis.Case, served: str) -> None:
    if isinstance(case.body, dict) and "model" in case.body:
        case.body["model"] = "openai/text"
    case.call_and_validate(base_url=served, checks=CHECKS)


def test_every_route_is_documented_with_models_and_examples() -> None:
    asking = {path: item["post"] for path, item in DOCUMENT["paths"].items() if "post" in item}
    assert asking.keys() == {
        "/v1/chat/completions",
        "/v1/completions",
        "/v1/embeddings",
        "/v1/messages",
        "/v1/messages/count_tokens",
        "/v1/files",
        "/v1/batches",
        "/v1/batches/{batch_id}/cancel",
        "/v1/schemas",
        "/v1/schemas/infer",
        "/v1/structured-completions",
    }
    forms = asking.pop("/v1/files")["requestBody"]["content"]
    assert forms["multipart/form-data"]["schema"]["required"] == ["file", "purpose"]
    assert "requestBody" not in asking.pop("/v1/batches/{batch_id}/cancel")
    for operation in asking.values():
        request = operation["requestBody"]["content"]["application/json"]["schema"]
        name = request["$ref"].rpartition("/")[2]
        assert DOCUMENT["components"]["schemas"][name]["examples"], name
        done = operation["responses"].keys() & {"200", "201"}
        assert all(operation["responses"][each]["content"]["application/json"]["schema"] for each in done)
        assert done
