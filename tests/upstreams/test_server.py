"""The scripted upstream does what its script says, and reports what it saw."""

import asyncio
from collections.abc import AsyncIterator

import httpx2
import pytest

from tests.upstreams.cases import Case, cases, frames, load, refusal
from tests.upstreams.script import (
    Close,
    Head,
    Hold,
    Idle,
    Raw,
    Reset,
    Script,
    cut,
    garbage_body,
    garbage_event,
    play,
)
from tests.upstreams.server import scripted, vendor

STREAM = load("openai", "text", "stream")
WHOLE = load("openai", "text", "whole")


@pytest.fixture
async def client() -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(verify=False, timeout=30) as http:
        yield http


@pytest.mark.parametrize("case", list(cases("openai", "gemini", "ollama")), ids=lambda case: case.id)
async def test_a_case_arrives_byte_for_byte(client: httpx2.AsyncClient, case: Case) -> None:
    async with scripted(case) as up:
        response = await client.request(case.method, up.url + case.path)
    assert response.status_code == case.status
    assert response.content == case.body
    assert case.headers.items() <= dict(response.headers).items()


async def test_a_request_is_recorded_as_it_came(client: httpx2.AsyncClient) -> None:
    async with scripted(WHOLE) as up:
        headers = [("x-twice", "1"), ("x-twice", "2")]
        await client.post(up.url + "/v1/x?api-version=1", json={"a": "é"}, headers=headers)
        (request,) = up.requests
    assert (request.method, request.path, request.target) == ("POST", "/v1/x", "/v1/x?api-version=1")
    assert request.json() == {"a": "é"}
    assert [value for name, value in request.raw_headers if name == "x-twice"] == ["1", "2"]
    assert request.headers["content-type"] == "application/json"


async def test_answers_come_in_turn_and_the_last_repeats_on_one_connection(
    client: httpx2.AsyncClient,
) -> None:
    async with scripted(refusal("openai", "rate_limit"), WHOLE) as up:
        statuses = [(await client.get(up.url)).status_code for _ in range(3)]
        assert up.total_connections == up.open_connections == 1
    assert statuses == [429, 200, 200]


async def test_every_frame_is_one_piece_and_cuts_fall_where_told(client: httpx2.AsyncClient) -> None:
    assert play(STREAM).steps[1:] == frames(STREAM.body)
    pieces = cut(STREAM.body, [1, 9, 9, 10**9, 0])
    assert [len(piece) for piece in pieces] == [1, 8, len(STREAM.body) - 9]
    async with scripted(play(STREAM, cuts=range(0, 400, 7))) as up:
        assert (await client.get(up.url)).content == STREAM.body


async def test_hold_delays_headers_first_byte_and_frames(client: httpx2.AsyncClient) -> None:
    before, first, later = Hold(), Hold(), Hold()
    script = play(STREAM).at_piece(3, later).after_head(first).before(before)
    async with scripted(script) as up:
        request = asyncio.create_task(client.send(client.build_request("GET", up.url), stream=True))
        await before.reached.wait()
        assert not request.done()
        before.until.set()
        response = await request
        await first.reached.wait()
        assert not later.reached.is_set()
        first.until.set()
        await later.reached.wait()
        later.until.set()
        assert await response.aread() == STREAM.body


async def test_a_stream_can_end_cleanly_too_early(client: httpx2.AsyncClient) -> None:
    async with scripted(play(STREAM).until_piece(4)) as up:
        response = await client.get(up.url)
    assert response.content == b"".join(frames(STREAM.body)[:4])


@pytest.mark.parametrize("end", [Close(), Reset()], ids=["close", "reset"])
@pytest.mark.parametrize("case", [WHOLE, STREAM], ids=["whole", "stream"])
async def test_a_connection_can_break_in_the_middle(
    client: httpx2.AsyncClient, end: Close | Reset, case: Case
) -> None:
    async with scripted(play(case, cuts=[40, 80]).until_piece(2, end)) as up:
        with pytest.raises((httpx2.RemoteProtocolError, httpx2.ReadError)):
            await client.get(up.url)
        await up.wait_closed()
        assert up.abandoned == 0, "the upstream broke it, not the client"


