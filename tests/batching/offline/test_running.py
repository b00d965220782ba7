"""Batches run to their end, whatever happens on the way."""

import asyncio
import itertools
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llm_server.batching.offline.local import MAX_UNREACHED
from llm_server.contract import (
    Batch,
    BatchStatus,
    Call,
    Completion,
    ErrorKind,
    LineProblem,
    Priority,
    ServerError,
    Usage,
)
from llm_server.testing import FakeProvider, echo
from tests.batching.offline.world import World, asked, running, text_of

S = BatchStatus


def failing(kind: ErrorKind, times: int, retry_after_s: float | None = None) -> Any:
    """A script that fails ``times`` times for each text, then echoes."""
    left: dict[str, int] = {}

    def script(call: Call) -> Any:
        text = text_of(call)
        left[text] = left.get(text, times) - 1
        if left[text] >= 0:
            return (ServerError(kind, "not now", retry_after_s=retry_after_s),)
        return echo(call)

    return script


async def test_a_batch_is_answered_line_by_line() -> None:
    provider = FakeProvider()
    world = World(provider)
    async with running(world.runner):
        batch_id = await world.order(
            *(asked(f"c{at}", f"say {at}") for at in range(100)), metadata={"a": "b"}
        )
        batch = await world.ended(batch_id)
    assert (batch.status, batch.total, batch.completed, batch.failed) == (S.COMPLETED, 100, 100, 0)
    assert list(batch.times) == [S.VALIDATING, S.IN_PROGRESS, S.FINALIZING, S.COMPLETED]
    assert (batch.metadata, batch.model, batch.error_file) == ({"a": "b"}, "fake/m", None)
    assert batch.usage == Usage(input_tokens=200, output_tokens=100)
    lines = await world.lines(batch.output_file)
    assert [line["custom_id"] for line in lines] == [f"c{at}" for at in range(100)]
    said = [line["response"]["body"]["choices"][0]["message"]["content"] for line in lines]
    assert said == [f"say {at}" for at in range(100)]
    assert {(line["response"]["status_code"], line["error"]) for line in lines} == {(200, None)}
    assert len({line["response"]["request_id"] for line in lines}) == 100
    assert len({line["id"] for line in lines}) == 100
    assert world.told.statuses == [S.IN_PROGRESS, S.FINALIZING, S.COMPLETED]
    assert world.told.lines == ["completed"] * 100


async def test_every_line_is_of_the_least_urgent_class() -> None:
    seen: list[tuple[Priority, str, str]] = []

    async def handler(call: Call, ctx: Any) -> Any:
        seen.append((ctx.priority, ctx.route, ctx.model))
        yield next(iter(echo(call)))

    world = World(handler)
    async with running(world.runner):
        await world.ended(await world.order(asked("a")))
    assert seen == [(Priority.BATCH, "/v1/chat/completions", "fake/m")]


@pytest.mark.parametrize(
    ("url", "body", "answer"),
    [
        ("/v1/completions", {"prompt": "one two"}, "text_completion"),
        ("/v1/embeddings", {"input": ["a", "bc"]}, "list"),
        ("/v1/messages", {"max_tokens": 5, "messages": [{"role": "user", "content": "x"}]}, None),
    ],
)
async def test_every_endpoint_can_be_batched(url: str, body: dict[str, Any], answer: str | None) -> None:
    world = World(FakeProvider())
    line = {"custom_id": "a", "method": "POST", "url": url, "body": {"model": "fake/m", **body}}
    async with running(world.runner):
        batch = await world.ended(await world.order(line, endpoint=url))
    assert batch.status is S.COMPLETED
    (found,) = await world.lines(batch.output_file)
    said = found["response"]["body"]
    assert said.get("object") == answer
    assert answer or said["type"] == "message"


