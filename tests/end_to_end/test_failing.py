"""What callers are told: how an answer came about, errors in their dialect, and breaks in band."""

import asyncio
from contextlib import AsyncExitStack
from typing import Any

import anthropic
import openai
import pytest

from tests.end_to_end.conftest import World
from tests.end_to_end.front import ONCE, UNDAUNTED, Front, before, fronting, provider
from tests.end_to_end.sdks import anthropic_sdk, openai_sdk
from tests.upstreams.cases import VENDORS, load, refusal, refusals
from tests.upstreams.clients import collect
from tests.upstreams.script import Close, Head, Hold, Raw, Reset, Script, garbage_body, garbage_event, play
from tests.upstreams.server import scripted
from tests.upstreams.upstream import Answer

pytestmark = pytest.mark.asyncio(loop_scope="module")

HELLO: Any = [{"role": "user", "content": "Hello"}]
ASK: dict[str, tuple[str, dict[str, Any]]] = {
    "openai": ("/v1/chat/completions", {"messages": HELLO}),
    "anthropic": ("/v1/messages", {"messages": HELLO, "max_tokens": 100}),
}
IDS = {"x-request-id", "request-id"}
STORY = IDS | {
    f"x-llm-server-{name}" for name in ("provider", "model", "attempts", "upstream-ms", "overhead-ms")
}
VENDORS_OF_DIALECTS = ("openai", "anthropic", "gemini", "cohere")


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("vendor", VENDORS_OF_DIALECTS)
@pytest.mark.parametrize("caller", ASK)
async def test_every_answer_tells_how_it_came_about(
    world: World, caller: str, vendor: str, stream: bool
) -> None:
    path, body = ASK[caller]
    asked = {**body, "model": f"{vendor}/text", "stream": stream}
    async with world.front.http.post(path, json=asked) as response:
        await response.read()
    headers = response.headers
    assert {name.lower() for name in headers} >= STORY
    assert headers["x-request-id"] == headers["request-id"]
    assert (headers["x-llm-server-provider"], headers["x-llm-server-model"]) == (vendor, "text")
    assert headers["x-llm-server-attempts"] == "1"
    assert float(headers["x-llm-server-upstream-ms"]) > 0
    assert float(headers["x-llm-server-overhead-ms"]) > 0
    kind = "text/event-stream; charset=utf-8" if stream else "application/json"
    assert headers["content-type"] == kind


ROUTES_THAT_REFUSE = [
    ("POST", "/v1/chat/completions", b"{", 400),
    ("POST", "/v1/chat/completions", b'{"model":"no/x","messages":[]}', 400),
    (
        "POST",
        "/v1/messages",
        b'{"model":"no/x","max_tokens":1,"messages":[{"role":"user","content":"a"}]}',
        404,
    ),
    ("POST", "/v1/embeddings", b'{"model":"no/x","input":"a"}', 404),
    ("POST", "/v1/nothing", b"", 404),
    ("GET", "/v1/chat/completions", b"", 405),
    ("GET", "/v1/models/no", b"", 404),
]


@pytest.mark.parametrize(("method", "path", "body", "status"), ROUTES_THAT_REFUSE, ids=str)
async def test_errors_carry_a_request_id_too(
    world: World, method: str, path: str, body: bytes, status: int
) -> None:
    async with world.front.http.request(method, path, data=body) as response:
        told = await response.json()
    assert response.status == status
    assert {name.lower() for name in response.headers} >= IDS
    assert told["error"]["message"]
    assert (told.get("type") == "error") == ("/messages" in path)


async def test_an_upstreams_limit_passes_on_when_to_come_back() -> None:
    path, body = ASK["openai"]
    async with (
        before("openai", refusal("openai", "rate_limit"), retry=ONCE) as (front, _),
        front.http.post(path, json={**body, "model": "openai/x"}) as response,
    ):
        assert response.status == 429
    assert (response.headers["retry-after"], response.headers["retry-after-ms"]) == ("1", "644")
    assert {name.lower() for name in response.headers} >= STORY


