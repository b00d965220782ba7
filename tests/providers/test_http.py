"""The provider over loopback: what it records, closes, hides and refuses."""

import asyncio
import logging
import traceback
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Any

import pytest

from llm_server.contract import (
    Attempt,
    Call,
    Chunk,
    Completion,
    Context,
    CountCall,
    EmbedCall,
    Embeddings,
    ErrorKind,
    Message,
    Provider,
    Role,
    Sampling,
    ServerError,
    State,
    Text,
    TextCall,
    TokenCount,
    fold,
)
from llm_server.pool import PoolConfig
from llm_server.providers import HttpProvider, ProviderConfig, build
from llm_server.testing import collect, outcome
from tests.providers.calls import chat, from_openai, system, user
from tests.upstreams.cases import load
from tests.upstreams.script import Close, Head, Hold, Idle, Script, play
from tests.upstreams.server import scripted, vendor
from tests.upstreams.upstream import Upstream

KEY = "sk-canary-0123456789"
JSON = {"content-type": "application/json"}
SSE = {"content-type": "text/event-stream"}
DELTA = b'data: {"id":"1","choices":[{"index":0,"delta":{"content":"a"}}]}\n\n'


def context() -> Context:
    return Context(request_id="r", attempts=[Attempt(provider="p", model="m")])


@asynccontextmanager
async def provider(up: Upstream, name: str = "openai", **config: Any) -> AsyncIterator[HttpProvider]:
    base_url = up.url + ("/v1" if name == "openai" else "")
    config = {"base_url": base_url, "api_key": KEY, **config}
    built = build({name: ProviderConfig(**config)}, lambda _name, _model, facts: facts)[name]
    assert isinstance(built, HttpProvider)
    try:
        yield built
    finally:
        await built.close()


async def failure(built: Provider, call: Call, ctx: Context | None = None) -> ServerError:
    _, error = await outcome(built(call, ctx or context()))
    assert error is not None
    return error


async def listing_failure(built: Provider) -> ServerError:
    with pytest.raises(ServerError) as caught:
        await built.models()
    return caught.value


async def test_whole_answer_with_the_key_where_the_row_says_and_the_attempt_written_down() -> None:
    async with vendor("openai") as up, provider(up) as built:
        ctx = context()
        (answer,) = await collect(built(from_openai("gpt-x"), ctx))
        assert isinstance(answer, Completion)
        assert answer.raw == load("openai", "text").body
        (request,) = up.requests
        assert request.path == "/v1/chat/completions"
        assert request.headers["authorization"] == f"Bearer {KEY}"
        assert request.headers["content-type"] == "application/json"
        attempt = ctx.attempt
        assert attempt is not None
        assert attempt.dialect == "openai"
        assert attempt.upstream_id == load("openai", "text").headers.get("x-request-id", "")
        assert attempt.first_byte_s is not None
        assert attempt.ended_s is not None
        assert 0 < attempt.started_s <= attempt.first_byte_s <= attempt.ended_s
        assert built.state() == (State.READY, "")
        assert built.stats()["busy"] == 0


@pytest.mark.parametrize(
    ("name", "header", "value"),
    [
        ("openai", "authorization", f"Bearer {KEY}"),
        ("azure", "api-key", KEY),
        ("anthropic", "x-api-key", KEY),
        ("gemini", "x-goog-api-key", KEY),
        ("cohere", "authorization", f"Bearer {KEY}"),
    ],
)
async def test_each_row_has_its_own_header_for_the_key(name: str, header: str, value: str) -> None:
    async with vendor(name) as up, provider(up, name) as built:
        (answer,) = await collect(built(chat(), context()))
        assert isinstance(answer, Completion)
        assert up.requests[0].headers[header] == value


async def test_configured_headers_and_deployments_are_used() -> None:
    async with vendor("openai") as up:
        config = {"headers": {"X-Team": "blue"}, "deployments": {"gpt-x": "prod-7"}, "api_key": None}
        async with provider(up, **config) as built:
            await collect(built(from_openai("gpt-x"), context()))
            assert up.requests[0].headers["x-team"] == "blue"
            assert "authorization" not in up.requests[0].headers
            assert up.requests[0].json()["model"] == "prod-7"
            assert [model.id for model in await built.models()] == ["gpt-x"]


async def test_dated_azure_api_has_the_deployment_in_its_path() -> None:
    async with vendor("azure") as up, provider(up, "azure", api_version="2024-10-21") as built:
        await collect(built(chat(model="my dep"), context()))
        assert up.requests[0].target == "/openai/deployments/my%20dep/chat/completions?api-version=2024-10-21"