async def test_a_line_that_is_wrong_fails_alone() -> None:
    world = World(FakeProvider(script=failing(ErrorKind.CONTEXT_OVERFLOW, 0)))
    lines = (
        asked("good"),
        asked("typed", temperature="hot"),
        asked("streamed", stream=True),
        {**asked("empty"), "body": {}},
        asked("nested", messages=[[[1]]]),
    )
    async with running(world.runner):
        batch = await world.ended(await world.order(*lines))
    assert (batch.status, batch.completed, batch.failed) == (S.COMPLETED, 1, 4)
    errors = await world.lines(batch.error_file)
    assert [each["custom_id"] for each in errors] == ["typed", "streamed", "empty", "nested"]
    assert {each["response"]["status_code"] for each in errors} == {400}
    params = [each["response"]["body"]["error"]["param"] for each in errors]
    assert params[:2] == ["temperature", "stream"]
    assert [each["custom_id"] for each in await world.lines(batch.output_file)] == ["good"]


async def test_a_batch_of_failures_only_has_no_output_file() -> None:
    world = World(FakeProvider(script=lambda _: (ServerError(ErrorKind.CONTENT_REJECTED, "no"),)))
    async with running(world.runner):
        batch = await world.ended(await world.order(asked("a"), asked("b")))
    assert (batch.status, batch.output_file, batch.failed) == (S.COMPLETED, None, 2)
    assert len(await world.lines(batch.error_file)) == 2


