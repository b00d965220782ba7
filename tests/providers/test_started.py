"""A provider's short way against its ordinary one: whatever the upstream does, both end in the same."""

import asyncio
import gzip
import json
import time
from contextlib import aclosing
from typing import Any

import pytest
from msgspec.structs import replace

from llm_server.contract import Answer, Attempt, Call, Chunk, Completion, Context, ServerError, Usage
from llm_server.providers import HttpProvider, ProviderConfig, build
from tests.pool.peers import Talk, on_every_loop, peer
from tests.providers.calls import from_openai

WHOLE: dict[str, Any] = {
    "id": "1",
    "model": "m",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 3, "completion_tokens": 1},
}


def http(body: bytes, kind: str = "application/json", status: str = "200 OK", more: str = "") -> bytes:
    """Return an answer with its length."""
    head = f"HTTP/1.1 {status}\r\ncontent-type: {kind}\r\nx-request-id: up-1\r\n{more}"
    return f"{head}content-length: {len(body)}\r\n\r\n".encode() + body


def whole(**fields: Any) -> bytes:
    """Return a whole answer with these fields changed."""
    return http(json.dumps({**WHOLE, **fields}).encode())


def event(**fields: Any) -> bytes:
    """Return an event of a stream."""
    return b"data: " + json.dumps({"id": "1", "model": "m", **fields}).encode() + b"\n\n"


def delta(text: str, finish: str | None = None) -> bytes:
    """Return an event with a piece of text."""
    return event(choices=[{"index": 0, "delta": {"content": text}, "finish_reason": finish}])


DONE, SSE = b"data: [DONE]\n\n", "text/event-stream"
GOOD = delta("a") + delta("b", "stop") + event(choices=[], usage=WHOLE["usage"]) + DONE
ZIPPED = gzip.compress(json.dumps(WHOLE).encode())

ANSWERS: dict[str, list[bytes]] = {
    "good": [whole()],
    "good in many reads": [bytes([each]) for each in whole()[:40]] + [whole()[40:]],
    "gzip": [http(ZIPPED, more="content-encoding: gzip\r\n")],
    "identity": [http(json.dumps(WHOLE).encode(), more="content-encoding: identity\r\n")],
    "a page": [http(b"<html>", "text/html")],
    "an error in its place": [http(b'{"error":{"message":"no","type":"server_error"}}')],
    "no choices": [whole(choices=[])],
    "choices null": [whole(choices=None)],
    "finish error": [whole(choices=[{**WHOLE["choices"][0], "finish_reason": "error"}])],
    "finish unknown": [whole(choices=[{**WHOLE["choices"][0], "finish_reason": "odd"}])],
    "empty content": [whole(choices=[{**WHOLE["choices"][0], "message": {"content": None}}])],
    "no usage": [whole(usage=None)],
    "unknown fields": [whole(x_new={"a": 1}, y=None)],
    "nothing": [http(b"")],
    "garbage": [http(b"\xff\xfe{")],
    "no content": [b"HTTP/1.1 204 No Content\r\n\r\n"],
    "accepted": [http(json.dumps(WHOLE).encode(), status="202 Accepted")],
    "elsewhere": [http(b"", status="302 Found", more="location: /\r\n")],
    "limited": [http(b"{}", status="429 Too Many Requests", more="retry-after: 7\r\n")],
    "exhausted": [
        http(
            json.dumps(WHOLE).encode(),
            more="x-ratelimit-remaining-requests: 0\r\nx-ratelimit-reset-requests: 5s\r\n",
        )
    ],
    "bad request": [http(b'{"error":{"message":"bad","param":"x"}}', status="400 Bad Request")],
    "closing": [http(json.dumps(WHOLE).encode(), more="connection: close\r\n")],
    "garbage behind": [whole() + b"GARBAGE"],
    "too large": [http(b"x" * 6000)],
    "stream": [http(GOOD, SSE)],
    "stream in many reads": [
        http(GOOD, SSE)[:150],
        *(bytes([each]) for each in http(GOOD, SSE)[150:300]),
        http(GOOD, SSE)[300:],
    ],
    "stream without an end": [http(delta("a"), SSE)],
    "stream of nothing": [http(b"", SSE)],
    "stream of an end": [http(DONE, SSE)],
    "stream with comments": [http(b": hi\n\n" + GOOD, SSE)],
    "stream failing first": [http(event(error={"message": "no", "type": "server_error"}) + DONE, SSE)],
    "stream failing late": [http(delta("a") + event(error={"message": "no"}) + DONE, SSE)],
    "stream garbled late": [http(delta("a"), SSE)[:-5] + b"\xff\xfe\n\n\n"],
    "stream finish error": [http(delta("a") + delta("", "error") + DONE, SSE)],
    "stream without choices": [http(event(choices=None) + GOOD, SSE)],
    "stream of usage only": [http(event(choices=[], usage=WHOLE["usage"]) + DONE, SSE)],
}
CALLS = {
    "whole": {},
    "stream": {"stream": True},
    "mapped": {"model": "named"},
    "slashed": {"model": "org/m/1"},
}


