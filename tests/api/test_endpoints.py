"""Hot routes: the status, the headers and the body of an answer, whole, streamed or refused."""

import asyncio
import json
from typing import Any

import aiohttp
import pytest

from llm_server.contract import (
    Answer,
    Chunk,
    ErrorKind,
    Finish,
    FinishReason,
    ServerError,
    Started,
    TextDelta,
)
from llm_server.testing import FakeObserver, FakeProvider, chunks, echo
from tests.api.conftest import Serve

CHAT = {"model": "fake/echo", "messages": [{"role": "user", "content": "hello there"}]}
MESSAGES = {**CHAT, "max_tokens": 10}
PATHS = ["/v1/chat/completions", "/chat/completions", "/openai/v1/chat/completions"]


def script(*steps: Answer | ServerError) -> Any:
    return lambda _: steps


async def events(response: aiohttp.ClientResponse) -> list[str]:
    text = (await response.read()).decode()
    return [line.removeprefix("data: ") for line in text.splitlines() if line.startswith("data: ")]


@pytest.mark.parametrize("path", PATHS)
async def test_a_chat_is_answered(client: aiohttp.ClientSession, path: str) -> None:
    async with client.post(path, json=CHAT) as response:
        body = await response.json()
    assert response.status == 200
    assert body["choices"][0]["message"]["content"] == "hello there"
    headers = response.headers
    assert headers["x-request-id"] == headers["request-id"]
    assert (headers["x-llm-server-provider"], headers["x-llm-server-model"]) == ("fake", "echo")
    assert headers["x-llm-server-attempts"] == "1"
    assert float(headers["x-llm-server-upstream-ms"]) >= 0
    assert float(headers["x-llm-server-overhead-ms"]) >= 0


@pytest.mark.parametrize("path", ["/v1/messages", "/anthropic/v1/messages", "/messages"])
async def test_a_message_is_answered(client: aiohttp.ClientSession, path: str) -> None:
    async with client.post(path, json=MESSAGES) as response:
        body = await response.json()
    assert (response.status, body["type"], body["content"][0]["text"]) == (200, "message", "hello there")


async def test_prompts_and_embeddings_are_answered(client: aiohttp.ClientSession) -> None:
    async with client.post("/v1/completions", json={"model": "both", "prompt": ["a", "b"]}) as response:
        assert [choice["text"] for choice in (await response.json())["choices"]] == ["a", "b"]
    async with client.post("/v1/embeddings", json={"model": "both", "input": ["abc"]}) as response:
        assert (await response.json())["data"][0]["embedding"] == [3.0, 0.0]


async def test_a_stream_is_answered(client: aiohttp.ClientSession) -> None:
    async with client.post("/v1/chat/completions", json={**CHAT, "stream": True}) as response:
        told = await events(response)
    assert response.headers["content-type"].startswith("text/event-stream")
    assert told[-1] == "[DONE]"
    texts = [json.loads(event)["choices"][0]["delta"].get("content") for event in told[:-1]]
    assert "".join(text or "" for text in texts) == "hello there"


async def test_each_event_arrives_while_the_next_is_held_back(
    client: aiohttp.ClientSession, provider: FakeProvider
) -> None:
    gate = provider.gate = asyncio.Event()
    gate.set()

    def told(_: Any) -> Any:
        for text in ("one", "two", "three"):
            yield Chunk((TextDelta(text),))
            gate.clear()
        yield Chunk((Finish(FinishReason.STOP),))

    provider.script = told
    async with client.post("/v1/chat/completions", json={**CHAT, "stream": True}) as response:
        for text in (b"one", b"two", b"three"):
            while text not in await response.content.readline():
                pass
            assert not gate.is_set()
            gate.set()
        assert (await response.read()).endswith(b"data: [DONE]\n\n")


async def test_losses_are_named(client: aiohttp.ClientSession) -> None:
    body = {**CHAT, "made_up": 1, "service_tier": "auto"}
    async with client.post("/v1/chat/completions", json=body) as response:
        dropped = response.headers["x-llm-server-dropped"].split(", ")
    assert {"made_up", "service_tier"} <= set(dropped)


@pytest.mark.parametrize(
    ("path", "envelope"),
    [("/v1/chat/completions", {"error"}), ("/v1/messages", {"type", "error", "request_id"})],
)
@pytest.mark.parametrize(
    ("data", "status", "words"),
    [
        (b"{", 400, "JSON"),
        (b"[]", 400, "object"),
        (b'{"model": 3}', 400, "model"),
        (b'{"model": "x/y", "max_tokens": 5, "messages": [{"role": "user", "content": "a"}]}', 404, "'x'"),
        (b" " * 3000, 413, "2048"),
    ],
)
async def test_what_is_wrong_is_said_in_the_callers_dialect(
    serve: Serve, path: str, envelope: set[str], data: bytes, status: int, words: str
) -> None:
    client = await serve(max_body_bytes=2048)
    async with client.post(path, data=data) as response:
        body = await response.json()
    assert response.status == status
    assert set(body) == envelope
    assert words in body["error"]["message"]
    assert response.headers["x-request-id"]


async def test_a_body_without_length_is_bounded(serve: Serve, provider: FakeProvider) -> None:
    client = await serve(max_body_bytes=2048)

    async def pieces() -> Any:
        for _ in range(3):
            yield b" " * 1000

    async with client.post("/v1/chat/completions", data=pieces()) as response:
        assert response.status == 413
    assert provider.calls == []