@pytest.mark.parametrize(
    "kind", [ErrorKind.OVERLOADED, ErrorKind.UPSTREAM_RATE_LIMITED, ErrorKind.UNAVAILABLE]
)
async def test_a_line_waits_for_room_however_often_there_is_none(
    kind: ErrorKind, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("llm_server.batching.offline.pace.FIRST_PAUSE_S", 0.0)
    provider = FakeProvider(script=failing(kind, 20))
    world = World(provider, max_attempts=1)
    async with running(world.runner):
        batch = await world.ended(await world.order(*(asked(f"c{at}", f"t{at}") for at in range(5))))
    assert (batch.status, batch.completed) == (S.COMPLETED, 5)
    assert len(provider.calls) == 5 * 21


async def test_a_provider_that_is_down_for_a_while_costs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llm_server.batching.offline.pace.FIRST_PAUSE_S", 0.0)
    calls = itertools.count()

    def script(call: Call) -> Any:
        down = 10 <= next(calls) < 30
        return (ServerError(ErrorKind.UPSTREAM_UNREACHABLE, "gone"),) if down else echo(call)

    world = World(FakeProvider(script=script), max_attempts=1)
    async with running(world.runner):
        batch = await world.ended(await world.order(*(asked(f"c{at}", f"t{at}") for at in range(30))))
    assert (batch.completed, batch.failed) == (30, 0)


async def test_a_line_that_breaks_its_provider_does_not_hold_up_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("llm_server.batching.offline.pace.FIRST_PAUSE_S", 0.0)

    def script(call: Call) -> Any:
        poison = text_of(call) == "poison"
        return (ServerError(ErrorKind.UPSTREAM_UNREACHABLE, "gone"),) if poison else echo(call)

    provider = FakeProvider(script=script)
    world = World(provider, max_attempts=3)
    lines = [asked("bad", "poison"), *(asked(f"c{at}", f"t{at}") for at in range(60))]
    async with running(world.runner):
        batch = await world.ended(await world.order(*lines))
        alone = await world.ended(await world.order(asked("bad", "poison")))
    assert (batch.status, batch.completed, batch.failed) == (S.COMPLETED, 60, 1)
    assert (alone.status, alone.failed) == (S.COMPLETED, 1)
    assert len(provider.calls) <= 60 + 2 * MAX_UNREACHED


@pytest.mark.parametrize(("times", "completed"), [(2, 3), (3, 0)])
async def test_a_provider_that_fails_is_asked_a_few_times(times: int, completed: int) -> None:
    provider = FakeProvider(script=failing(ErrorKind.UPSTREAM_ERROR, times))
    world = World(provider, max_attempts=3)
    async with running(world.runner):
        batch = await world.ended(await world.order(*(asked(f"c{at}", f"t{at}") for at in range(3))))
    assert (batch.completed, batch.failed) == (completed, 3 - completed)
    assert len(provider.calls) == 9
    for line in await world.lines(batch.error_file):
        assert line["response"]["status_code"] == 502
        assert line["response"]["body"]["error"]["code"] == "upstream_error"


async def test_a_bug_in_a_stage_fails_its_line_only() -> None:
    async def handler(call: Call, _: Any) -> Any:
        if text_of(call) == "bug":
            raise KeyError("secret-of-the-operator")
        yield next(iter(echo(call)))

    world = World(handler)
    async with running(world.runner):
        batch = await world.ended(await world.order(asked("a", "bug"), asked("b")))
    assert (batch.status, batch.completed, batch.failed) == (S.COMPLETED, 1, 1)
    (line,) = await world.lines(batch.error_file)
    assert line["response"]["status_code"] == 500
    assert "secret-of" not in str(line)


@pytest.mark.parametrize("raw", [b'{"a":\n 1,\r\n"b": "x y"}', b'{"u":"\\u2028"}'])
async def test_an_answer_becomes_one_line_whatever_its_spelling(raw: bytes) -> None:
    async def handler(call: Call, _: Any) -> Any:
        yield Completion(model="m", raw=raw)

    world = World(handler)
    async with running(world.runner):
        batch = await world.ended(await world.order(asked("a"), asked("b")))
    assert len(await world.lines(batch.output_file)) == 2


async def test_an_answer_that_is_no_json_is_a_failure() -> None:
    async def handler(call: Call, _: Any) -> Any:
        yield Completion(model="m", raw=b'{"a":\n')

    world = World(handler, max_attempts=2)
    async with running(world.runner):
        batch = await world.ended(await world.order(asked("a")))
    (line,) = await world.lines(batch.error_file)
    assert line["response"]["body"]["error"]["code"] == "upstream_invalid"


async def test_a_file_that_is_wrong_fails_the_batch_and_names_the_lines() -> None:
    provider = FakeProvider()
    world = World(provider)
    async with running(world.runner):
        batch = await world.ended(await world.order(asked("a"), b"{\n", asked("a")))
    assert batch.status is S.FAILED
    assert [(each.code, each.line) for each in batch.problems] == [
        ("invalid_json_line", 2),
        ("duplicate_custom_id", 3),
    ]
    assert provider.calls == []
    assert (batch.output_file, batch.error_file) == (None, None)


async def test_a_file_that_is_gone_fails_the_batch() -> None:
    world = World(FakeProvider())
    batch_id = await world.order(asked("a"))
    world.files_kept.drop((await world.show(batch_id)).input_file)
    async with running(world.runner):
        batch = await world.ended(batch_id)
    assert batch.status is S.FAILED
    assert [type(each) for each in batch.problems] == [LineProblem]
    assert batch.problems[0].code == "file_not_found"


async def test_a_cancelled_batch_keeps_what_it_has_and_asks_nothing_more() -> None:
    provider = FakeProvider()
    world = World(provider, concurrency=2)
    async with running(world.runner):
        batch_id = await world.order(*(asked(f"c{at}", f"t{at}") for at in range(50)))
        await world.told.until(lambda: len(world.told.lines) >= 3)
        provider.gate = asyncio.Event()
        asked_so_far = len(provider.calls)
        cancelling = await world.batches.cancel("", batch_id)
        assert cancelling.status is S.CANCELLING
        batch = await world.ended(batch_id)
    assert batch.status is S.CANCELLED
    assert provider.open == 0
    assert len(provider.calls) <= asked_so_far + 2
    lines = await world.lines(batch.output_file)
    assert len(lines) == batch.completed >= 3
    assert batch.failed == 0
    with pytest.raises(ServerError) as raised:
        await world.batches.cancel("", batch_id)
    assert raised.value.kind is ErrorKind.CONFLICT


async def test_a_batch_can_be_cancelled_before_anybody_works_on_it() -> None:
    provider = FakeProvider()
    world = World(provider)
    batch_id = await world.order(asked("a"))
    await world.batches.cancel("", batch_id)
    again = await world.batches.cancel("", batch_id)
    assert again.status is S.CANCELLING
    async with running(world.runner):
        batch = await world.ended(batch_id)
    assert (batch.status, provider.calls) == (S.CANCELLED, [])


async def test_what_is_not_answered_in_its_window_expires() -> None:
    provider = FakeProvider()
    world = World(provider, concurrency=1)
    async with running(world.runner):
        batch_id = await world.order(*(asked(f"c{at}") for at in range(5)), window="1h")
        await world.told.until(lambda: len(world.told.lines) >= 2)
        provider.gate = asyncio.Event()
        world.offset_s = 3600
        world.runner.wake(batch_id)
        batch = await world.ended(batch_id)
    assert batch.status is S.EXPIRED
    assert (batch.completed + batch.failed, provider.open) == (5, 0)
    errors = await world.lines(batch.error_file)
    assert len(errors) == batch.failed >= 1
    for line in errors:
        assert line["response"] is None
        assert line["error"]["code"] == "batch_expired"
    assert set(world.told.lines) == {"completed", "expired"}


async def test_a_batch_whose_window_passed_while_nobody_ran_expires_unasked() -> None:
    provider = FakeProvider()
    world = World(provider)
    batch_id = await world.order(asked("a"), window="2h")
    world.offset_s = 7200
    async with running(world.runner):
        batch = await world.ended(batch_id)
    assert (batch.status, provider.calls) == (S.EXPIRED, [])


async def test_a_stopped_runner_gives_its_batches_back_and_the_next_one_goes_on() -> None:
    provider = FakeProvider()
    world = World(provider, concurrency=3)
    async with running(world.runner):
        batch_id = await world.order(*(asked(f"c{at}", f"t{at}") for at in range(40)))
        await world.told.until(lambda: len(world.told.lines) >= 5)
    kept = (await world.show(batch_id)).completed
    assert 5 <= kept < 40
    async with running(world.another()):
        batch = await world.ended(batch_id)
    assert (batch.status, batch.completed) == (S.COMPLETED, 40)
    assert [line["custom_id"] for line in await world.lines(batch.output_file)] == [
        f"c{at}" for at in range(40)
    ]
    assert len(provider.calls) <= 40 + 3


async def test_of_two_runners_one_works_on_a_batch() -> None:
    provider = FakeProvider()
    world = World(provider)
    async with running(world.runner), running(world.another()):
        ids = [await world.order(*(asked(f"c{at}", f"{n} {at}") for at in range(30))) for n in range(6)]
        ended = [await world.ended(each) for each in ids]
    assert {batch.completed for batch in ended} == {30}
    texts = [text_of(call) for call in provider.calls]
    assert len(texts) == len(set(texts)) == 180


async def test_whoever_loses_its_claim_stops_and_writes_nothing_more() -> None:
    provider = FakeProvider()
    world = World(provider, concurrency=2)
    async with running(world.runner):
        batch_id = await world.order(*(asked(f"c{at}", f"t{at}") for at in range(20)))
        await world.told.until(lambda: len(world.told.lines) >= 2)
        stolen = await world.batches_kept.claim("thief", world.now() + 999, world.now() + 9999)
        assert stolen is not None
        await world.told.until(lambda: world.told.at_work == 0)
        kept = len(await world.batches_kept.recorded(batch_id))
        assert (await world.show(batch_id)).status is S.IN_PROGRESS
        assert len(world.told.lines) == kept
    assert provider.open == 0
    assert await world.batches_kept.renew(batch_id, "thief", 9e9) is not None


class Flaky:
    """Stores that fail now and then, as a busy database does."""

    def __init__(self, inner: Any, fails: list[bool]) -> None:
        self._inner = inner
        self._fails = fails

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._inner, name)
        if name not in {"record", "renew", "update", "recorded", "claim", "sizes", "piece", "find"}:
            return method

        async def called(*args: Any, **kwargs: Any) -> Any:
            if self._fails and self._fails.pop():
                raise ServerError(ErrorKind.UNAVAILABLE, "busy", detail="busy")
            return await method(*args, **kwargs)

        return called


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(fails=st.lists(st.booleans(), max_size=40))
async def test_a_database_that_fails_now_and_then_costs_no_line_and_doubles_none(fails: list[bool]) -> None:
    world = World(FakeProvider())
    batch_id = await world.order(*(asked(f"c{at}", f"t{at}") for at in range(12)))
    files, batches = await world.stores()
    flaky: Any = (Flaky(files, fails), Flaky(batches, fails))

    async def stores() -> Any:
        return flaky

    world.stores = stores  # type: ignore[method-assign]  # what the next runner opens
    async with running(world.another()):
        batch: Batch = await world.ended(batch_id)
    assert (batch.status, batch.completed) == (S.COMPLETED, 12)
    assert [each["custom_id"] for each in await world.lines(batch.output_file)] == [
        f"c{at}" for at in range(12)
    ]


