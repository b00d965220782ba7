"""Same dialect, same bytes; another dialect: losses are named, and what a model lacks is refused unsent."""

import json
from typing import Any

import pytest

from tests.end_to_end.conftest import World
from tests.end_to_end.front import Front, before, fronting, provider
from tests.end_to_end.raw import connected
from tests.end_to_end.sdks import anthropic_sdk, openai_sdk
from tests.upstreams.cases import Case, frames, load
from tests.upstreams.server import scripted

pytestmark = pytest.mark.asyncio(loop_scope="module")

HELLO: Any = [{"role": "user", "content": "Hello"}]
OWN: dict[str, tuple[str, dict[str, Any]]] = {
    "openai": ("/v1/chat/completions", {"messages": HELLO}),
    "anthropic": ("/v1/messages", {"messages": HELLO, "max_tokens": 100}),
}
UNKNOWN: dict[str, Any] = {
    "brand_new_field": {"deep": [1, 2.50, "ü", None, {"x": True}]},
    "prompt_cache_key": "session-1",
    "another": 12345678901234567890,
}


async def answered(front: Front, path: str, body: Any, **headers: str) -> tuple[bytes, Any]:
    """Return an answer's bytes and headers."""
    async with front.http.post(path, json=body, headers=headers) as response:
        assert response.status == 200, await response.text()
        return await response.read(), response.headers


@pytest.mark.parametrize("dialect", OWN)
async def test_a_whole_answer_is_passed_on_byte_for_byte(dialect: str) -> None:
    path, body = OWN[dialect]
    case = load(dialect, "unknown")
    async with before(dialect, case) as (front, _):
        got, headers = await answered(front, path, {**body, "model": f"{dialect}/x"})
    assert got == case.body
    assert "x-llm-server-dropped" not in headers


TERMINAL = (b"data: [DONE]", b"event: message_stop")


@pytest.mark.parametrize("name", ["unknown", "text", "tools", "cached", "stop", "length"])
@pytest.mark.parametrize("dialect", OWN)
async def test_a_streams_frames_are_passed_on_byte_for_byte(dialect: str, name: str) -> None:
    path, body = OWN[dialect]
    case = load(dialect, name, "stream")
    usage = {"stream_options": {"include_usage": True}} if dialect == "openai" else {}
    async with before(dialect, case) as (front, _):
        got, _ = await answered(front, path, {**body, **usage, "model": f"{dialect}/x", "stream": True})
    sent = [frame for frame in frames(case.body) if not frame.startswith(TERMINAL)]
    told = [frame for frame in frames(got) if not frame.startswith(TERMINAL)]
    assert told == sent
    assert got.rstrip().splitlines()[-2 if dialect == "anthropic" else -1].startswith(TERMINAL)


async def test_line_ends_of_an_upstream_are_kept() -> None:
    case = load("openai", "crlf", "stream")
    path, body = OWN["openai"]
    async with before("openai", case) as (front, _):
        got, _ = await answered(front, path, {**body, "model": "openai/x", "stream": True})
    assert frames(case.body)[1] in got


@pytest.mark.parametrize("dialect", OWN)
async def test_unknown_request_fields_reach_an_upstream_of_the_same_dialect(dialect: str) -> None:
    path, body = OWN[dialect]
    block = {"type": "brand_new_part", "payload": {"a": [1]}}
    content = [{"type": "text", "text": "Hello", "cache_control": {"type": "ephemeral"}}, block]
    asked = {**body, **UNKNOWN, "model": f"{dialect}/x", "messages": [{"role": "user", "content": content}]}
    async with before(dialect, load(dialect, "text")) as (front, up):
        _, headers = await answered(front, path, asked)
        assert up.requests[0].json() == {**asked, "model": "x"}
    assert "x-llm-server-dropped" not in headers


async def test_the_callers_numbers_and_text_are_not_rewritten() -> None:
    body = (
        b'{"model":"openai/x","messages":[{"role":"user","content":"\\u00fc \\ud83d\\uddfc"}],'
        b'"temperature":0.70,"exact":1e2,"big":123456789012345678901234567890,"spaced" : [ 1,  2 ]}'
    )
    async with before("openai", load("openai", "text")) as (front, up), connected(front.url) as wire:
        await wire.ask("/v1/chat/completions", body)
        assert (await wire.head())[0] == 200
        for kept in (
            b'"\\u00fc \\ud83d\\uddfc"',
            b"0.70",
            b"1e2",
            b"123456789012345678901234567890",
            b"[ 1,  2 ]",
        ):
            assert kept in up.requests[0].body


