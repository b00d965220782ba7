"""Batches that a provider runs: every way in which it, or this server, can fail on the way."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, Iterator
from typing import Any

import msgspec
import pytest

from llm_server.batching.offline import Remote
from llm_server.batching.offline.job import Job, LostError
from llm_server.batching.offline.lines import Checking, Lines
from llm_server.contract import (
    BatchStatus,
    Call,
    ChatCall,
    Choice,
    Completion,
    ErrorKind,
    ServerError,
    Text,
    UpstreamBatch,
    UpstreamNote,
    Usage,
)
from llm_server.testing import FakeProvider
from tests.batching.offline.world import CHAT, World, asked, running, text_of

S = BatchStatus


class Answered:
    """What the fake answers to one call: its text, or the refusal of ``bad``."""

    def __init__(self, text: str) -> None:
        self._text = text

    def decoded(self, call: Call) -> Completion:
        assert text_of(call) == self._text
        if self._text == "bad":
            raise ServerError(ErrorKind.CONTENT_REJECTED, "bad")
        parts = (Text(f"said: {self._text}"),)
        return Completion(choices=(Choice(parts=parts),), usage=Usage(input_tokens=1, output_tokens=1))


class FakeClient:
    """A batch API in memory that does as it is told.

    Attributes:
        troubles: errors that the next requests end in, by the method's name.
        ended: set to let the batch end.
        silent: texts that are never answered.
    """

    def __init__(self) -> None:
        self.troubles: dict[str, list[ServerError]] = {}
        self.calls: list[str] = []
        self.lines: dict[str, str] = {}
        self.tags: list[str] = []
        self.ended = asyncio.Event()
        self.something = asyncio.Event()
        self.cancelled = False
        self.open = 0
        """How many results are being read."""
        self.hangs = False
        """Whether the deletion of files never comes to an end."""
        self.files: dict[str, ServerError | None] = {"in": None, "out": None}
        """What is kept at the provider, and what keeps it from being deleted."""
        self.silent: set[str] = set()
        self.message = ""
        self.lost = False
        """Whether the answer to the making of a batch is lost on its way, once."""

    async def submit(self, model: str, lines: AsyncIterable[tuple[str, Call]], tag: str) -> UpstreamBatch:
        assert model == "m"
        taken = {key: text_of(call) async for key, call in lines}
        self._called("submit")
        self.lines = taken
        self.tags.append(tag)
        if self.lost:
            self.lost = False
            raise ServerError(ErrorKind.UPSTREAM_TRUNCATED, "lost")
        return self._told()

    def refusal(self, model: str, call: Call) -> ServerError | None:
        assert isinstance(call, ChatCall)
        odd = text_of(call) == "unsayable"
        return ServerError(ErrorKind.UNSUPPORTED, "cannot be said") if odd else None

    async def find(self, tag: str) -> UpstreamBatch | None:
        self._called("find")
        return self._told() if tag in self.tags else None

    async def show(self, batch_id: str) -> UpstreamBatch:
        assert batch_id == "u1"
        self._called("show")
        return self._told()

    async def cancel(self, batch_id: str) -> None:
        self._called("cancel")
        self.cancelled = True
        self.ended.set()

    async def results(self, batch_id: str) -> AsyncGenerator[tuple[str, Answered], None]:
        self._called("results")
        if "out" not in self.files:
            raise ServerError(ErrorKind.NOT_FOUND, "no such file")
        self.open += 1
        try:
            for answered in self._answers():
                yield answered
        finally:
            self.open -= 1

    def _answers(self) -> Iterator[tuple[str, Answered]]:
        for key, text in reversed(self.lines.items()):
            if self.troubles.get("result"):
                raise self.troubles["result"].pop()
            if text not in self.silent:
                yield key, Answered(text)
        yield "line-999", Answered("of another batch")
        yield "odd key", Answered("odd")

    async def clear(self, batch_id: str) -> AsyncGenerator[ServerError | None, None]:
        assert batch_id == "u1"
        self._called("clear")
        for name, trouble in list(self.files.items()):
            if trouble is None:
                del self.files[name]
            yield trouble
            if self.hangs:
                await asyncio.Event().wait()

    async def until(self, name: str, count: int) -> None:
        """Wait until a method was called so often."""
        while self.calls.count(name) < count:
            self.something.clear()
            await self.something.wait()

    def _called(self, name: str) -> None:
        self.calls.append(name)
        self.something.set()
        if self.troubles.get(name):
            raise self.troubles[name].pop(0)

    def _told(self) -> UpstreamBatch:
        done = len(self.lines) if self.ended.is_set() else 0
        return UpstreamBatch(id="u1", ended=self.ended.is_set(), completed=done, message=self.message)


def world_of(client: FakeClient, **config: Any) -> World:
    return World(FakeProvider(), {"fake": client}, **config)


async def begin(world: World, *texts: str, **more: Any) -> str:
    lines = (asked(f"c{at}", text) for at, text in enumerate(texts))
    return await world.order(*lines, provider_batch=True, **more)


def ids(lines: list[Any]) -> list[str]:
    return [line["custom_id"] for line in lines]


@pytest.fixture(autouse=True)
def _no_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llm_server.batching.offline.remote.LONGEST_WAIT_S", 0.0)


async def test_answers_come_back_in_the_order_of_the_lines() -> None:
    client = FakeClient()
    client.ended.set()
    world = world_of(client)
    async with running(world.runner):
        batch = await world.ended(await begin(world, "a", "bad", "b", "unsayable", "c"))
    assert (batch.status, batch.completed, batch.failed) == (S.COMPLETED, 3, 2)
    assert batch.usage == Usage(input_tokens=3, output_tokens=3)
    assert ids(await world.lines(batch.output_file)) == ["c0", "c2", "c4"]
    assert ids(await world.lines(batch.error_file)) == ["c1", "c3"]
    assert list(client.lines) == ["line-1", "line-2", "line-3", "line-5"]
    assert client.tags == [batch.id]
    assert world.told.lines.count("completed") == 3


async def test_nothing_is_sent_when_no_line_can_be() -> None:
    client = FakeClient()
    world = world_of(client)
    async with running(world.runner):
        batch = await world.ended(await begin(world, "unsayable", "unsayable"))
    assert (batch.status, batch.failed, client.calls) == (S.COMPLETED, 2, [])


async def test_progress_is_the_providers_while_it_works() -> None:
    client = FakeClient()
    world = world_of(client)
    async with running(world.runner):
        batch_id = await begin(world, "a", "b")
        await client.until("show", 3)
        waiting = await world.show(batch_id)
        assert waiting.status is S.IN_PROGRESS
        assert waiting.upstream is not None
        assert (waiting.upstream.provider, waiting.upstream.model, waiting.upstream.sent) == (
            "fake",
            "m",
            True,
        )
        client.ended.set()
        batch = await world.ended(batch_id)
    assert batch.upstream is not None
    assert batch.upstream.batch == UpstreamBatch(id="u1", ended=True, completed=2)


@pytest.mark.parametrize("where", ["submit", "show", "results", "result"])
@pytest.mark.parametrize(
    "kind", [ErrorKind.UPSTREAM_RATE_LIMITED, ErrorKind.UPSTREAM_ERROR, ErrorKind.UPSTREAM_UNREACHABLE]
)
async def test_a_provider_that_is_busy_or_fails_is_asked_again(where: str, kind: ErrorKind) -> None:
    client = FakeClient()
    client.ended.set()
    client.troubles[where] = [ServerError(kind, "later", retry_after_s=0.0) for _ in range(4)]
    world = world_of(client)
    async with running(world.runner):
        batch = await world.ended(await begin(world, "a", "b", "c"))
    assert (batch.status, batch.completed) == (S.COMPLETED, 3)
    assert len(client.tags) == 1


@pytest.mark.parametrize("where", ["submit", "show", "results"])
async def test_a_provider_that_refuses_fails_the_batch(where: str) -> None:
    client = FakeClient()
    if where == "results":
        client.ended.set()
    client.troubles[where] = [ServerError(ErrorKind.UNSUPPORTED, "too many requests")]
    world = world_of(client)
    async with running(world.runner):
        batch = await world.ended(await begin(world, "a", "unsayable"))
    assert batch.status is S.FAILED
    assert [(each.code, each.message) for each in batch.problems] == [
        ("provider_refused", "too many requests")
    ]
    assert ids(await world.lines(batch.error_file)) == ["c1"], "what is known of single lines is kept"


async def test_a_batch_whose_making_was_not_confirmed_is_looked_for_before_another_is_made() -> None:
    client = FakeClient()
    client.ended.set()
    client.lost = True
    world = world_of(client)
    async with running(world.runner):
        batch = await world.ended(await begin(world, "a"))
    assert batch.status is S.COMPLETED
    assert client.calls[:2] == ["submit", "find"]
    assert len(client.tags) == 1


async def test_a_server_that_died_while_handing_over_looks_for_the_batch() -> None:
    client = FakeClient()
    world = world_of(client)
    client.troubles["submit"] = [ServerError(ErrorKind.UPSTREAM_ERROR, "x") for _ in range(1000)]
    async with running(world.runner):
        batch_id = await begin(world, "a")
        await client.until("find", 1)
    client.troubles.clear()
    client.tags.append(batch_id)
    client.lines = {"line-1": "a"}
    client.ended.set()
    client.calls.clear()
    async with running(world.another()):
        batch = await world.ended(batch_id)
    assert (batch.status, batch.completed) == (S.COMPLETED, 1)
    assert "submit" not in client.calls


async def test_a_batch_at_a_provider_goes_on_after_a_restart() -> None:
    client = FakeClient()
    world = world_of(client)
    async with running(world.runner):
        batch_id = await begin(world, "a", "b")
        await client.until("show", 2)
    assert not client.cancelled, "a server that stops gives nothing up"
    client.ended.set()
    async with running(world.another()):
        batch = await world.ended(batch_id)
    assert (batch.status, batch.completed, client.calls.count("submit")) == (S.COMPLETED, 2, 1)


async def test_cancelling_is_passed_on_and_what_is_answered_is_kept() -> None:
    client = FakeClient()
    client.silent = {"b"}
    world = world_of(client)
    async with running(world.runner):
        batch_id = await begin(world, "a", "b")
        await client.until("show", 2)
        await world.batches.cancel("", batch_id)
        batch = await world.ended(batch_id)
    assert (batch.status, client.cancelled) == (S.CANCELLED, True)
    assert ids(await world.lines(batch.output_file)) == ["c0"]
    assert batch.error_file is None


async def test_a_batch_that_was_never_sent_is_cancelled_without_a_word() -> None:
    client = FakeClient()
    world = world_of(client)
    batch_id = await begin(world, "a")
    await world.batches.cancel("", batch_id)
    async with running(world.runner):
        assert (await world.ended(batch_id)).status is S.CANCELLED
    assert client.calls == []


async def test_at_the_end_of_its_window_it_is_given_up_and_the_rest_expires() -> None:
    client = FakeClient()
    client.silent = {"b", "c"}
    world = world_of(client)
    async with running(world.runner):
        batch_id = await begin(world, "a", "b", "c", window="1h")
        await client.until("show", 2)
        world.offset_s = 3600
        world.runner.wake(batch_id)
        batch = await world.ended(batch_id)
    assert (batch.status, client.cancelled) == (S.EXPIRED, True)
    assert ids(await world.lines(batch.output_file)) == ["c0"]
    late = await world.lines(batch.error_file)
    assert [(each["custom_id"], each["error"]["code"]) for each in late] == [
        ("c1", "batch_expired"),
        ("c2", "batch_expired"),
    ]


async def test_lines_without_an_answer_fail_when_the_batch_has_ended() -> None:
    client = FakeClient()
    client.silent = {"b"}
    client.ended.set()
    world = world_of(client)
    async with running(world.runner):
        batch = await world.ended(await begin(world, "a", "b"))
    assert batch.status is S.COMPLETED
    (line,) = await world.lines(batch.error_file)
    assert (line["custom_id"], line["error"]["code"]) == ("c1", "no_answer")


async def test_a_batch_that_failed_at_the_provider_says_why() -> None:
    client = FakeClient()
    client.ended.set()
    client.message = "no credit"
    client.silent = {"a"}
    world = world_of(client)
    async with running(world.runner):
        batch = await world.ended(await begin(world, "a"))
    assert batch.status is S.FAILED
    assert batch.problems[0].message == "no credit"


async def test_a_provider_that_is_no_longer_configured_fails_the_batch() -> None:
    client = FakeClient()
    world = world_of(client)
    batch_id = await begin(world, "a")
    world._clients = {}
    async with running(world.another()):
        batch = await world.ended(batch_id)
    assert batch.status is S.FAILED
    assert "no longer configured" in batch.problems[0].message


async def test_the_results_are_closed_when_they_cannot_be_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llm_server.batching.offline.remote.GROUP", 1)
    client = FakeClient()
    client.lines = {"line-1": "a", "line-2": "b"}
    world = world_of(client)
    await begin(world, "a", "b")
    batch = await world.batches_kept.claim("me", world.now(), world.now() + 99)
    assert batch is not None
    note = UpstreamNote(provider="fake", model="m", sent=True, batch=UpstreamBatch(id="u1", ended=True))
    batch = msgspec.structs.replace(batch, upstream=note)
    lines = Lines(world.files_kept, batch.input_file, batch.endpoint)
    job = Job(batch, "somebody else", world.batches_kept, lines, (world.told, world.now))
    file = await world.files.show("", batch.input_file)
    job.checked = await Checking(CHAT, 9, 9999)(world.files_kept.content(file))
    with pytest.raises(LostError):
        await Remote({"fake": client}, world.asking, 1.0)._collected(job)
    assert (client.calls, client.open) == (["results"], 0)
    assert not job.collected


async def test_batches_that_providers_run_take_no_place_of_those_that_run_here() -> None:
    client = FakeClient()
    world = world_of(client, max_running=1)
    async with running(world.runner):
        for _ in range(3):
            await begin(world, "a")
        await client.until("show", 3)
        batch_id = await world.order(asked("b"))
        await world.told.until(lambda: world.told.lines.count("completed") == 1)
        assert (await world.show(batch_id)).completed == 1


@pytest.mark.parametrize("end", ["completed", "failed", "cancelled", "expired"])
async def test_nothing_stays_at_the_provider_whatever_the_end(end: str) -> None:
    client = FakeClient()
    client.message = "no credit" if end == "failed" else ""
    client.silent = {"a"} if end == "failed" else set()
    world = world_of(client)
    async with running(world.runner):
        batch_id = await begin(world, "a", window="1h")
        await client.until("show", 2)
        if end == "cancelled":
            await world.batches.cancel("", batch_id)
        elif end == "expired":
            world.offset_s = 3600
            world.runner.wake(batch_id)
        else:
            client.ended.set()
        batch = await world.ended(batch_id)
    assert batch.status == end
    assert len(await world.lines(batch.output_file)) == (end != "failed")
    assert client.files == {}
    assert client.calls[-2:] == ["results", "clear"], "only what is kept here is deleted there"
    assert world.told.files == [("fake", True), ("fake", True)]


async def test_a_file_that_cannot_be_deleted_costs_the_batch_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    client = FakeClient()
    client.ended.set()
    client.files["in"] = ServerError(ErrorKind.UPSTREAM_ERROR, "not today")
    world = world_of(client)
    async with running(world.runner):
        batch = await world.ended(await begin(world, "a"))
    assert (batch.status, batch.completed) == (S.COMPLETED, 1)
    assert list(client.files) == ["in"]
    assert world.told.files == [("fake", False), ("fake", True)]
    assert f"a file of batch {batch.id} stays at provider fake: upstream_error: not today" in caplog.text


@pytest.mark.parametrize("trouble", [ErrorKind.UPSTREAM_UNREACHABLE, ErrorKind.UPSTREAM_AUTH, None])
async def test_a_provider_that_does_not_tell_its_files_ends_no_batch_otherwise(
    trouble: ErrorKind | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = FakeClient()
    client.ended.set()
    if trouble is None:
        client.hangs = True
        monkeypatch.setattr("llm_server.batching.offline.remote.CLEARING_S", 0.0)
    else:
        client.troubles["clear"] = [ServerError(trouble, "no")]
    world = world_of(client)
    async with running(world.runner):
        batch = await world.ended(await begin(world, "a"))
    assert (batch.status, batch.completed) == (S.COMPLETED, 1)
    assert world.told.files[-1:] == [("fake", False)]


async def test_answers_that_could_not_be_fetched_stay_at_the_provider() -> None:
    client = FakeClient()
    client.ended.set()
    client.troubles["results"] = [ServerError(ErrorKind.UPSTREAM_AUTH, "the key was changed")]
    world = world_of(client)
    async with running(world.runner):
        batch = await world.ended(await begin(world, "a"))
    assert batch.status is S.FAILED
    assert client.files.keys() == {"in", "out"}
    assert "clear" not in client.calls


async def test_a_server_that_died_while_it_deleted_goes_on_with_that() -> None:
    client = FakeClient()
    client.ended.set()
    client.hangs = True
    world = world_of(client)
    async with running(world.runner):
        batch_id = await begin(world, "a")
        await world.told.until(lambda: world.told.files == [("fake", True)])
        assert (await world.show(batch_id)).status is S.FINALIZING
    client.hangs = False
    async with running(world.another()):
        batch = await world.ended(batch_id)
    assert (batch.status, batch.completed, client.files) == (S.COMPLETED, 1, {})


async def test_a_line_with_another_model_is_named() -> None:
    client = FakeClient()
    world = world_of(client)
    lines = [asked("one"), asked("two", model="fake/other"), asked("three"), asked("four", model="alias")]
    async with running(world.runner):
        batch = await world.ended(await world.order(*lines, provider_batch=True))
    assert (batch.status, client.calls) == (S.FAILED, [])
    told = [(each.code, each.line, each.param) for each in batch.problems]
    assert told == [("mismatched_model", 2, "body.model"), ("mismatched_model", 4, "body.model")]
    for problem, custom_id, model in zip(
        batch.problems, ("two", "four"), ("fake/other", "alias"), strict=True
    ):
        assert f"'{custom_id}' names '{model}'" in problem.message
        assert "'fake/m'" in problem.message
