"""The native structured endpoint, inference, and what models can be held to."""

import asyncio
import json
from typing import Any

import aiohttp
import pytest

from llm_server.contract import (
    ChatCall,
    Choice,
    Completion,
    ErrorKind,
    Facts,
    FinishReason,
    ServerError,
    Text,
    Usage,
)
from llm_server.structured.inference import OUTLINE
from llm_server.testing import FakeObserver, FakeProvider
from tests.api.conftest import Serve
from tests.api.test_registry import PERSON, ask

URL = "/v1/structured-completions"
ADA = {"name": "Ada", "age": 36}


def saying(*texts: str, finish: FinishReason = FinishReason.STOP) -> Any:
    """Return a script that gives one text after the other."""
    left = list(texts)

    def script(_: Any) -> Any:
        text = left.pop(0) if len(left) > 1 else left[0]
        choice = Choice(parts=(Text(text),), finish=finish)
        return (Completion(model="m-1", choices=(choice,), usage=Usage(input_tokens=7, output_tokens=3)),)

    return script


def asking(**more: Any) -> dict[str, Any]:
    return {"model": "fake/echo", "prompt": "Who?", "schema": PERSON, **more}


async def test_an_answer_says_how_it_came_about(
    client: aiohttp.ClientSession, provider: FakeProvider, observer: FakeObserver
) -> None:
    provider.script = saying(json.dumps(ADA))
    async with client.post(URL, json=asking(temperature=0, max_tokens=50, seed=3, stop=["x"])) as response:
        body = await response.json()
    assert body == {
        "id": response.headers["x-request-id"],
        "object": "structured.completion",
        "created": body["created"],
        "model": "m-1",
        "schema": None,
        "raw_text": json.dumps(ADA),
        "structured_output": ADA,
        "method": "native",
        "guarantee": body["guarantee"],
        "outcome": "valid",
        "attempts": 1,
        "problems": [],
        "usage": {"input_tokens": 7, "output_tokens": 3, "total_tokens": 10},
    }
    assert response.headers["x-llm-server-provider"] == "fake"
    call = provider.calls[0]
    assert isinstance(call, ChatCall)
    assert call.messages[-1].text == "Who?"
    sampling = call.sampling
    assert (sampling.temperature, sampling.max_tokens, sampling.seed, sampling.stop) == (0, 50, 3, ("x",))
    assert [each[0] for each in observer.told] == ["started", "first", "finished"]


@pytest.mark.parametrize("answer", [json.dumps(ADA), "None."], ids=["valid", "invalid"])
async def test_every_answer_has_the_story_and_the_one_id_that_is_in_the_log(
    client: aiohttp.ClientSession, provider: FakeProvider, observer: FakeObserver, answer: str
) -> None:
    provider.script = saying(answer)
    async with client.post(URL, json=asking(max_attempts=2)) as response:
        headers = response.headers
    attempts, outcome = (1, "valid") if response.status == 200 else (2, "invalid")
    assert headers["x-llm-server-structured"].endswith(f"attempts={attempts}; outcome={outcome}")
    assert headers["x-llm-server-provider"] == "fake"
    assert headers.getall("x-request-id") == headers.getall("request-id") == [observer.told[-1][1]]


async def test_a_conversation_may_be_given(client: aiohttp.ClientSession, provider: FakeProvider) -> None:
    provider.script = saying(json.dumps(ADA))
    turns = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Who?"}]
    body = {"model": "both", "messages": turns, "schema": PERSON}
    assert (await ask(client, "POST", URL, body))[1]["structured_output"] == ADA
    call = provider.calls[0]
    assert isinstance(call, ChatCall)
    assert [message.text for message in call.messages] == ["Be brief.", "Who?"]


async def test_registered_schemas_are_used_by_id(
    client: aiohttp.ClientSession, provider: FakeProvider
) -> None:
    provider.script = saying('{"name": "Ada"}')
    await ask(client, "POST", "/v1/schemas", {"id": "person", "schema": PERSON})
    stricter = {**PERSON, "required": ["name", "age"]}
    await ask(client, "PUT", "/v1/schemas/person", {"schema": stricter})
    body = {"model": "fake/echo", "prompt": "Who?", "schema_id": "person"}
    status, pinned = await ask(client, "POST", URL, {**body, "schema_version": 1})
    assert (status, pinned["schema"]) == (200, {"id": "person", "version": 1})
    status, error = await ask(client, "POST", URL, {**body, "max_attempts": 1})
    assert (status, error["problems"][0]["keyword"]) == (422, "required")
    await ask(client, "DELETE", "/v1/schemas/person/versions/1")
    status, error = await ask(client, "POST", URL, {**body, "schema_version": 1})
    assert (status, error["message"]) == (404, "Version 1 of schema 'person' was deleted.")


