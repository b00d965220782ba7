"""The short way's end: what raises, who leaves, and what is left behind."""

import asyncio
import gc
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from llm_server.api.config import ApiConfig
from llm_server.api.lane import Lane
from llm_server.api.server import Server
from llm_server.api.short import Awaited
from llm_server.contract import (
    Answer,
    Begun,
    Call,
    Completion,
    Context,
    Events,
    ServerError,
    Taker,
)
from llm_server.telemetry.observers import Observers
from llm_server.testing import FakeObserver, FakeProvider, echo
from llm_server.wire.codec import Endpoint
from tests.api.conftest import build
from tests.api.memory import VARYING, Memory, opened, settled
from tests.api.test_heads import ask, request
from tests.pool.peers import LOOPS

STREAMED = ask("one two three")[:-1] + b', "stream": true}'


class Short(FakeProvider):
    """A provider with a short way: the test gives each answer, or lets it turn.

    Attributes:
        takers: of the calls that went the short way and are not answered.
        left: how many ordinary ways were gone on with and left, in any way.
    """

    def __init__(self) -> None:
        super().__init__()
        self.takers: list[Taker] = []
        self.answers: list[list[Answer]] = []
        self.left = 0
        self.hangs = False

    def begin(self, call: Call, ctx: Context, taker: Taker) -> Begun | None:
        """Begin; nothing comes before the test gives it."""
        given = [answer for answer in echo(call) if not isinstance(answer, ServerError)]
        self.takers.append(taker)
        self.answers.append(given)
        return _Rest(self, given)

    def give(self, count: int = 1) -> None:
        """Give the next answers of the latest call; the end, if there are no more."""
        taker, answers = self.takers[-1], self.answers[-1]
        for _ in range(count):
            if answers:
                answer = answers.pop(0)
                taker.take(answer)
                if isinstance(answer, Completion):
                    self.takers.pop()
                    return
            else:
                self.takers.pop().end()
                return


class _Rest:
    def __init__(self, short: Short, answers: list[Answer]) -> None:
        self._short = short
        self._answers = answers

    async def rest(self) -> Events:
        """Give what is left, or wait for ever."""
        try:
            if self._short.hangs:
                await asyncio.Event().wait()
            for answer in self._answers:
                yield answer
        finally:
            self._short.left += 1


@pytest.fixture(params=LOOPS)
def runner(request: pytest.FixtureRequest) -> Iterator[asyncio.Runner]:
    """Both event loops."""
    with asyncio.Runner(loop_factory=LOOPS[request.param]) as running:
        yield running


class World:
    """One connection to a server over one provider with a short way."""

    def __init__(self) -> None:
        self.provider, self.observer = Short(), FakeObserver()
        guarded = Observers((self.observer,), lambda _: None)  # as in every server: none may raise
        self.app: Server = build(self.provider, guarded, ApiConfig(keepalive_s=0.02))
        self.lane: Lane
        self.transport: Memory

    async def asked(self, body: bytes, *lines: bytes) -> None:
        """Open a connection and ask."""
        self.lane, self.transport = opened(self.app)
        self.lane.data_received(request(*lines, b"content-length: %d", body=body))

    async def done(self) -> bytes:
        """Return what was written when all has happened, without what varies."""
        await settled(self.lane)
        written = VARYING.sub(b"-", bytes(self.transport.written))
        if not self.transport.is_closing():
            self.transport.lose()
        await settled(self.lane)
        assert not self.lane.tasks
        return written

    def ends(self) -> list[str | None]:
        """Return with what the observer was told that requests finished."""
        return [kind for what, _, kind in self.observer.told if what == "finished"]


def both(runner: asyncio.Runner, body: bytes, turns_after: int | None) -> tuple[bytes, list[Any]]:
    """Return what is written, and what the observer hears, if the short way turns after so many answers."""

    async def run() -> tuple[bytes, list[Any]]:
        world = World()
        await world.asked(body)
        if turns_after is None:
            world.provider.give(100)
        else:
            world.provider.give(turns_after) if turns_after else None
            world.provider.takers[-1].turn()
        return await world.done(), [(what, kind) for what, _, kind in world.observer.told]

    return runner.run(run())


def test_wherever_it_turns_a_stream_is_the_same(runner: asyncio.Runner) -> None:
    """No frame twice, none lost, the observer told once; how it is cut into chunks may differ."""
    expected = both(runner, STREAMED, None)
    assert expected[0].endswith(b"0\r\n\r\n")
    for after in range(len(list(echo_of(STREAMED))) + 1):
        assert both(runner, STREAMED, after) == expected, after
    assert both(runner, ask("whole"), 0) == both(runner, ask("whole"), None)


def echo_of(body: bytes) -> Iterator[Answer]:
    """Yield what the provider answers."""
    from llm_server.wire import OPENAI_CHAT

    yield from (
        answer for answer in echo(OPENAI_CHAT.decode(body, {})) if not isinstance(answer, ServerError)
    )


class BrokenError(Exception):
    """A bug."""


def broken(*_: object) -> Any:
    """Raise it."""
    raise BrokenError


@pytest.mark.parametrize("body", [ask("a"), STREAMED], ids=["whole", "stream"])
@pytest.mark.parametrize("when", ["started", "first_content", "finished"])
def test_an_observer_that_raises_costs_no_answer(runner: asyncio.Runner, body: bytes, when: str) -> None:
    async def run() -> None:
        world = World()
        setattr(world.observer, when, broken)
        await world.asked(body)
        world.provider.give(100)
        written = await world.done()
        assert written.count(b"HTTP/1.1 200") == 1
        assert b"error" not in written

    runner.run(run())


