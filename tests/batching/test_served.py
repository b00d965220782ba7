"""The whole server with OpenAI's SDK in front of a scripted upstream: grouped, shared, isolated, left."""

import asyncio
import json
import struct
from base64 import b64decode, b64encode
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import openai
import pytest

from tests.end_to_end.front import Front, fronting, provider
from tests.end_to_end.raw import connected
from tests.end_to_end.sdks import openai_sdk
from tests.upstreams.cases import load
from tests.upstreams.script import Head, Hold, Script, play
from tests.upstreams.server import upstream
from tests.upstreams.upstream import Answer, Request, Upstream

CALLERS = 64
BAD = "I am bad"
MODEL = "openai/text-embedding-3-small"


def numbers(text: str) -> list[float]:
    """A vector that says its text, in numbers that are float32 exactly."""
    return [float(ord(letter)) / 4 for letter in text]


def embedding(body: Any, text: str) -> Any:
    vector = numbers(text)
    packed = b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
    return packed if body.get("encoding_format") == "base64" else vector


def embeds(request: Request, *before: Any) -> Script:
    """Answer with vectors of the texts; refuse bad ones as OpenAI does."""
    body = request.json()
    texts = [body["input"]] if isinstance(body["input"], str) else body["input"]
    tokens = sum(len(text.split()) + 1 for text in texts)
    status, told = 200, {
        "object": "list",
        "model": body["model"],
        "data": [
            {"object": "embedding", "index": at, "embedding": embedding(body, text)}
            for at, text in reversed(list(enumerate(texts)))  # in whatever order
        ],
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }  # fmt: skip
    if BAD in texts:
        status = 400
        told = {"error": {"message": "'$.input' is invalid.", "type": "invalid_request_error", "param": None}}
    data = json.dumps(told).encode()
    head = Head(status, {"content-type": "application/json"}, len(data))
    return Script((*before, head, data))


class Gate:
    """Holds calls at the upstream until enough requests are on their way, or for ever."""

    def __init__(self, first: int = 1) -> None:
        self.holds = [Hold() for _ in range(first)]

    def __call__(self, request: Request) -> Answer:
        held = [hold for hold in self.holds if not hold.reached.is_set() and not hold.until.is_set()]
        return embeds(request, *held[:1])


@asynccontextmanager
async def served(gate: Gate, **sections: Any) -> AsyncGenerator[tuple[Front, Upstream], None]:
    async with upstream(gate) as up, fronting({"openai": provider(up, "openai")}, **sections) as front:
        yield front, up


async def until_in_flight(front: Front, requests: int) -> None:
    while await front.metric("llm_server_requests_in_flight") < requests:
        pass


def texts_of(up: Upstream) -> list[list[str]]:
    asked = [request.json()["input"] for request in up.requests]
    return [[each] if isinstance(each, str) else each for each in asked]


PATIENT = {"embeddings": {"max_wait_ms": 60_000}}


@pytest.mark.parametrize("form", ["base64", "float"])
async def test_64_at_once_are_two_calls_and_each_gets_its_own(form: Any) -> None:
    gate = Gate()
    texts = [f"text {at} {'ä' * (at % 7)}" for at in range(CALLERS)]
    async with served(gate, batching=PATIENT) as (front, up), openai_sdk(front.url) as client:
        ask = client.embeddings.with_raw_response.create
        tasks = [asyncio.create_task(ask(model=MODEL, input=text, encoding_format=form)) for text in texts]
        await until_in_flight(front, CALLERS)
        gate.holds[0].until.set()
        raw = await asyncio.gather(*tasks)
        answers = [each.parse() for each in raw]
        assert [len(each) for each in texts_of(up)] == [1, CALLERS - 1]
        got = [answer.data[0].embedding for answer in answers]
        if form == "base64":
            packed = [b64decode(each) for each in got]
            got = [list(struct.unpack(f"<{len(each) // 4}f", each)) for each in packed]
        assert got == [numbers(text) for text in texts]
        assert {len(answer.data) for answer in answers} == {1}
        used = sum(answer.usage.prompt_tokens for answer in answers)
        assert used == sum(len(text.split()) + 1 for text in texts)
        told = [each.headers.get("x-llm-server-estimated") for each in raw]
        assert sorted(map(str, told)) == ["None", *["usage"] * (CALLERS - 1)]
        await front.until_idle()
        counted = await front.metric("llm_server_tokens_total", kind="input")
        assert counted == used
        assert await front.metric("llm_server_batch_calls_saved_total", provider="openai") == CALLERS - 2
        assert await front.metric("llm_server_batch_texts_sum", provider="openai") == CALLERS
        assert await front.metric("llm_server_batch_wait_seconds_count") == CALLERS - 1