@pytest.mark.parametrize("form", [{"schema_id": "person"}, {"schema_id": "person", "schema_version": 1}])
async def test_registered_schemas_are_used_in_chat(
    client: aiohttp.ClientSession, provider: FakeProvider, form: Any
) -> None:
    await ask(client, "POST", "/v1/schemas", {"id": "person", "schema": PERSON})
    provider.script = saying(json.dumps(ADA))
    body = {
        "model": "fake/echo",
        "messages": [{"role": "user", "content": "Who?"}],
        "response_format": {"type": "json_schema", "json_schema": form},
    }
    status, answer = await ask(client, "POST", "/v1/chat/completions", body)
    assert (status, json.loads(answer["choices"][0]["message"]["content"])) == (200, ADA)
    call = provider.calls[0]
    assert isinstance(call, ChatCall)
    assert call.output is not None
    assert json.loads(bytes(call.output.schema))["properties"].keys() == PERSON["properties"].keys()
    body["response_format"] = {"type": "json_schema", "json_schema": {"schema_id": "nobody"}}
    status, error = await ask(client, "POST", "/v1/chat/completions", body)
    assert (status, error["param"]) == (404, "schema_id")


async def test_a_wrong_answer_is_repaired_and_told(
    client: aiohttp.ClientSession, provider: FakeProvider
) -> None:
    provider.script = saying('{"age": 36}', json.dumps(ADA))
    _, body = await ask(client, "POST", URL, asking())
    assert (body["structured_output"], body["attempts"]) == (ADA, 2)
    assert [each["keyword"] for each in body["problems"]] == ["required"]
    assert body["usage"]["total_tokens"] == 20


async def test_attempts_are_bounded_and_the_last_words_shown(
    client: aiohttp.ClientSession, provider: FakeProvider
) -> None:
    provider.script = saying('{"age": "old"}')
    for most in (1, 2):
        provider.calls.clear()
        status, error = await ask(client, "POST", URL, asking(max_attempts=most))
        assert (status, error["code"], error["raw_text"]) == (422, "output_invalid", '{"age": "old"}')
        assert {each["pointer"] for each in error["problems"]} == {"", "/age"}
        assert len(provider.calls) == most


async def test_answers_are_converted_and_held_to_a_target(
    client: aiohttp.ClientSession, provider: FakeProvider
) -> None:
    provider.script = saying('{"name": "  Ada ", "age": 36}')
    steps = [
        "trim",
        {"name": "rename_keys", "parameters": {"names": {"name": "who"}}},
        {"name": "coerce_types", "parameters": {"types": {"/age": "string"}}},
    ]
    target = {"type": "object", "required": ["who"], "properties": {"age": {"type": "string"}}}
    _, body = await ask(client, "POST", URL, asking(transformers=steps, target_schema=target))
    assert body["structured_output"] == {"who": "Ada", "age": "36"}
    assert body["raw_text"] == '{"name": "  Ada ", "age": 36}'
    status, error = await ask(client, "POST", URL, asking(transformers=steps[:1], target_schema=target))
    assert (status, error["raw_text"]) == (422, body["raw_text"])
    assert {each["pointer"] for each in error["problems"]} == {"", "/age"}


@pytest.mark.parametrize(
    ("finish", "outcome"),
    [
        (FinishReason.REFUSAL, "refused"),
        (FinishReason.CONTENT_FILTER, "filtered"),
        (FinishReason.LENGTH, "truncated"),
    ],
)
async def test_what_is_no_answer_is_told_apart(
    client: aiohttp.ClientSession, provider: FakeProvider, finish: FinishReason, outcome: str
) -> None:
    provider.script = saying('{"name": "A', finish=finish)
    status, body = await ask(client, "POST", URL, asking(transformers=[{"name": "trim"}]))
    assert (status, body["outcome"], body["structured_output"]) == (200, outcome, None)


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"prompt": None}, "messages"),
        ({"messages": [{"role": "user", "content": "x"}]}, "messages"),
        ({"messages": [{"role": "tool", "content": "x"}], "prompt": None}, "messages.0.role"),
        ({"schema": None}, "schema"),
        ({"schema_id": "p"}, "schema"),
        ({"schema_version": 1}, "schema_version"),
        ({"schema": {"type": "x"}}, "#/type"),
        ({"target_schema": {"type": "x"}}, "target_schema"),
        ({"transformers": [{"name": "shout"}]}, "transformers[0].name"),
        ({"transformers": [{"name": "trim"}] * 33}, "transformers"),
        ({"max_attempts": 0}, "max_attempts"),
        ({"temperature": 3}, "temperature"),
        ({"prompt": "\ud800"}, None),
        ({"model": ""}, "model"),
        ({"stream": True}, "stream"),
    ],
)
async def test_what_is_wrong_is_a_clear_400(
    client: aiohttp.ClientSession, provider: FakeProvider, change: Any, param: str
) -> None:
    status, error = await ask(client, "POST", URL, asking(**change))
    assert (status, error["param"]) == (400, param)
    assert provider.calls == []