async def test_stream_in_frames_and_its_connection_used_again() -> None:
    async with vendor("openai") as up, provider(up) as built:
        for _ in range(2):
            answers = await collect(built(from_openai(stream=True), context()))
            chunks = [answer for answer in answers if isinstance(answer, Chunk)]
            assert b"".join(chunk.frame for chunk in chunks) in load("openai", "text", "stream").body
            assert fold(chunks).choices[0].text == load("openai", "text").answer["text"]
        assert up.total_connections == 1
        assert up.requests[0].json()["stream_options"] == {"include_usage": True}


async def test_what_was_left_out_is_noted_once() -> None:
    async with vendor("anthropic") as up, provider(up, "anthropic") as built:
        ctx = context()
        ctx.dropped.append("seed")
        await collect(built(chat(sampling=Sampling(seed=1, presence_penalty=1.0)), ctx))
        assert ctx.dropped == ["seed", "presence_penalty"]


async def test_count_and_embeddings() -> None:
    async with vendor("anthropic") as up, provider(up, "anthropic") as built:
        (count,) = await collect(built(CountCall(model="c", messages=(user(),)), context()))
        assert isinstance(count, TokenCount)
    async with vendor("openai") as up, provider(up) as built:
        inputs = tuple("x" for _ in load("openai", "embeddings").answer["vectors"])
        (vectors,) = await collect(built(EmbedCall(model="e", inputs=inputs), context()))
        assert isinstance(vectors, Embeddings)
        assert (await failure(built, CountCall(model="c", messages=()))).kind is ErrorKind.UNSUPPORTED


async def test_billing_line_of_claude_code_is_for_anthropic_alone() -> None:
    line = "x-anthropic-billing-header: cc_version=2.1; cch=abc12;\n"
    call = chat(system(line + "Be brief"), user(), dialect="anthropic")
    async with vendor("openai") as up, provider(up) as built:
        await collect(built(call, context()))
        assert up.requests[0].json()["messages"][0] == {"role": "system", "content": "Be brief"}
        blocks = Message(Role.SYSTEM, (Text(line.strip()), Text("Be brief")))
        await collect(built(chat(blocks, user(), dialect="anthropic"), context()))
        assert up.requests[1].json()["messages"][0] == {"role": "system", "content": "Be brief"}
        await collect(built(chat(system(line), user(), dialect="anthropic"), context()))
        assert [message["role"] for message in up.requests[2].json()["messages"]] == ["user"]
    async with vendor("anthropic") as up, provider(up, "anthropic") as built:
        await collect(built(call, context()))
        assert up.requests[0].json()["system"] == line + "Be brief"


# --- models ------------------------------------------------------------------------------------------------


async def test_models_are_the_providers_own_list_with_its_name() -> None:
    async with vendor("openai") as up, provider(up) as built:
        models = await built.models()
        assert {model.provider for model in models} == {"openai"}
        assert len(models) == len(load("openai", "models").answer["models"])


async def test_configured_models_are_listed_without_asking() -> None:
    async with vendor("openai") as up, provider(up, models=["a", "b"]) as built:
        assert [(model.id, model.provider) for model in await built.models()] == [
            ("a", "openai"),
            ("b", "openai"),
        ]
        assert up.requests == []


async def test_models_that_cannot_be_listed_are_an_error_with_a_place() -> None:
    async with scripted(Script((Head(401, JSON, 2), b"{}"))) as up, provider(up) as built:
        with pytest.raises(ServerError) as caught:
            await built.models()
        assert (caught.value.kind, caught.value.provider, caught.value.status) == (
            ErrorKind.UPSTREAM_AUTH,
            "openai",
            401,
        )


async def test_models_that_do_not_come_are_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llm_server.providers.http.MODELS_TIMEOUT_S", 0.05)
    async with scripted(Script((Idle(),))) as up, provider(up) as built:
        with pytest.raises(ServerError) as caught:
            await built.models()
        assert caught.value.kind is ErrorKind.UPSTREAM_TIMEOUT
        await up.wait_closed()


# --- failures ----------------------------------------------------------------------------------------------


async def test_refusal_says_where_and_state_remembers_until_success() -> None:
    refusal = Script((Head(500, JSON, 2), b"{}"))
    async with scripted(refusal, play(load("openai", "text"))) as up, provider(up) as built:
        error = await failure(built, chat())
        assert (error.kind, error.provider, error.status) == (ErrorKind.UPSTREAM_ERROR, "openai", 500)
        assert built.state() == (State.READY, "upstream_error")
        await collect(built(chat(), context()))
        assert built.state() == (State.READY, "")
        assert up.total_connections == 1


@pytest.mark.parametrize(
    ("status", "told"),
    [
        (401, "The provider 'openai' refused this server's credentials. The operator of this server"),
        (402, "This server's quota or credit at the provider 'openai' is used up. Choose"),
        (404, "The provider 'openai' does not know this model."),
        (429, "The provider 'openai' limits this server's requests. Try again later."),
        (503, "The provider 'openai' is overloaded. Try again later."),
    ],
)
async def test_failure_names_the_provider_and_what_to_do(status: int, told: str) -> None:
    async with scripted(Script((Head(status, JSON, 2), b"{}"))) as up, provider(up) as built:
        assert (await failure(built, chat())).message.startswith(told)