async def test_a_full_pool_is_a_limit_of_ours() -> None:
    path, body = ASK["openai"]
    pool = {"max_connections": 1, "max_waiting": 0}
    hold = Hold()
    script = play(load("openai", "text")).before(hold)
    async with before("openai", script, pool=pool) as (front, _):
        asked = {**body, "model": "openai/x"}
        first = asyncio.create_task(_status(front, path, asked))
        await hold.reached.wait()
        async with front.http.post(path, json=asked) as response:
            assert response.status == 429
            assert int(response.headers["retry-after"]) >= 1
        hold.until.set()
        assert await first == 200


async def _status(front: Front, path: str, body: Any) -> int:
    async with front.http.post(path, json=body) as response:
        await response.read()
        return response.status


FAILURES: dict[str, Answer] = {
    "rate limit": refusal("openai", "rate_limit"),
    "quota": refusal("openai", "insufficient_quota"),
    "bad key": refusal("openai", "invalid_auth"),
    "overloaded": refusal("openai", "overloaded"),
    "server error": refusal("openai", "server_error"),
    "a proxy's page": refusal("openai", "bad_gateway_html"),
    "nothing": refusal("openai", "empty_body"),
    "garbage": garbage_body(load("openai", "text")),
    "not HTTP": Script((Raw(b"SSH-2.0-OpenSSH_9.6\r\n"),)),
    "hung up": Script((Close(),)),
    "reset": Script((Reset(),)),
    "cut off in the head": Script((Head(), Close())),
}
EVENTS = {"content-type": "text/event-stream"}
IN_BAND = b'data: {"error":{"message":"x","type":"server_error"}}\n\n'
WHILE_STREAMING: dict[str, Answer] = {
    "ends before content": play(load("openai", "text", "stream")).until_piece(1),
    "breaks before content": play(load("openai", "text", "stream")).until_piece(1, Close()),
    "garbage before content": garbage_event(load("openai", "text", "stream"), at=1),
    "error before content": Script((Head(200, EVENTS), IN_BAND)),
}


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("name", [*FAILURES, *WHILE_STREAMING])
async def test_a_failure_before_content_moves_on_unseen(name: str, stream: bool) -> None:
    failure = FAILURES[name] if name in FAILURES else WHILE_STREAMING[name]
    async with AsyncExitStack() as stack:
        bad = await stack.enter_async_context(scripted(failure))
        good = await stack.enter_async_context(
            scripted(load("anthropic", "text", "stream" if stream else "whole"))
        )
        providers = {"bad": provider(bad, "openai"), "good": provider(good, "anthropic")}
        front = await stack.enter_async_context(fronting(providers, models={"both": ["bad/x", "good/y"]}))
        client = await stack.enter_async_context(openai_sdk(front.url))
        ask: Any = {"model": "both", "messages": HELLO, "stream": stream}
        answer: Any = await client.chat.completions.with_raw_response.create(**ask)
        parsed = answer.parse()
        chunks = await collect(parsed) if stream else [parsed]
        assert (len(bad.requests), len(good.requests)) == (1, 1)
    choices = [chunk.choices[0] for chunk in chunks if chunk.choices]
    text = "".join((one.delta if stream else one.message).content or "" for one in choices)
    assert text == load("anthropic", "text").answer["text"]
    assert answer.headers["x-llm-server-attempts"] == "2"
    assert answer.headers["x-llm-server-provider"] == "good"


@pytest.mark.parametrize("name", ["bad_request", "context_length", "content_policy"])
async def test_the_callers_own_fault_is_not_tried_elsewhere(name: str) -> None:
    async with (
        scripted(refusal("openai", name)) as bad,
        scripted(load("anthropic", "text")) as good,
        fronting(
            {"bad": provider(bad, "openai"), "good": provider(good, "anthropic")},
            models={"both": ["bad/x", "good/y"]},
        ) as front,
        openai_sdk(front.url) as client,
    ):
        with pytest.raises(openai.APIStatusError) as caught:
            await client.chat.completions.create(model="both", messages=HELLO)
        assert good.requests == []
    assert caught.value.response.headers["x-llm-server-attempts"] == "1"


