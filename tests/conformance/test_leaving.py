"""Whoever leaves early takes the upstream along: the connection is closed, nothing is left running."""

import asyncio
from contextlib import aclosing

import pytest

from llm_server.contract import Call, TextCall
from llm_server.providers.http import HttpProvider
from tests.conformance.decoding import decode
from tests.conformance.enrolled import Enrolled, ask, call_for, context, provider, rows
from tests.upstreams.cases import Case, load
from tests.upstreams.script import Hold, Idle, Script, play
from tests.upstreams.server import scripted
from tests.upstreams.upstream import Upstream


def endless(case: Case) -> Script:
    """Return the case's stream with silence in the place of its end."""
    return play(case).until_piece(len(pieces(case)) - 1, Idle())


def pieces(case: Case) -> list[bytes]:
    return [step for step in play(case).steps if isinstance(step, bytes)]


async def assert_nothing_left(given: HttpProvider, up: Upstream, tasks: set[asyncio.Task[object]]) -> None:
    """Check that the connection is gone, the pool holds no place, and no task of the provider runs."""
    await up.wait_closed()
    await up.until(lambda: up.in_flight == 0)
    assert (given.stats()["busy"], given.stats()["waiting"]) == (0, 0)
    assert asyncio.all_tasks() <= tasks


@rows()
async def test_leaving_after_any_number_of_answers_closes_the_upstream(who: Enrolled) -> None:
    case = load(who.vendor, "text", "stream")
    async with scripted(endless(case)) as up, provider(who, up) as given:
        tasks = asyncio.all_tasks()
        total = len(decode(who, call_for(case), pieces(case)[:-1]).chunks)
        assert total >= 1
        for count in range(1, total + 1):
            async with aclosing(given(call_for(case), context())) as answers:
                for _ in range(count):
                    await anext(answers)
            await up.wait_abandoned(count)
            await assert_nothing_left(given, up, tasks)
        assert len(up.requests) == up.abandoned == total


@rows()
async def test_leaving_without_asking_sends_nothing(who: Enrolled) -> None:
    case = load(who.vendor, "text", "stream")
    async with scripted(case) as up, provider(who, up) as given:
        await given(call_for(case), context()).aclose()
        assert (up.requests, up.total_connections) == ([], 0)


@pytest.mark.parametrize("form", ["whole", "stream"])
@rows()
async def test_cancelling_before_the_headers_closes_the_upstream(who: Enrolled, form: str) -> None:
    case = load(who.vendor, "text", "whole" if form == "whole" else "stream")
    gate = Hold()
    async with scripted(play(case).before(gate)) as up, provider(who, up) as given:
        tasks = asyncio.all_tasks()
        await _cancelled(given, call_for(case), gate)
        await up.wait_abandoned()
        await assert_nothing_left(given, up, tasks)


@rows()
async def test_cancelling_in_the_middle_of_a_stream_closes_the_upstream(who: Enrolled) -> None:
    case = load(who.vendor, "text", "stream")
    gate = Hold()
    async with scripted(play(case).at_piece(1, gate)) as up, provider(who, up) as given:
        tasks = asyncio.all_tasks()
        await _cancelled(given, call_for(case), gate)
        await up.wait_abandoned()
        await assert_nothing_left(given, up, tasks)


@rows()
async def test_cancelling_in_the_middle_of_a_whole_answer_closes_the_upstream(who: Enrolled) -> None:
    case = load(who.vendor, "text")
    gate = Hold()
    script = play(case, cuts=[len(case.body) // 2]).at_piece(1, gate)
    async with scripted(script) as up, provider(who, up) as given:
        tasks = asyncio.all_tasks()
        await _cancelled(given, call_for(case), gate)
        await up.wait_abandoned()
        await assert_nothing_left(given, up, tasks)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@rows()
async def test_leaving_a_text_call_gives_up_every_chat_that_it_became(who: Enrolled, stream: bool) -> None:
    case = load(who.vendor, "text", "stream" if stream else "whole")
    script = endless(case) if stream else play(case).before(Idle())
    call = TextCall(model="some-model", prompts=("a", "b"), stream=stream)
    async with scripted(script) as up, provider(who, up, facts={"*": {"completions": False}}) as given:
        tasks = asyncio.all_tasks()
        asking = asyncio.create_task(ask(given, call))
        await up.wait_requests(2)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        await assert_nothing_left(given, up, tasks)


async def _cancelled(given: HttpProvider, call: Call, gate: Hold) -> None:
    """Ask, and be cancelled when the upstream has come to ``gate``."""
    asking = asyncio.create_task(ask(given, call))
    await gate.reached.wait()
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking


@rows()
async def test_a_connection_is_used_again_after_a_whole_answer_and_after_a_stream(who: Enrolled) -> None:
    whole, stream = load(who.vendor, "text"), load(who.vendor, "text", "stream")
    async with scripted(whole, stream, whole) as up, provider(who, up) as given:
        for case in (whole, stream, whole):
            await ask(given, call_for(case))
        assert up.total_connections == 1