async def test_provider_that_cannot_be_reached_is_named() -> None:
    async with scripted(Script(())) as up:
        base_url = up.url
    async with provider(up, "mine", base_url=base_url) as built:
        for error in (await failure(built, chat()), await listing_failure(built)):
            assert error.kind is ErrorKind.UPSTREAM_UNREACHABLE
            assert error.message == (
                "The provider 'mine' cannot be reached. Try again later; "
                "the operator of this server should check its base_url."
            )
            assert error.message in str(error)


async def test_broken_stream_is_named_and_a_vendors_words_stay() -> None:
    cut = Script((Head(200, SSE), DELTA))
    said = b'{"error":{"message":"The provider is not amused"}}'
    async with scripted(cut, Script((Head(400, JSON, len(said)), said))) as up, provider(up) as built:
        broken = await failure(built, chat(stream=True))
        assert broken.message == "The provider openai's stream ended before its answer did."
        assert (await failure(built, chat())).message == "The provider is not amused"


async def test_redirect_is_a_failure() -> None:
    async with (
        scripted(Script((Head(302, {"location": "http://127.0.0.1:1/"}, 0),))) as up,
        provider(up) as built,
    ):
        assert (await failure(built, chat())).kind is ErrorKind.UPSTREAM_ERROR


async def test_endless_error_page_is_read_only_so_far() -> None:
    page = Script((Head(503, SSE), b"<html>" + b"x" * 100_000, Idle()))
    async with scripted(page) as up, provider(up) as built:
        assert (await failure(built, chat())).kind is ErrorKind.UPSTREAM_OVERLOADED
        await up.wait_closed()


async def test_error_answer_that_breaks_off_is_told_by_its_status() -> None:
    async with scripted(Script((Head(429, JSON, 100), b"{", Close()))) as up, provider(up) as built:
        assert (await failure(built, chat())).kind is ErrorKind.UPSTREAM_RATE_LIMITED


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("status", "body"),
    [
        (400, b'{"error":{"message":"key sk-canary-0123456789 is bad","param":"sk-canary-0123456789"}}'),
        (401, b'{"error":{"message":"Incorrect API key provided: sk-canary-0123456789"}}'),
        (429, b'{"error":{"message":"sk-canary-0123456789","code":"sk-canary-0123456789"}}'),
        (500, b'{"error":{"message":"Bearer sk-canary-0123456789"}}'),
        (200, b"sk-canary-0123456789"),
    ],
)
async def test_key_is_in_no_error_log_or_repr(
    status: int, body: bytes, stream: bool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    ctx = context()
    head = Head(status, {**JSON, "x-request-id": f"id-{KEY}"}, len(body))
    async with scripted(Script((head, body))) as up, provider(up) as built:
        error = await failure(built, chat(stream=stream), ctx)
        told = "".join(traceback.format_exception(error)) + repr(vars(error)) + repr(ctx)
        assert KEY not in told + caplog.text + repr(built)


async def test_error_with_json_for_a_stream_is_an_error_and_a_whole_answer_is_streamed() -> None:
    whole = load("openai", "text")
    error = b'{"error":{"message":"m","code":"context_length_exceeded"}}'
    scripts = (Script((Head(200, JSON, len(error)), error)), play(whole))
    async with scripted(*scripts) as up, provider(up) as built:
        assert (await failure(built, chat(stream=True))).kind is ErrorKind.CONTEXT_OVERFLOW
        chunks = [
            chunk for chunk in await collect(built(chat(stream=True), context())) if isinstance(chunk, Chunk)
        ]
        assert fold(chunks).choices[0].text == whole.answer["text"]


@pytest.mark.parametrize(
    ("steps", "kind"),
    [
        ((Head(200, SSE), DELTA), ErrorKind.UPSTREAM_TRUNCATED),
        ((Head(200, SSE), DELTA, Close()), ErrorKind.UPSTREAM_TRUNCATED),
        ((Head(200, SSE), DELTA, b'data: {"error":{"type":"server_error"}}\n\n'), ErrorKind.UPSTREAM_ERROR),
        ((Head(200, SSE), DELTA, b"data: {\n\n"), ErrorKind.UPSTREAM_INVALID),
    ],
    ids=["clean end", "cut", "error event", "garbage event"],
)
async def test_stream_that_fails_gives_what_came_and_then_the_failure(steps: Any, kind: ErrorKind) -> None:
    async with scripted(Script(steps)) as up, provider(up) as built:
        seen, error = await outcome(built(chat(stream=True), context()))
        assert len(seen) == 1
        assert error is not None
        assert (error.kind, error.provider) == (kind, "openai")
        assert built.stats()["busy"] == 0


async def test_page_instead_of_a_stream_is_invalid() -> None:
    page = Script((Head(200, {"content-type": "text/html; charset=utf-8"}), b"<html>\n\n</html>\n\n"))
    async with scripted(page) as up, provider(up) as built:
        assert (await failure(built, chat(stream=True))).kind is ErrorKind.UPSTREAM_INVALID


async def test_timeouts_are_configurable_for_one_provider() -> None:
    pool = PoolConfig(first_byte_timeout_s=0.05)
    async with scripted(Script((Idle(),))) as up, provider(up, pool=pool) as built:
        assert (await failure(built, chat())).kind is ErrorKind.UPSTREAM_TIMEOUT


# --- leaving -----------------------------------------------------------------------------------------------


async def test_leaving_a_stream_closes_the_upstream() -> None:
    async with scripted(Script((Head(200, SSE), DELTA, Idle()))) as up, provider(up) as built:
        ctx = context()
        async with aclosing(built(chat(stream=True), ctx)) as answers:
            await anext(answers)
        await up.wait_abandoned()
        await up.wait_closed()
        assert built.stats()["busy"] == 0
        assert ctx.attempt is not None
        assert ctx.attempt.ended_s is not None


@pytest.mark.parametrize("stream", [False, True])
async def test_cancelling_closes_the_upstream(stream: bool) -> None:
    async with scripted(Script((Idle(),))) as up, provider(up) as built:
        task = asyncio.create_task(outcome(built(chat(stream=stream), context())))
        await up.wait_requests()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await up.wait_closed()


async def test_pool_that_is_full_refuses_at_once_and_names_the_provider() -> None:
    hold = Hold()
    pool = PoolConfig(max_connections=1, max_waiting=0)
    async with scripted(play(load("openai", "text")).before(hold)) as up, provider(up, pool=pool) as built:
        first = asyncio.create_task(collect(built(chat(), context())))
        await up.wait_requests()
        error = await failure(built, chat())
        assert (error.kind, error.provider, error.retry_after_s) == (ErrorKind.OVERLOADED, "openai", 1.0)
        hold.until.set()
        await first


# --- names -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "model", ["", "a\r\nx: y", "a\x00", "../admin", "a/../../b", "a\\b", "x" * 257, "a\u2028b", ".."]
)
@pytest.mark.parametrize("name", ["openai", "gemini"])
async def test_odd_model_names_are_refused_and_nothing_is_sent(name: str, model: str) -> None:
    async with vendor(name) as up, provider(up, name) as built:
        error = await failure(built, chat(model=model))
        assert (error.kind, error.param) == (ErrorKind.INVALID_REQUEST, "model")
        assert up.requests == []