async def test_failures_keep_their_status(client: aiohttp.ClientSession, provider: FakeProvider) -> None:
    provider.script = lambda _: (ServerError(ErrorKind.UPSTREAM_RATE_LIMITED, "Slow down.", retry_after_s=2),)
    async with client.post(URL, json=asking()) as response:
        assert (response.status, response.headers["retry-after"]) == (429, "2")
    assert (await ask(client, "POST", URL, asking(model="nobody/x")))[0] == 404


async def test_the_deadline_is_an_error(serve: Serve, provider: FakeProvider) -> None:
    provider.gate = asyncio.Event()
    client = await serve(request_timeout_s=0.05)
    status, error = await ask(client, "POST", URL, asking())
    assert (status, error["code"]) == (504, "deadline")
    assert provider.open == 0


async def test_a_caller_that_leaves_ends_everything(
    client: aiohttp.ClientSession, provider: FakeProvider, observer: FakeObserver
) -> None:
    provider.gate = asyncio.Event()
    asked = asyncio.create_task(ask(client, "POST", URL, asking()))
    await provider.asked.wait()
    asked.cancel()
    await observer.ended.wait()
    assert observer.told[-1][2] == "client_closed"
    assert provider.open == 0


async def test_schemas_are_inferred_from_examples(
    client: aiohttp.ClientSession, provider: FakeProvider
) -> None:
    status, body = await ask(client, "POST", "/v1/schemas/infer", {"examples": [ADA, {"name": "Bob"}]})
    assert status == 200
    assert {**body["schema"], "$schema": None} == {**PERSON, "$schema": None}
    assert provider.calls == []


async def test_a_description_needs_a_model_where_none_is_the_default(client: aiohttp.ClientSession) -> None:
    status, error = await ask(client, "POST", "/v1/schemas/infer", {"description": "A person."})
    assert (status, error["param"]) == (400, "model")


async def test_schemas_are_inferred_from_a_description(
    client: aiohttp.ClientSession, provider: FakeProvider
) -> None:
    blank = {"description": "", "values": [], "item": "string", "fields": [], "required": True}
    outline = {"title": "Person", "fields": [{**blank, "name": "name", "kind": "string"}]}
    provider.script = saying(json.dumps(outline))
    asked = {"description": "A person with a name.", "model": "fake/echo"}
    status, body = await ask(client, "POST", "/v1/schemas/infer", asked)
    assert (status, body["schema"]["required"], body["schema"]["title"]) == (200, ["name"], "Person")
    call = provider.calls[0]
    assert isinstance(call, ChatCall)
    assert call.output is not None
    assert json.loads(bytes(call.output.schema)) == json.loads(OUTLINE)


@pytest.mark.parametrize(
    "body", [{}, {"examples": []}, {"examples": [1], "description": "x"}, {"examples": ["\ud800"]}]
)
async def test_inference_wants_one_source(client: aiohttp.ClientSession, body: Any) -> None:
    assert (await ask(client, "POST", "/v1/schemas/infer", body))[0] == 400


async def test_models_say_how_they_are_held_to_a_form(client: aiohttp.ClientSession) -> None:
    _status, body = await ask(client, "GET", "/v1/outlines-models")
    listed = {each["id"]: each for each in body["data"]}
    assert set(listed) == {"both", "fake/echo"}
    methods = {
        kind: [way["method"] for way in listed["fake/echo"][kind]] for kind in ("json_schema", "grammar")
    }
    assert methods == {"json_schema": ["native", "tool", "prompt"], "grammar": []}


async def test_models_that_do_not_chat_are_left_out(serve: Serve, provider: FakeProvider) -> None:
    provider._facts = Facts(chat=False, embeddings=True)
    client = await serve()
    assert (await ask(client, "GET", "/v1/outlines-models"))[1] == {"object": "list", "data": []}