async def test_when_all_fail_the_last_failure_is_told() -> None:
    async with (
        scripted(refusal("openai", "overloaded")) as one,
        scripted(refusal("anthropic", "rate_limit")) as two,
        fronting(
            {"one": provider(one, "openai"), "two": provider(two, "anthropic")},
            models={"both": ["one/x", "two/y"]},
            retry=ONCE,
        ) as front,
        openai_sdk(front.url) as client,
    ):
        with pytest.raises(openai.RateLimitError) as caught:
            await client.chat.completions.create(model="both", messages=HELLO)
    headers = caught.value.response.headers
    assert (headers["x-llm-server-attempts"], headers["x-llm-server-provider"]) == ("2", "two")
    assert headers["retry-after"] == "13"
    one_told, two_told = headers["x-llm-server-attempted"].split(", ")
    assert one_told.startswith("one/x;error=upstream_overloaded;ms=")
    assert two_told.startswith("two/y;error=upstream_rate_limited;ms=")


async def test_a_refusal_without_a_call_is_told_and_not_counted() -> None:
    async with (
        scripted(refusal("anthropic", "rate_limit")) as held,
        scripted(load("openai", "text")) as good,
        fronting(
            {"held": provider(held, "anthropic"), "good": provider(good, "openai")},
            models={"both": ["held/x", "good/y"], "one": ["held/x"]},
        ) as front,
        openai_sdk(front.url) as client,
    ):
        told = []
        for _ in range(2):
            answer: Any = await client.chat.completions.with_raw_response.create(model="both", messages=HELLO)
            ends = [each.split(";")[:2] for each in answer.headers["x-llm-server-attempted"].split(", ")]
            told.append((answer.headers["x-llm-server-attempts"], ends))
        with pytest.raises(openai.RateLimitError) as caught:
            await client.chat.completions.create(model="one", messages=HELLO)
        assert (len(held.requests), len(good.requests)) == (1, 2)
    assert told == [
        ("2", [["held/x", "error=upstream_rate_limited"], ["good/y", "ok"]]),
        ("1", [["held/x", "refused=upstream_rate_limited"], ["good/y", "ok"]]),
    ]
    alone = caught.value.response.headers
    assert alone["x-llm-server-attempts"] == "0"
    assert alone["x-llm-server-attempted"].startswith("held/x;refused=upstream_rate_limited;ms=")


async def test_what_the_pool_sends_again_is_one_attempt() -> None:
    answer = play(load("openai", "text"))
    async with (
        scripted(answer, Script((Reset(),)), answer) as up,
        fronting({"up": provider(up, "openai")}) as front,
        openai_sdk(front.url) as client,
    ):
        for _ in range(2):
            told: Any = await client.chat.completions.with_raw_response.create(model="up/x", messages=HELLO)
            assert told.headers["x-llm-server-attempts"] == "1"
            assert "x-llm-server-attempted" not in told.headers
        assert len(up.requests) == 3
        assert await front.metric("llm_server_pool_requests_resent_total", provider="up") == 1


def breaks(vendor: str) -> dict[str, Script]:
    """Return how a vendor's stream may break after its first content."""
    case = load(vendor, "unicode", "stream")
    script = play(case)
    pieces = sum(isinstance(step, bytes) for step in script.steps)
    middle = pieces // 2
    return {
        "truncated": script.until_piece(middle),
        "closed": script.until_piece(middle, Close()),
        "garbage": garbage_event(case, at=middle),
        "in band": play(load(vendor, "error_midstream", "stream")),
    }


HOW = ["truncated", "closed", "garbage", "in band"]