async def test_anthropics_headers_go_on_byte_for_byte() -> None:
    path, body = OWN["anthropic"]
    beta = "context-1m-2025-08-07,  interleaved-thinking-2025-05-14,made-up-2027-01-01"
    sent = {"anthropic-version": "2026-10-21", "anthropic-beta": beta, "x-claude-code-session-id": "s1"}
    async with before("anthropic", load("anthropic", "text")) as (front, up):
        await answered(front, path, {**body, "model": "anthropic/x"}, **sent)
        heard = up.requests[0].headers
    assert (heard["anthropic-version"], heard["anthropic-beta"]) == ("2026-10-21", beta)


async def test_a_callers_headers_do_not_leak_upstream() -> None:
    path, body = OWN["openai"]
    sent = {
        "authorization": "Bearer mine",
        "cookie": "a=b",
        "x-private": "c",
        "openai-organization": "theirs",
    }
    async with before("openai", load("openai", "text")) as (front, up):
        await answered(front, path, {**body, "model": "openai/x"}, **sent)
        heard = up.requests[0].headers
    assert not {"cookie", "x-private", "openai-organization"} & heard.keys()
    assert "mine" not in str(up.requests[0].raw_headers)


LOSSES: list[tuple[str, str, dict[str, Any], tuple[str, ...]]] = [
    (
        "openai",
        "anthropic",
        {"seed": 1, "frequency_penalty": 0.5, "temperature": 1.5},
        ("seed", "frequency_penalty"),
    ),
    ("openai", "anthropic", {"temperature": 1.5}, ("temperature:clamped",)),
    ("openai", "gemini", {"logit_bias": {"5": 1}, "user": "u"}, ("logit_bias", "user")),
    ("openai", "cohere", {"parallel_tool_calls": False, "user": "u"}, ("parallel_tool_calls", "user")),
    ("openai", "anthropic", UNKNOWN, tuple(UNKNOWN)),
    ("anthropic", "openai", UNKNOWN, tuple(UNKNOWN)),
    ("openai", "gemini", {"messages": [{"role": "user", "name": "bob", "content": "x"}]}, ("messages.name",)),
    ("anthropic", "gemini", {"context_management": {"edits": []}}, ("context_management",)),
    (
        "anthropic",
        "openai",
        {"tools": [{"type": "web_search_20250305", "name": "web_search"}]},
        ("tools[web_search",),
    ),
]


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize(("caller", "vendor", "fields", "lost"), LOSSES, ids=str)
async def test_every_loss_of_a_translation_is_named(
    world: World, caller: str, vendor: str, fields: Any, lost: tuple[str, ...], stream: bool
) -> None:
    path, body = OWN[caller]
    asked = {**body, **fields, "model": f"{vendor}/text", "stream": stream}
    _, headers = await answered(world.front, path, asked)
    named = headers["x-llm-server-dropped"]
    assert all(name in named for name in lost), named


