"""Every request is told of exactly once, however it ends."""

import asyncio
import time
from contextlib import suppress

import pytest

from llm_server.contract import (
    Answer,
    ChatCall,
    Chunk,
    Context,
    CountCall,
    ErrorKind,
    Facts,
    Finish,
    FinishReason,
    Image,
    Message,
    Role,
    ServerError,
    Text,
    TextDelta,
    TokenCount,
    Usage,
    fold,
)
from llm_server.pipeline import Counted, Observed, Routed
from llm_server.routing import FixedOrder, RoutingConfig
from llm_server.testing import FakeObserver, FakeProvider, collect

CALL = ChatCall(model="a/m", stream=True, messages=(Message(Role.USER, (Text("hi there"),)),))
HELLO = Chunk((TextDelta("hello"),))
END = Chunk((Finish(FinishReason.STOP), Usage(input_tokens=3, output_tokens=2)))


def observed(provider: FakeProvider) -> tuple[Observed, FakeObserver]:
    observer = FakeObserver()
    routed = Routed(FixedOrder(RoutingConfig(), {"a"}, {}), {"a": provider})
    return Observed(Counted(routed), observer), observer


def ends(observer: FakeObserver) -> list[tuple[str, str | None]]:
    return [(what, error) for what, _, error in observer.told]


async def test_a_stream_is_told_with_its_usage() -> None:
    handler, observer = observed(FakeProvider("a", lambda _: (HELLO, HELLO, END)))
    await collect(handler(CALL, Context(request_id="r")))
    assert ends(observer) == [("started", None), ("first", None), ("finished", None)]
    assert observer.usages == [Usage(input_tokens=3, output_tokens=2)]


async def test_a_whole_answer_is_told_with_its_usage() -> None:
    handler, observer = observed(FakeProvider("a"))
    whole = ChatCall(model="a/m", messages=CALL.messages)
    await collect(handler(whole, Context(request_id="r")))
    assert ends(observer) == [("started", None), ("first", None), ("finished", None)]
    assert observer.usages == [Usage(input_tokens=2, output_tokens=1)]


async def test_an_error_is_told_by_kind() -> None:
    steps: tuple[Answer | ServerError, ...] = (HELLO, ServerError(ErrorKind.UPSTREAM_TRUNCATED, "cut"))
    handler, observer = observed(FakeProvider("a", lambda _: steps))
    with pytest.raises(ServerError):
        await collect(handler(CALL, Context(request_id="r")))
    assert ends(observer)[-1] == ("finished", "upstream_truncated")


async def test_a_bug_is_told_as_internal() -> None:
    handler, observer = observed(FakeProvider("a", lambda _: 1 / 0))
    with pytest.raises(ZeroDivisionError):
        await collect(handler(CALL, Context(request_id="r")))
    assert ends(observer)[-1] == ("finished", "internal")


async def test_leaving_is_told() -> None:
    handler, observer = observed(FakeProvider("a", lambda _: (HELLO, HELLO, END)))
    answers = handler(CALL, Context(request_id="r"))
    await anext(answers)
    await answers.aclose()
    assert ends(observer)[-1] == ("finished", "client_closed")


@pytest.mark.parametrize(
    ("left", "ahead_s", "kind"),
    [(False, -1.0, "deadline"), (False, 60.0, "unavailable"), (True, -1.0, "client_closed")],
)
async def test_a_cancel_is_told_by_its_cause(left: bool, ahead_s: float, kind: str) -> None:
    provider = FakeProvider("a", lambda _: (HELLO, END))
    provider.gate = asyncio.Event()
    handler, observer = observed(provider)
    ctx = Context(request_id="r", deadline_s=time.perf_counter() + ahead_s, left=left)
    task = asyncio.create_task(collect(handler(CALL, ctx)))
    await provider.asked.wait()
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    assert ends(observer)[-1] == ("finished", kind)
    assert provider.open == 0


async def test_a_count_is_estimated_where_the_provider_cannot() -> None:
    provider = FakeProvider("a", facts=Facts(count_tokens=False))
    handler, _ = observed(provider)
    words = Message(Role.USER, (Text("word " * 400), Image(url="https://example.org/cat.png")))
    ctx = Context(request_id="r")
    (answer,) = await collect(handler(CountCall(model="a/m", messages=(words,)), ctx))
    assert isinstance(answer, TokenCount)
    assert answer.estimated
    assert 2000 <= answer.input_tokens <= 2200
    assert ctx.estimated == ["input_tokens"]
    assert provider.calls == []


async def test_a_count_is_the_providers_where_it_can() -> None:
    provider = FakeProvider("a", lambda _: (TokenCount(input_tokens=7),))
    handler, _ = observed(provider)
    (answer,) = await collect(
        handler(CountCall(model="a/m", messages=CALL.messages), Context(request_id="r"))
    )
    assert answer == TokenCount(input_tokens=7)


async def test_only_counts_are_estimated() -> None:
    handler, _ = observed(FakeProvider("a", facts=Facts(chat=False)))
    with pytest.raises(ServerError) as caught:
        await collect(handler(CALL, Context(request_id="r")))
    assert caught.value.kind is ErrorKind.UNSUPPORTED


async def test_tokens_that_nobody_was_given_are_told_too() -> None:
    handler, observer = observed(FakeProvider("a"))
    ctx = Context(request_id="r", wasted=Usage(input_tokens=100, output_tokens=10))
    chunks = await collect(handler(CALL, ctx))
    told = fold([chunk for chunk in chunks if isinstance(chunk, Chunk)]).usage
    assert observer.usages == [told + ctx.wasted]