def test_a_codec_that_cannot_write_a_whole_answer_is_told_by_a_whole_error(
    runner: asyncio.Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run() -> None:
        world = World()
        monkeypatch.setattr(Endpoint, "whole", broken)
        await world.asked(ask("a"))
        world.provider.give()
        written = await world.done()
        assert written.count(b"HTTP/1.1 500") == written.count(b"HTTP/1.1") == 1
        assert b"Internal error" in written
        assert world.ends() == [None]  # as by the ordinary way: it was answered, and could not be written

    runner.run(run())


def test_an_encoder_that_cannot_end_is_told_in_band(
    runner: asyncio.Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run() -> None:
        world = World()
        made: Callable[..., Any] = Endpoint.encoder

        def encoder(it: Any, call: Any) -> Any:
            encoder = made(it, call)

            class Odd:
                encode, error, end = encoder.encode, encoder.error, staticmethod(broken)

            return Odd()

        monkeypatch.setattr(Endpoint, "encoder", encoder)
        await world.asked(STREAMED)
        world.provider.give(100)
        written = await world.done()
        assert written.count(b"HTTP/1.1 200") == 1
        assert b"Internal error" in written
        assert written.endswith(b"0\r\n\r\n")

    runner.run(run())


MOMENTS = {"before the head": 0, "after a frame": 1, "after three": 3}


@pytest.mark.parametrize("given", MOMENTS.values(), ids=list(MOMENTS))
@pytest.mark.parametrize("turned", [False, True])
def test_who_leaves_is_noted_once_and_everything_is_left(
    runner: asyncio.Runner, given: int, turned: bool
) -> None:
    """Also in the turn of the loop in which the ordinary way has not gone its first step."""

    async def run() -> None:
        world = World()
        world.provider.hangs = True
        await world.asked(STREAMED)
        world.provider.give(given) if given else None
        if turned:
            world.provider.takers[-1].turn()
        world.lane.connection_lost(None)
        await settled(world.lane)
        assert world.ends() == ["client_closed"]
        assert world.provider.left == 1
        assert not world.lane.tasks

    runner.run(run())


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("body", [ask("a"), STREAMED], ids=["whole", "stream"])
def test_who_is_late_is_told_so(runner: asyncio.Runner, body: bytes, turned: bool) -> None:
    async def run() -> None:
        world = World()
        world.provider.hangs = True
        await world.asked(body, b"x-llm-server-timeout: 1ms")
        if turned:
            world.provider.takers[-1].turn()
        while time.perf_counter() < world.lane.answer_by_s():
            pass  # the loop is busy, and both timers come at once
        world.lane.expired()
        written = await world.done()
        assert written.count(b"HTTP/1.1 504") == 1
        assert (world.ends(), world.provider.left) == (["deadline"], 1)

    runner.run(run())


def test_the_end_of_the_server_is_heard_on_the_ordinary_way(runner: asyncio.Runner) -> None:
    async def run() -> None:
        world = World()
        world.provider.hangs = True
        await world.asked(STREAMED)
        world.provider.give(2)
        world.lane.shutdown()
        await settled(world.lane)
        for task in tuple(world.lane.tasks):
            task.cancel()
        written = await world.done()
        assert b"shutting down" in written
        assert (world.ends(), world.provider.left) == (["unavailable"], 1)

    runner.run(run())


def test_who_does_not_read_is_waited_for(runner: asyncio.Runner) -> None:
    async def run() -> None:
        world = World()
        await world.asked(STREAMED)
        world.transport.full = True
        world.provider.give(2)
        before = len(world.transport.written)
        await settled(world.lane)
        assert len(world.transport.written) == before  # the rest waits
        world.lane.resume_writing()
        assert await world.done() == both_written

    both_written = both(runner, STREAMED, None)[0]
    runner.run(run())


def test_silence_is_broken_until_the_end(runner: asyncio.Runner) -> None:
    async def run() -> None:
        world = World()
        await world.asked(STREAMED)
        quiet = len(world.transport.written)
        while len(world.transport.written) <= quiet:  # noqa: ASYNC110 - nobody tells of what is written
            await asyncio.sleep(0.005)
        assert b"HTTP/1.1 200" in world.transport.written
        world.provider.give(100)
        written = await world.done()
        assert written.endswith(b"0\r\n\r\n")
        length = len(world.transport.written)
        await asyncio.sleep(0.06)
        assert len(world.transport.written) == length

    runner.run(run())


async def test_who_is_cancelled_when_the_answer_is_there_has_it_once() -> None:
    """The short way has given it, and there is nothing left to go on with."""
    awaited, given = Awaited(), Completion()

    class Never:
        def rest(self) -> Events:
            raise AssertionError("it is over")

    taken: list[Answer] = []

    async def wait() -> None:
        async for answer in awaited.answers(Never()):
            taken.append(answer)  # noqa: PERF401 - the task ends cancelled, and returns nothing

    task = asyncio.create_task(wait())
    await asyncio.sleep(0)
    awaited.take(given)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert taken == [given]


@pytest.mark.parametrize("kind", ["whole", "stream", "turned"])
def test_nothing_is_left_for_the_collector(runner: asyncio.Runner, kind: str) -> None:
    async def run() -> int:
        world = World()
        world.lane, world.transport = opened(world.app)
        one = request(b"content-length: %d", body=ask("a") if kind == "whole" else STREAMED)

        async def once() -> None:
            world.lane.data_received(one)
            if kind == "turned":
                world.provider.give(2)
                world.provider.takers.pop().turn()
            else:
                world.provider.give(100)
            await settled(world.lane)
            world.provider.answers.clear()

        for _ in range(5):
            await once()
        gc.collect()
        gc.disable()
        try:
            for _ in range(20):
                await once()
            return gc.collect()
        finally:
            gc.enable()
            world.transport.lose()
            await settled(world.lane)

    assert runner.run(run()) == 0