async def until_error(stream: Any, kind: type[Exception]) -> tuple[list[Any], Any]:
    """Return what a stream gave and the error of this kind that ended it."""
    seen = []
    try:
        async for item in stream:
            seen.append(item)  # noqa: PERF401 - what came before the error counts
    except kind as error:
        return seen, error
    pytest.fail(f"the stream ended as if it were whole: {seen[-3:]}")


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("vendor", VENDORS_OF_DIALECTS)
async def test_a_break_after_content_is_raised_by_openais_sdk(vendor: str, how: str) -> None:
    async with before(vendor, breaks(vendor)[how]) as (front, up), openai_sdk(front.url) as client:
        stream = await client.chat.completions.create(model=f"{vendor}/x", messages=HELLO, stream=True)
        seen, error = await until_error(stream, openai.APIError)
        assert not isinstance(error, openai.APIConnectionError), "an event in the stream, not an abort"
        assert any(chunk.choices and chunk.choices[0].delta.content for chunk in seen)
        assert not any(chunk.choices and chunk.choices[0].finish_reason for chunk in seen)
        assert len(up.requests) == 1
        assert error.body["code"].startswith(("upstream_", "rate_limit"))


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("vendor", VENDORS_OF_DIALECTS)
async def test_a_break_after_content_is_raised_by_anthropics_sdk(vendor: str, how: str) -> None:
    ask: Any = {"model": f"{vendor}/x", "messages": HELLO, "max_tokens": 100}
    async with before(vendor, breaks(vendor)[how]) as (front, _), anthropic_sdk(front.url) as client:
        stream = await client.messages.create(**ask, stream=True)
        seen, error = await until_error(stream, anthropic.APIStatusError)
        kinds = [event.type for event in seen]
        assert "content_block_delta" in kinds
        assert "message_stop" not in kinds
        assert error.body["type"] == "error"
        assert error.body["error"]["type"] in {"api_error", "overloaded_error", "rate_limit_error"}


async def test_an_answer_that_finished_is_whole_without_the_last_word() -> None:
    """Some servers forget ``[DONE]``: every choice has its finish reason, nothing is missing."""
    script = play(load("openai", "text", "stream"))
    pieces = sum(isinstance(step, bytes) for step in script.steps)
    async with (
        before("openai", script.until_piece(pieces - 1)) as (front, _),
        openai_sdk(front.url) as client,
    ):
        ask = client.chat.completions.create
        chunks = await collect(await ask(model="openai/x", messages=HELLO, stream=True))
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "stop"


async def test_a_break_after_content_is_not_tried_elsewhere() -> None:
    async with (
        scripted(breaks("openai")["closed"]) as bad,
        scripted(load("anthropic", "text", "stream")) as good,
        fronting(
            {"bad": provider(bad, "openai"), "good": provider(good, "anthropic")},
            models={"both": ["bad/x", "good/y"]},
        ) as front,
        openai_sdk(front.url) as client,
    ):
        stream = await client.chat.completions.create(model="both", messages=HELLO, stream=True)
        with pytest.raises(openai.APIError):
            await collect(stream)
        assert good.requests == []


@pytest.mark.parametrize("vendor", VENDORS)
async def test_every_vendors_refusals_become_the_callers_errors(vendor: str) -> None:
    """Through both dialects: a status that fits, and an envelope that its SDK reads."""
    rows = refusals(vendor)
    answers = [row for row in rows for _ in ASK]
    async with before(vendor, *answers, rows[-1], retry=ONCE, pool=UNDAUNTED) as (front, up):
        for row in rows:
            for caller, (path, body) in ASK.items():
                async with front.http.post(path, json={**body, "model": f"{vendor}/x"}) as response:
                    told = await response.json()
                assert 400 <= response.status < 600
                assert told["error"]["message"]
                assert told["error"]["type"]
                assert (told.get("type") == "error") == (caller == "anthropic")
                assert {name.lower() for name in response.headers} >= STORY
                if row.status == 401:
                    assert response.status == 502, "our key is wrong, not the caller's"
        assert len(up.requests) == 2 * len(rows)