class Taken:
    """A taker that keeps what it is given."""

    def __init__(self) -> None:
        self.answers: list[Answer] = []
        self.ended = asyncio.Event()
        self.turned = False

    def take(self, answer: Answer) -> None:
        """Keep it."""
        self.answers.append(answer)
        if not isinstance(answer, Chunk):
            self.ended.set()

    def end(self) -> None:
        """Note it."""
        self.ended.set()

    def turn(self) -> None:
        """Note it."""
        self.turned = True
        self.ended.set()


def told(answers: list[Answer]) -> list[Any]:
    """Return what a caller of the same dialect gets: bytes, and tokens."""
    frames = b"".join(answer.frame for answer in answers if isinstance(answer, Chunk))
    bodies = [(each.raw, each.usage) for each in answers if isinstance(each, Completion)]
    chunks = [answer for answer in answers if isinstance(answer, Chunk)]
    return [frames, bodies, [each for chunk in chunks for each in chunk.events if isinstance(each, Usage)]]


async def asked(provider: HttpProvider, call: Call, ctx: Context, *, begins: bool) -> list[Any]:
    """Ask by one of the ways, and return all that is to be known of it."""
    taken, error = Taken(), None
    answers = None
    if begins:
        begun = provider.begin(call, ctx, taken)
        assert begun is not None
        await taken.ended.wait()
        answers = begun.rest() if taken.turned else None
    else:
        answers = provider(call, ctx)
    if answers is not None:
        try:
            async with aclosing(answers):
                async for answer in answers:
                    taken.answers.append(answer)
        except ServerError as failure:
            error = failure
    attempt = ctx.attempts[0]
    assert attempt.ended_s is not None
    report, stats = provider.pool.report(), provider.stats()
    assert (stats["busy"], stats["waiting"]) == (0, 0)
    return [
        told(taken.answers),
        error and (error.kind, error.message, error.provider, error.status, error.retry_after_s, error.param),
        (attempt.dialect, attempt.upstream_id, attempt.first_byte_s is None),
        (ctx.dropped, provider.state(), stats, report.breaker, report.consecutive_failures),
        (report.requests, report.error_rate, set(report.held), [each.remaining for each in report.quotas]),
    ]


async def run(name: str, call: Call, *, begins: bool, marked: bool) -> tuple[list[Any], list[bytes]]:
    """Return what :func:`asked` does, on a connection that is idle, and the bodies that were sent."""

    async def talk(it: Talk) -> None:
        while await it.request() is not None:
            for piece in [whole()] if len(it.up.asked) == 1 else ANSWERS[name]:
                it.send(piece)
                await it.writer.drain()
                await asyncio.sleep(0)

    async with peer(talk) as up:
        config = ProviderConfig.model_validate(
            {
                "base_url": f"{up.url}/v1",
                "deployments": {"named": "prod-7"},
                "pool": {"max_response_bytes": 5000},
            }
        )
        provider = build({"openai": config}, lambda _name, _model, facts: facts)["openai"]
        assert isinstance(provider, HttpProvider)
        try:
            for ask, way in ((from_openai("m"), False), (call, begins)):
                now_s = time.perf_counter()
                attempts = [Attempt(provider="openai", model=ask.model)]
                ctx = Context(request_id="r", started_s=now_s, deadline_s=now_s + 20, attempts=attempts)
                ctx.marked = marked
                found = await asked(provider, ask, ctx, begins=way)
        finally:
            await provider.close()
        return found, [each.body for each in up.asked]


@pytest.mark.parametrize("kind", CALLS)
@pytest.mark.parametrize("name", ANSWERS)
@on_every_loop
async def test_both_ways_end_in_the_same(name: str, kind: str) -> None:
    call = from_openai(**CALLS[kind])
    for one, marked in ((call, False), (call, True), (replace(call, dialect="anthropic", raw=b""), False)):
        ordinary = await run(name, one, begins=False, marked=marked)
        assert await run(name, one, begins=True, marked=marked) == ordinary


@on_every_loop
async def test_a_call_that_cannot_be_encoded_is_failed_by_the_ordinary_way() -> None:
    """Whatever the bug; nothing is sent, and no place is taken."""
    ordinary = await run("good", from_openai("a/../b"), begins=False, marked=False)
    assert ordinary[0][1] is not None
    assert await run("good", from_openai("a/../b"), begins=True, marked=False) == ordinary