async def test_a_bug_while_working_fails_the_batch_instead_of_going_round(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World(FakeProvider())

    async def broken(*_: Any) -> Any:
        raise KeyError("x")

    monkeypatch.setattr(world.batches_kept, "recorded", broken)
    async with running(world.runner):
        batch = await world.ended(await world.order(asked("a")))
    assert batch.status is S.FAILED
    assert [each.code for each in batch.problems] == ["internal_error"]


async def test_old_files_and_batches_are_swept() -> None:
    world = World(FakeProvider(), retention_days=2)
    async with running(world.runner):
        batch = await world.ended(await world.order(asked("a")))
    world.offset_s = 2 * 86_400 + 1
    await world.another()._round()
    assert await world.batches.page("", None, 9) == ()
    assert await world.files_kept.used("") == 0
    with pytest.raises(ServerError):
        await world.files.show("", batch.output_file or "")


async def test_no_more_batches_run_at_once_than_configured() -> None:
    provider = FakeProvider()
    provider.gate = asyncio.Event()
    world = World(provider, max_running=2)
    async with running(world.runner):
        ids = [await world.order(asked("a")) for _ in range(5)]
        await world.told.until(lambda: world.told.at_work == 2)
        for _ in range(20):
            await asyncio.sleep(0)
        assert world.told.at_work == 2
        provider.gate.set()
        for each in ids:
            assert (await world.ended(each)).status is S.COMPLETED


@pytest.mark.parametrize("begun", [False, True])
async def test_a_queued_batch_is_cancelled_although_no_place_is_free(begun: bool) -> None:
    provider = FakeProvider()
    world = World(provider, max_running=1, concurrency=1)
    if begun:  # by another process, which has given it back
        async with running(world.another()):
            queued = await world.order(*(asked(f"c{at}", f"t{at}") for at in range(50)))
            await world.told.until(lambda: len(world.told.lines) >= 2)
        await world.batches_kept.claim("nobody", 0.0, 1e12)
    provider.gate = asyncio.Event()
    async with running(world.runner):
        provider.asked.clear()
        busy = await world.order(asked("busy"))
        await provider.asked.wait()
        if begun:
            await world.batches_kept.release(queued, "nobody")
        else:
            queued = await world.order(asked("a"))
        await world.batches.cancel("", queued)
        await world.told.until(lambda: S.CANCELLED in world.told.statuses)
        ended = await world.show(queued)
        assert ended.status is S.CANCELLED
        assert (ended.completed >= 2) == begun
        assert len(await world.lines(ended.output_file)) == ended.completed
        assert (await world.show(busy)).status is S.IN_PROGRESS
        provider.gate.set()
        assert (await world.ended(busy)).status is S.COMPLETED