LACKING: list[tuple[str, str, dict[str, Any], str]] = [
    ("openai", "cohere", {"n": 2}, "more than one choice"),
    ("openai", "anthropic", {"logprobs": True}, "log probabilities"),
    ("openai", "anthropic", {"guided_grammar": 'start: "a"'}, "grammar"),
    ("openai", "openai", {"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools"),
    ("anthropic", "openai", {"tools": [{"name": "f", "input_schema": {"type": "object"}}]}, "tools"),
    (
        "openai",
        "openai",
        {
            "messages": [
                {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://x/y.png"}}]}
            ]
        },
        "images",
    ),
]


@pytest.mark.parametrize(("caller", "vendor", "fields", "words"), LACKING, ids=str)
async def test_what_a_model_lacks_is_refused_and_nothing_is_sent(
    caller: str, vendor: str, fields: Any, words: str
) -> None:
    path, body = OWN[caller]
    blind = {"tools": False, "images": False}
    async with (
        scripted(load(vendor, "text")) as up,
        fronting({vendor: provider(up, vendor, facts={"x": blind})}) as front,
        front.http.post(path, json={**body, **fields, "model": f"{vendor}/x"}) as response,
    ):
        told = (await response.json())["error"]
        assert (response.status, up.requests) == (400, [])
    assert words in told["message"]


@pytest.mark.parametrize(
    ("path", "body"), [("/v1/embeddings", {"input": "x"}), ("/v1/completions", {"prompt": [[1]]})]
)
async def test_endpoints_that_a_provider_lacks_are_refused(world: World, path: str, body: Any) -> None:
    seen = len(world.upstreams["anthropic"].requests)
    async with world.front.http.post(path, json={**body, "model": "anthropic/text"}) as response:
        told = (await response.json())["error"]
    assert (response.status, told["code"]) == (400, "unsupported_value")
    assert len(world.upstreams["anthropic"].requests) == seen


IMAGE = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
SEEN: dict[str, Any] = {
    "openai": lambda body: body["messages"][0]["content"][1]["image_url"]["url"].partition(",")[2],
    "anthropic": lambda body: body["messages"][0]["content"][1]["source"]["data"],
    "gemini": lambda body: body["contents"][0]["parts"][1]["inlineData"]["data"],
    "cohere": lambda body: body["messages"][0]["content"][1]["image_url"]["url"].partition(",")[2],
}


@pytest.mark.parametrize("vendor", SEEN)
async def test_an_image_goes_from_each_dialect_to_every_other(vendor: str) -> None:
    text = {"type": "text", "text": "What is this?"}
    url: Any = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{IMAGE}"}}
    source: Any = {"type": "base64", "media_type": "image/png", "data": IMAGE}
    model = f"{vendor}/x"
    async with before(vendor, load(vendor, "text")) as (front, up):
        async with openai_sdk(front.url) as one:
            message: Any = {"role": "user", "content": [text, url]}
            await one.chat.completions.create(model=model, messages=[message])
        async with anthropic_sdk(front.url) as two:
            message = {"role": "user", "content": [text, {"type": "image", "source": source}]}
            await two.messages.create(model=model, messages=[message], max_tokens=9)
        assert [SEEN[vendor](request.json()) for request in up.requests] == [IMAGE, IMAGE]


SYSTEM: dict[str, Any] = {
    "openai": lambda body: body["messages"][0]["content"],
    "anthropic": lambda body: body["system"],
    "gemini": lambda body: body["systemInstruction"]["parts"][0]["text"],
    "cohere": lambda body: body["messages"][0]["content"],
}


@pytest.mark.parametrize("vendor", SYSTEM)
async def test_system_prompts_and_turns_arrive_everywhere(vendor: str) -> None:
    turns: Any = [*HELLO, {"role": "assistant", "content": "Yes?"}, {"role": "user", "content": "Go on."}]
    async with before(vendor, load(vendor, "text")) as (front, up):
        async with openai_sdk(front.url) as one:
            system: Any = {"role": "system", "content": "Be brief."}
            await one.chat.completions.create(model=f"{vendor}/x", messages=[system, *turns])
        async with anthropic_sdk(front.url) as two:
            ask: Any = {"messages": turns, "max_tokens": 9, "system": "Be brief."}
            await two.messages.create(model=f"{vendor}/x", **ask)
        bodies = [request.json() for request in up.requests]
    assert [SYSTEM[vendor](body) for body in bodies] == ["Be brief."] * 2
    for body in bodies:
        said = json.dumps(body)
        assert said.index("Hello") < said.index("Yes?") < said.index("Go on.")


async def test_billing_attribution_stays_with_its_vendor() -> None:
    """Claude Code starts its system prompt with a line that changes: other vendors must not see it."""
    line = "x-anthropic-billing-header: cc_version=2.1.0; cch=abcde;"
    system = [{"type": "text", "text": line}, {"type": "text", "text": "You write code."}]
    path, body = OWN["anthropic"]
    cases: list[Case] = [load("anthropic", "text"), load("openai", "text")]
    async with (
        scripted(cases[0]) as own,
        scripted(cases[1]) as other,
        fronting({"own": provider(own, "anthropic"), "other": provider(other, "openai")}) as front,
    ):
        for name in ("own", "other"):
            await answered(front, path, {**body, "system": system, "model": f"{name}/x"})
        assert own.requests[0].json()["system"] == system
        assert other.requests[0].json()["messages"][0] == {"role": "system", "content": "You write code."}
