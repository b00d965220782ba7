"""How long an attempt, and a request, may take: the one moves on, the other ends."""

import asyncio

import pytest

from llm_server.contract import (
    Call,
    ChatCall,
    Chunk,
    Context,
    ErrorKind,
    Events,
    Finish,
    FinishReason,
    Message,
    Role,
    ServerError,
    Started,
    Text,
    TextDelta,
)
from llm_server.pipeline import Routed
from llm_server.pipeline.attempts import MAX_HELD, Timing
from llm_server.routing import FixedOrder, RoutingConfig
from llm_server.testing import FakeProvider, collect, outcome

CALL = ChatCall(model="both", stream=True, messages=(Message(Role.USER, (Text("hi"),)),))
HELLO, END = Chunk((TextDelta("hello"),)), Chunk((Finish(FinishReason.STOP),))
PING = Chunk((), b": ping\n\n")


class Stuck(FakeProvider):
    """Says something and then nothing, for ever; or pings for ever."""

    def __init__(self, name: str, *said: Chunk, pinging: bool = False) -> None:
        super().__init__(name)
        self._said = said
        self._pinging = pinging

    async def __call__(self, call: Call, ctx: Context) -> Events:
        self.calls.append(call)
        self.open += 1
        try:
            for chunk in self._said:
                yield chunk
            while self._pinging:
                yield PING
                await asyncio.sleep(0)
            await asyncio.Event().wait()
        finally:
            self.open -= 1


def stage(*providers: FakeProvider, timing: Timing | None = None, **route: object) -> Routed:
    """Return the stage in real time; its limits are so short that nobody waits."""
    alias = {"targets": [f"{each.name}/m" for each in providers], **route}
    config = RoutingConfig.model_validate({"aliases": {"both": alias}})
    by_name = {each.name: each for each in providers}
    return Routed(FixedOrder(config, set(by_name), {}), by_name, timing or Timing())


@pytest.mark.parametrize("stuck", [Stuck("a"), Stuck("a", PING), Stuck("a", pinging=True)])
async def test_an_attempt_that_comes_to_nothing_is_given_up(stuck: Stuck) -> None:
    handler = stage(stuck, FakeProvider("b", lambda _: (HELLO, END)), retry={"attempt_timeout_s": 0.05})
    assert await collect(handler(CALL, context := Context(request_id="r"))) == [HELLO, END]
    assert context.attempts[0].error is ErrorKind.UPSTREAM_TIMEOUT
    assert stuck.open == 0


@pytest.mark.parametrize("begun", [True, False])
async def test_an_answer_that_has_begun_may_take_its_time(begun: bool) -> None:
    now_s = 1000.0

    class Slow(FakeProvider):
        async def __call__(self, call: Call, ctx: Context) -> Events:
            nonlocal now_s
            yield HELLO if begun else PING
            now_s += 3600
            yield PING  # and with this the limit of time is looked at again
            for _ in range(9):
                await asyncio.sleep(0)
            yield END

    handler = stage(Slow("a"), timing=Timing(clock=lambda: now_s), retry={"attempt_timeout_s": 60})
    seen, error = await outcome(handler(CALL, Context(request_id="r")))
    assert seen == ([HELLO, PING, END] if begun else [])
    assert (error and error.kind) == (None if begun else ErrorKind.UPSTREAM_TIMEOUT)


@pytest.mark.parametrize("said", [(), (HELLO,)])
async def test_a_request_whose_time_is_over_ends_whatever_it_has_told(
    said: tuple[Chunk, ...],
) -> None:
    stuck, spare = Stuck("a", *said), FakeProvider("b", lambda _: (HELLO, END))
    handler = stage(stuck, spare, timeout_s=0.05)
    seen, error = await outcome(handler(CALL, context := Context(request_id="r")))
    assert error is not None
    assert (error.kind, seen) == (ErrorKind.DEADLINE, list(said))
    assert (stuck.open, spare.calls, context.attempts[-1].error) == (0, [], ErrorKind.DEADLINE)


async def test_a_flood_without_content_is_no_answer() -> None:
    flood = FakeProvider("a", lambda _: (PING for _ in range(MAX_HELD + 1)))
    handler = stage(flood, FakeProvider("b", lambda _: (HELLO, END)))
    assert await collect(handler(CALL, context := Context(request_id="r"))) == [HELLO, END]
    assert context.attempts[0].error is ErrorKind.UPSTREAM_INVALID


async def test_what_was_lost_at_one_target_is_not_told_of_another() -> None:
    class Losing(FakeProvider):
        async def __call__(self, call: Call, ctx: Context) -> Events:
            ctx.dropped.append(self.name)
            async for answer in super().__call__(call, ctx):
                yield answer

    a = Losing("a", lambda _: (Chunk((Started(id="1"),)), ServerError(ErrorKind.UPSTREAM_ERROR, "no")))
    handler = stage(a, Losing("b", lambda _: (HELLO, END)))
    await collect(handler(CALL, context := Context(request_id="r")))
    assert context.dropped == ["b"]
