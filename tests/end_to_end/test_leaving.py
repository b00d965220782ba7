"""A caller that leaves takes everything with it: the upstream is left too, and nothing is in flight."""

from contextlib import AsyncExitStack
from typing import Any

import pytest

from tests.end_to_end.front import Front, before, fronting, provider
from tests.end_to_end.raw import connected
from tests.upstreams.cases import load, refusal
from tests.upstreams.script import Hold, Idle, play
from tests.upstreams.server import scripted
from tests.upstreams.upstream import Upstream

pytestmark = pytest.mark.timeout(30)

HELLO: Any = [{"role": "user", "content": "Hello"}]
CALLERS: dict[str, tuple[str, dict[str, Any]]] = {
    "openai": ("/v1/chat/completions", {"messages": HELLO}),
    "anthropic": ("/v1/messages", {"messages": HELLO, "max_tokens": 100}),
}
VENDORS = ("openai", "anthropic", "gemini", "cohere")


async def nothing_is_left(front: Front, up: Upstream) -> None:
    """Wait until the upstream has seen its caller go, and the server has put everything away."""
    await up.wait_abandoned()
    await up.wait_closed()
    await front.until_idle()
    await front.until_metric(1, "llm_server_errors_total", kind="client_closed")
    assert await front.metric("llm_server_requests_total") == 1


@pytest.mark.parametrize("frames", [1, 2, 4])
@pytest.mark.parametrize("vendor", VENDORS)
@pytest.mark.parametrize("caller", CALLERS)
async def test_leaving_in_the_middle_of_a_stream(caller: str, vendor: str, frames: int) -> None:
    path, body = CALLERS[caller]
    script = play(load(vendor, "unicode", "stream"))
    pieces = sum(isinstance(step, bytes) for step in script.steps)
    # All but the last piece, which ends the answer; then silence: only the caller's leaving ends the request.
    async with (
        before(vendor, script.until_piece(pieces - 1, Idle())) as (front, up),
        connected(front.url) as wire,
    ):
        await wire.ask(path, {**body, "model": f"{vendor}/x", "stream": True})
        status, _ = await wire.head()
        assert status == 200
        await wire.frames(frames)
        assert await front.metric("llm_server_requests_in_flight") == 1
        wire.leave()
        await nothing_is_left(front, up)


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
@pytest.mark.parametrize("vendor", VENDORS)
@pytest.mark.parametrize("caller", CALLERS)
async def test_leaving_before_any_answer(caller: str, vendor: str, stream: bool) -> None:
    path, body = CALLERS[caller]
    hold = Hold()
    script = play(load(vendor, "text", "stream" if stream else "whole")).before(hold)
    async with before(vendor, script) as (front, up), connected(front.url) as wire:
        await wire.ask(path, {**body, "model": f"{vendor}/x", "stream": stream})
        await hold.reached.wait()
        wire.leave()
        await nothing_is_left(front, up)


@pytest.mark.parametrize("vendor", VENDORS)
@pytest.mark.parametrize("caller", CALLERS)
async def test_leaving_while_a_whole_answer_arrives(caller: str, vendor: str) -> None:
    path, body = CALLERS[caller]
    hold = Hold()
    whole = load(vendor, "text")
    script = play(whole, cuts=[20]).at_piece(1, hold)
    async with before(vendor, script) as (front, up), connected(front.url) as wire:
        await wire.ask(path, {**body, "model": f"{vendor}/x"})
        await hold.reached.wait()
        wire.leave()
        await nothing_is_left(front, up)


OTHERS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "completions": ("/v1/completions", "vllm", {"prompt": "Hello", "stream": True}),
    "two prompts as chats": ("/v1/completions", "anthropic", {"prompt": ["Hello", "You"], "max_tokens": 5}),
    "embeddings": ("/v1/embeddings", "openai", {"input": "Hello"}),
    "a count": ("/v1/messages/count_tokens", "anthropic", {"messages": HELLO}),
}


@pytest.mark.parametrize("name", OTHERS)
async def test_leaving_every_other_endpoint(name: str) -> None:
    path, vendor, body = OTHERS[name]
    hold = Hold()
    async with (
        before(vendor, play(load("openai", "text")).before(hold)) as (front, up),
        connected(front.url) as wire,
    ):
        await wire.ask(path, {**body, "model": f"{vendor}/x"})
        await hold.reached.wait()
        wire.leave()
        await nothing_is_left(front, up)


@pytest.mark.parametrize("caller", CALLERS)
async def test_leaving_by_a_crash(caller: str) -> None:
    path, body = CALLERS[caller]
    script = play(load("openai", "text", "stream")).until_piece(3, Idle())
    async with before("openai", script) as (front, up), connected(front.url) as wire:
        await wire.ask(path, {**body, "model": "openai/x", "stream": True})
        await wire.head()
        await wire.frames(1)
        wire.leave(reset=True)
        await nothing_is_left(front, up)


@pytest.mark.parametrize(("caller", "alive"), [("openai", b": keepalive"), ("anthropic", b"event: ping")])
async def test_leaving_while_only_keep_alives_come(caller: str, alive: bytes) -> None:
    path, body = CALLERS[caller]
    script = play(load("cohere", "text", "stream")).until_piece(0, Idle())
    async with (
        before("cohere", script, api={"keepalive_s": 0.01}) as (front, up),
        connected(front.url) as wire,
    ):
        await wire.ask(path, {**body, "model": "cohere/x", "stream": True})
        await wire.head()
        assert alive in await wire.frames(2)
        wire.leave()
        await nothing_is_left(front, up)


async def test_leaving_during_the_second_attempt() -> None:
    path, body = CALLERS["openai"]
    hold = Hold()
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(scripted(refusal("openai", "overloaded")))
        second = await stack.enter_async_context(scripted(play(load("gemini", "text")).before(hold)))
        providers = {"one": provider(first, "openai"), "two": provider(second, "gemini")}
        front = await stack.enter_async_context(fronting(providers, models={"both": ["one/x", "two/y"]}))
        wire = await stack.enter_async_context(connected(front.url))
        await wire.ask(path, {**body, "model": "both"})
        await hold.reached.wait()
        wire.leave()
        await nothing_is_left(front, second)
        assert (len(first.requests), first.abandoned) == (1, 0)
        assert await front.metric("llm_server_attempts_total", provider="two", outcome="client_closed") == 1


async def test_one_caller_that_leaves_disturbs_no_other() -> None:
    path, body = CALLERS["openai"]
    hold = Hold()
    left = play(load("openai", "text", "stream")).until_piece(2, Idle())
    stays = play(load("openai", "text", "stream")).at_piece(2, hold)
    async with (
        before("openai", left, stays) as (front, up),
        connected(front.url) as one,
        connected(front.url) as other,
    ):
        await one.ask(path, {**body, "model": "openai/x", "stream": True})
        await one.head()
        await one.frames(1)
        await other.ask(path, {**body, "model": "openai/x", "stream": True})
        await other.head()
        await hold.reached.wait()
        one.leave()
        await up.wait_abandoned()
        hold.until.set()
        seen = b""
        while piece := await other.piece():
            seen += piece
        assert seen.endswith(b"data: [DONE]\n\n")
        assert up.abandoned == 1