@pytest.mark.parametrize(
    "model", ["http://evil.example/x", "//evil.example", "m?key=1#x", "m@evil.example", "%2e%2e"]
)
@pytest.mark.parametrize(("name", "config"), [("azure", {"api_version": "2024-10-21"}), ("gemini", {})])
async def test_model_name_in_a_path_is_only_data(name: str, config: dict[str, Any], model: str) -> None:
    async with vendor(name) as up, provider(up, name, **config) as built:
        await collect(built(chat(model=model), context()))
        (request,) = up.requests
        assert model not in request.target
        assert request.path.count("/") == {"azure": 5, "gemini": 2}[name]


# --- text calls --------------------------------------------------------------------------------------------


async def test_text_call_is_asked_as_chats_only_where_the_model_has_no_completions() -> None:
    call = TextCall(model="m", prompts=("a", "b"))
    async with vendor("openai") as up, provider(up) as built:
        ctx = context()
        (answer,) = await collect(built(call, ctx))
        assert ctx.dropped == ["completions:chat"]
        assert isinstance(answer, Completion)
        assert [choice.index for choice in answer.choices] == [0, 1]
        assert {request.path for request in up.requests} == {"/v1/chat/completions"}
        assert len(up.requests) == 2
    async with vendor("openai", completions="completion_batch") as up:
        async with provider(up, facts={"*": {"completions": True}}) as built:
            ctx = context()
            await collect(built(call, ctx))
            assert ctx.dropped == []
        assert [request.path for request in up.requests] == ["/v1/completions"]
        assert up.requests[0].json()["prompt"] == ["a", "b"]


async def test_a_provider_known_by_its_url_alone_is_asked_for_completions() -> None:
    async with vendor("openai", completions="completion_batch") as up:
        async with provider(up, "mine", base_url=up.url + "/v1") as built:
            await collect(built(TextCall(model="m", prompts=("a", "b")), context()))
        assert [request.path for request in up.requests] == ["/v1/completions"]