async def test_a_compressed_body_is_refused(client: aiohttp.ClientSession) -> None:
    headers = {"content-encoding": "gzip"}
    async with client.post("/v1/chat/completions", data=b"x", headers=headers) as response:
        assert (response.status, "uncompressed" in await response.text()) == (400, True)


async def test_refusals_are_observed(client: aiohttp.ClientSession, observer: FakeObserver) -> None:
    async with client.post("/v1/chat/completions", data=b"{"):
        pass
    assert [(what, error) for what, _, error in observer.told] == [
        ("started", None),
        ("finished", "invalid_request"),
    ]


@pytest.mark.parametrize("kind", list(ErrorKind))
async def test_every_kind_has_its_status(
    client: aiohttp.ClientSession, provider: FakeProvider, kind: ErrorKind
) -> None:
    provider.script = script(ServerError(kind, "what happened", retry_after_s=1.5))
    for path, asked in (("/v1/chat/completions", CHAT), ("/v1/messages", MESSAGES)):
        for stream in (False, True):
            async with client.post(path, json={**asked, "stream": stream}) as response:
                body = await response.json()
            assert response.status == kind.status
            assert "what happened" in body["error"]["message"]
            assert (response.headers["retry-after"], response.headers["retry-after-ms"]) == ("2", "1500")


async def test_a_bug_is_a_clean_500(client: aiohttp.ClientSession, provider: FakeProvider) -> None:
    provider.script = lambda _: 1 / 0
    async with client.post("/v1/chat/completions", json=CHAT) as response:
        assert response.status == 500
        assert "division" not in await response.text()


async def test_a_failure_after_content_is_in_band(
    client: aiohttp.ClientSession, provider: FakeProvider
) -> None:
    cut = ServerError(ErrorKind.UPSTREAM_TRUNCATED, "it broke off")
    provider.script = script(*chunks("he", "llo"), cut)
    async with client.post("/v1/chat/completions", json={**CHAT, "stream": True}) as response:
        told = await events(response)
    assert response.status == 200
    assert json.loads(told[-1])["error"]["message"] == "it broke off"
    assert "[DONE]" not in told
    async with client.post("/v1/messages", json={**MESSAGES, "stream": True}) as response:
        text = await response.text()
    assert "event: error" in text
    assert "message_stop" not in text


@pytest.mark.parametrize("stream", [False, True])
async def test_leaving_ends_everything_behind(
    client: aiohttp.ClientSession, provider: FakeProvider, observer: FakeObserver, stream: bool
) -> None:
    provider.gate = asyncio.Event()
    asking = asyncio.create_task(client.post("/v1/chat/completions", json={**CHAT, "stream": stream}))
    await provider.asked.wait()
    asking.cancel()
    await observer.ended.wait()
    assert observer.told[-1][2] == "client_closed"
    assert provider.open == 0


@pytest.mark.parametrize(
    ("path", "asked", "sign"),
    [("/v1/chat/completions", CHAT, b": keepalive"), ("/v1/messages", MESSAGES, b"event: ping")],
)
async def test_silence_is_filled(
    serve: Serve, provider: FakeProvider, path: str, asked: dict[str, Any], sign: bytes
) -> None:
    client = await serve(keepalive_s=0.01)
    provider.gate = asyncio.Event()
    async with client.post(path, json={**asked, "stream": True}) as response:
        assert (await response.content.readline()).startswith(sign)
        provider.gate.set()
        rest = await response.read()
    assert b"hello there" in rest


async def test_a_failure_after_a_keepalive_is_in_band(serve: Serve, provider: FakeProvider) -> None:
    client = await serve(keepalive_s=0.01)
    provider.gate = asyncio.Event()
    provider.script = script(ServerError(ErrorKind.UPSTREAM_OVERLOADED, "full"))
    async with client.post("/v1/chat/completions", json={**CHAT, "stream": True}) as response:
        await response.content.readline()
        provider.gate.set()
        rest = await response.read()
    assert (response.status, b'"full"' in rest) == (200, True)


async def test_the_deadline_is_an_error(serve: Serve, provider: FakeProvider, observer: FakeObserver) -> None:
    client = await serve(request_timeout_s=0.05)
    provider.gate = asyncio.Event()
    async with client.post("/v1/chat/completions", json=CHAT) as response:
        assert (response.status, response.headers["x-should-retry"]) == (504, "false")
    assert observer.told[-1][2] == "deadline"


async def test_a_frame_goes_through_untouched(client: aiohttp.ClientSession, provider: FakeProvider) -> None:
    frame = b'data: {"choices":[{"index":0,"delta":{"content":"x"}}],"new_field":[1]}\n\n'
    provider.script = lambda call: (
        Chunk((Started(id="1"),)),
        Chunk((TextDelta("x"),), frame),
        *list(echo(call))[-2:],
    )
    async with client.post("/v1/chat/completions", json={**CHAT, "stream": True}) as response:
        assert frame in await response.read()


async def test_a_long_list_of_losses_says_how_many_more(client: aiohttp.ClientSession) -> None:
    body = {**CHAT, **{f"made_up_field_number_{at}": 1 for at in range(200)}}
    async with client.post("/v1/chat/completions", json=body) as response:
        names = response.headers["x-llm-server-dropped"].split(", ")
    assert names[-1] == "...+150 more"
    assert len(names) == 51