async def test_a_connection_can_break_before_the_answer(client: httpx2.AsyncClient) -> None:
    async with scripted(play(WHOLE).before(Close())) as up:
        with pytest.raises(httpx2.RemoteProtocolError):
            await client.get(up.url)


async def test_an_answer_can_be_no_http(client: httpx2.AsyncClient) -> None:
    async with scripted(Script((Raw(b"\x16\x03\x01 hello\r\n\r\n"),))) as up:
        with pytest.raises(httpx2.RemoteProtocolError):
            await client.get(up.url)


async def test_garbage_comes_with_good_headers(client: httpx2.AsyncClient) -> None:
    async with scripted(garbage_body(WHOLE), garbage_event(STREAM, at=2)) as up:
        body = await client.get(up.url)
        stream = await client.get(up.url)
    assert body.status_code == 200
    with pytest.raises(UnicodeDecodeError):
        body.content.decode()
    assert frames(stream.content)[2].startswith(b'data: {"broken"')


async def test_a_client_that_leaves_is_noticed_and_counted(client: httpx2.AsyncClient) -> None:
    async with scripted(play(STREAM).until_piece(2, Idle())) as up:
        async with client.stream("GET", up.url) as response:
            assert (await anext(response.aiter_bytes())).startswith(b"data:")
            assert (up.in_flight, up.open_connections) == (1, 1)
        await up.wait_abandoned()
        await up.wait_closed()
        await up.until(lambda: up.in_flight == 0)
        assert up.abandoned == 1


async def test_a_fault_of_the_script_fails_the_test(client: httpx2.AsyncClient) -> None:
    async def run(script: Script) -> None:
        async with scripted(script) as up:
            with pytest.raises(httpx2.RemoteProtocolError):
                await client.get(up.url)

    with pytest.raises(BaseExceptionGroup, match="scripted upstream failed"):
        await run(Script((Head(), Head())))


async def test_a_vendor_routes_by_path_and_by_what_is_asked(client: httpx2.AsyncClient) -> None:
    async with vendor("openai", chat="tools", completions=refusal("openai", "server_error")) as up:
        whole = await client.post(up.url + "/v1/chat/completions", json={})
        stream = await client.post(up.url + "/v1/chat/completions", json={"stream": True})
        floats = await client.post(up.url + "/v1/embeddings", json={})
        packed = await client.post(up.url + "/v1/embeddings", json={"encoding_format": "base64"})
        models = await client.get(up.url + "/v1/models")
        broken = await client.post(up.url + "/v1/completions", json={})
        unknown = await client.get(up.url + "/v1/nothing")
    assert whole.content == load("openai", "tools").body
    assert stream.content == load("openai", "tools", "stream").body
    assert floats.content == load("openai", "embeddings").body
    assert packed.content == load("openai", "embeddings_base64").body
    assert models.content == load("openai", "models").body
    assert (broken.status_code, unknown.status_code) == (500, 404)


async def test_other_dialects_are_routed_too(client: httpx2.AsyncClient) -> None:
    model = "/v1beta/models/gemini-3-flash-preview"
    async with vendor("gemini") as up:
        for ending, name, form in (
            (":generateContent", "text", "whole"),
            (":streamGenerateContent?alt=sse", "text", "stream"),
            (":countTokens", "count_tokens", "whole"),
            (":batchEmbedContents", "embeddings", "whole"),
        ):
            response = await client.post(up.url + model + ending, json={})
            assert response.content == load("gemini", name, form).body, ending
    async with vendor("anthropic") as up:
        counted = await client.post(up.url + "/v1/messages/count_tokens", json={})
        told = await client.post(up.url + "/v1/messages", json={"stream": True})
    assert counted.content == load("anthropic", "count_tokens").body
    assert told.content == load("anthropic", "text", "stream").body
    async with vendor("ollama") as up:
        native = await client.post(up.url + "/api/chat", json={"stream": True})
        tags = await client.get(up.url + "/api/tags")
    assert native.content == load("ollama", "native_text", "stream").body
    assert tags.content == load("ollama", "tags").body
