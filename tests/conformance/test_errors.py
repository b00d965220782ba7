"""Every refusal of every vendor: its kind, its status, when to try again; and the key is in none of it."""

import json
import logging
import traceback
from dataclasses import replace
from typing import Any

import pytest

from llm_server.contract import Block, ChatCall, Context, ServerError
from tests.conformance.enrolled import ENROLLED, HELLO, KEY, Enrolled, ask, context, provider, rows
from tests.conformance.kinds import OWN, PROSE_ONLY, RETRY_AFTER_S, SHARED, kind_of
from tests.upstreams.cases import VENDORS, Refusal, load, refusals
from tests.upstreams.script import Close, Script, garbage_event, play
from tests.upstreams.server import scripted
from tests.upstreams.upstream import Answer

REFUSALS = [
    pytest.param(who, row, id=f"{who.id}/{row.name}") for who in ENROLLED for row in refusals(who.vendor)
]
both_forms = pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])


def echoing(row: Refusal) -> Refusal:
    """Return the refusal of an upstream that repeats the key wherever it says anything."""
    body = row.body
    if body:
        try:
            body = json.dumps(_with_key(json.loads(body))).encode()
        except ValueError:
            body += f"<p>{KEY}</p>".encode()
    headers = {
        "x-debug": f"got Bearer {KEY}",
        "x-request-id": f"req-{KEY}",
        "www-authenticate": f"Bearer {KEY}",
    }
    return replace(row, body=body, headers={**row.headers, **headers})


def _with_key(value: Any, name: str = "") -> Any:
    """Add the key to every text that is a message; codes and types keep their meaning."""
    match value:
        case dict():
            return {key: _with_key(inner, key) for key, inner in value.items()}
        case list():
            return [_with_key(inner, name) for inner in value]
        case str() if name in {
            "message",
            "detail",
            "error",
            "msg",
            "title",
            "raw",
            "param",
            "failed_generation",
        }:
            return f"{value} (key {KEY}, header Bearer {KEY})"
    return value


async def failure(who: Enrolled, answer: Answer, *, stream: bool, ctx: Context | None = None) -> ServerError:
    """Return the error that a chat ends in."""
    async with scripted(answer) as up, provider(who, up) as given:
        with pytest.raises(ServerError) as caught:
            await ask(given, _call(stream=stream), ctx)
        assert KEY not in repr((given.state(), given.stats(), given, given.name))
        assert len(up.requests) == 1
    return caught.value


def _call(*, stream: bool) -> ChatCall:
    return ChatCall(model="some-model", messages=HELLO, stream=stream)


@both_forms
@pytest.mark.parametrize(("who", "row"), REFUSALS)
async def test_a_refusal_has_its_kind_its_status_and_its_retry(
    who: Enrolled, row: Refusal, stream: bool
) -> None:
    error = await failure(who, row, stream=stream)
    assert error.kind is kind_of(who.vendor, row.name)
    assert (error.status, error.provider) == (row.status, who.row.name)
    assert error.retry_after_s == pytest.approx(RETRY_AFTER_S.get(f"{who.vendor}/{row.name}"))
    assert error.message
    assert str(row.status) in error.detail
    if error.kind.block is not Block.CALLER:  # what a vendor says about us is for our operator
        assert not {word for word in ("organization", "org-", "key:", "console") if word in error.message}


@both_forms
@pytest.mark.parametrize(("who", "row"), REFUSALS)
async def test_the_key_is_nowhere_even_if_the_upstream_repeats_it(
    who: Enrolled, row: Refusal, stream: bool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    ctx = context()
    error = await failure(who, echoing(row), stream=stream, ctx=ctx)
    assert error.kind is kind_of(who.vendor, row.name)
    assert_silent(error, ctx, caplog)


def assert_silent(error: ServerError, ctx: Context, caplog: pytest.LogCaptureFixture) -> None:
    """Check everything about a failure that somebody could print."""
    shown = [
        error.message,
        error.detail,
        error.param,
        repr(error),
        str(error),
        repr(error.args),
        repr(vars(error)),
    ]
    shown += ["".join(traceback.format_exception(error)), caplog.text, repr(ctx)]
    for text in shown:
        assert KEY not in (text or "")
    seen: list[BaseException | None] = [error, error.__cause__, error.__context__]
    assert KEY not in repr([vars(one) for one in seen if one is not None])


@rows()
async def test_the_key_is_nowhere_when_a_stream_breaks(
    who: Enrolled, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    case = load(who.vendor, "text", "stream")
    said = json.dumps(
        {"error": {"message": f"no, {KEY}", "code": 500}, "type": "error", "message": KEY}
    ).encode()
    for script in (
        play(case).at_piece(1, b"data: " + said + b"\n\n"),
        play(case).at_piece(1, b'data: {"broken": "' + KEY.encode() + b"\n\n"),
        play(case).until_piece(1, Close()),
        garbage_event(case),
    ):
        ctx = context()
        assert_silent(await failure(who, script, stream=True, ctx=ctx), ctx, caplog)


@rows()
async def test_the_key_is_nowhere_when_the_upstream_is_gone(
    who: Enrolled, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    for script in (Script((Close(),)), play(load(who.vendor, "text")).before(Close())):
        ctx = context()
        assert_silent(await failure(who, script, stream=False, ctx=ctx), ctx, caplog)


@rows()
async def test_the_key_is_sent_where_it_belongs_and_nowhere_else(who: Enrolled) -> None:
    async with scripted(load(who.vendor, "text")) as up, provider(who, up) as given:
        await ask(given, _call(stream=False))
    (request,) = up.requests
    assert request.headers[who.row.key_header] == who.row.key_prefix + KEY
    others = [pair for pair in request.raw_headers if pair[0] != who.row.key_header]
    assert KEY not in repr((others, request.target, request.body))


@pytest.mark.parametrize("vendor", VENDORS)
def test_every_refusal_has_been_reviewed(vendor: str) -> None:
    assert [row.name for row in refusals(vendor) if kind_of(vendor, row.name) is None] == []


def test_no_review_is_of_a_refusal_that_is_gone() -> None:
    there = {f"{vendor}/{row.name}" for vendor in VENDORS for row in refusals(vendor)}
    assert {*OWN, *PROSE_ONLY, *RETRY_AFTER_S} <= there
    assert set(SHARED) <= {name.partition("/")[2] for name in there}