async def test_one_bad_text_of_64_fails_alone() -> None:
    gate = Gate()
    texts = [f"text {at}" for at in range(CALLERS)]
    texts[40] = BAD
    async with served(gate, batching=PATIENT) as (front, up), openai_sdk(front.url) as client:
        ask = client.embeddings.create
        tasks = [asyncio.create_task(ask(model=MODEL, input=text)) for text in texts]
        await until_in_flight(front, CALLERS)
        gate.holds[0].until.set()
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        for text, answer in zip(texts, answers, strict=True):
            if text == BAD:
                assert isinstance(answer, openai.BadRequestError)
                assert "is invalid" in str(answer)
            else:
                assert not isinstance(answer, BaseException)
                assert answer.data[0].embedding == numbers(text)
        assert len(up.requests) <= 2 + 2 * 6


async def test_one_alone_is_forwarded_byte_for_byte() -> None:
    answer = load("openai", "embeddings")
    async with (
        upstream(lambda _: play(answer)) as up,
        fronting({"openai": provider(up, "openai")}) as front,
        front.http.post("/v1/embeddings", json={"model": "openai/x", "input": ["a", "b"], "new": 1}) as reply,
    ):
        assert await reply.read() == answer.body
        assert up.requests[0].json() == {"model": "x", "input": ["a", "b"], "new": 1}


async def test_unknown_fields_of_a_group_arrive() -> None:
    gate = Gate()
    async with served(gate, batching=PATIENT) as (front, up), openai_sdk(front.url) as client:
        ask = client.embeddings.create
        more: Any = {"extra_body": {"truncate": "END"}, "dimensions": 8, "user": "me"}
        tasks = [asyncio.create_task(ask(model=MODEL, input=text, **more)) for text in "abc"]
        await until_in_flight(front, 3)
        gate.holds[0].until.set()
        await asyncio.gather(*tasks)
        first, group = (request.json() for request in up.requests)
        assert {**group, "input": first["input"]} == first
        assert (group["truncate"], group["user"], group["dimensions"]) == ("END", "me", 8)


async def test_who_leaves_a_group_takes_nobody_along() -> None:
    gate = Gate(2)
    body = {"model": MODEL, "input": "I leave"}
    async with (
        served(gate, batching=PATIENT) as (front, up),
        openai_sdk(front.url) as client,
        connected(front.url) as wire,
    ):
        ask = client.embeddings.create
        first = asyncio.create_task(ask(model=MODEL, input="first", encoding_format="float"))
        await gate.holds[0].reached.wait()
        others = [
            asyncio.create_task(ask(model=MODEL, input=text, encoding_format="float")) for text in ("a", "b")
        ]
        await wire.ask("/v1/embeddings", {**body, "encoding_format": "float"})
        await until_in_flight(front, 4)
        gate.holds[0].until.set()
        await gate.holds[1].reached.wait()
        wire.leave()
        await front.until_metric(1, "llm_server_errors_total", kind="client_closed")
        gate.holds[1].until.set()
        answers = await asyncio.gather(first, *others)
        assert [each.data[0].embedding for each in answers] == [numbers(each) for each in ("first", "a", "b")]
        assert [len(each) for each in texts_of(up)] == [1, 3]
        assert up.abandoned == 0


async def streams(front: Front, body: dict[str, Any], many: int) -> "Sequence[asyncio.Task[bytes]]":
    async def streamed() -> bytes:
        async with front.http.post("/v1/chat/completions", json=body) as reply:
            return await reply.read()

    return [asyncio.create_task(streamed()) for _ in range(many)]


CHAT: dict[str, Any] = {
    "model": "openai/text",
    "messages": [{"role": "user", "content": "Hello"}],
    "temperature": 0,
    "stream": True,
    "stream_options": {"include_usage": True},
}


@pytest.mark.parametrize("piece", [0, 2, 5])
async def test_identical_streams_are_one_and_byte_for_byte_as_alone(piece: int) -> None:
    script = play(load("openai", "text", "stream"))
    alone = script.body
    hold = Hold()
    async with (
        upstream(lambda _: script.at_piece(piece, hold)) as up,
        fronting({"openai": provider(up, "openai")}) as front,
    ):
        first = await streams(front, CHAT, 1)
        await hold.reached.wait()
        others = await streams(front, CHAT, 4)
        await front.until_metric(4, "llm_server_shared_requests_total", provider="openai")
        hold.until.set()
        assert {await task for task in (*first, *others)} == {alone}
        assert len(up.requests) == 1
        await front.until_idle()
        usage = load("openai", "text", "stream").answer["usage"]
        billed = await front.metric("llm_server_tokens_total", kind="input")
        assert await front.metric("llm_server_shared_tokens_total", kind="input") == 4 * billed > 0
        assert usage["input"] == billed


async def test_what_may_differ_is_asked_each_time() -> None:
    script = play(load("openai", "text", "stream"))
    async with (
        upstream(lambda _: script) as up,
        fronting({"openai": provider(up, "openai")}) as front,
    ):
        await asyncio.gather(*await streams(front, {**CHAT, "temperature": 1}, 3))
        assert len(up.requests) == 3
        assert await front.metric("llm_server_shared_requests_total") == 0
