"""The commit point: a failure before the first content moves on unseen, one after it is the caller's."""

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_server.contract import (
    Answer,
    Call,
    ChatCall,
    Chunk,
    Context,
    ErrorKind,
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
from llm_server.testing import FakeProvider, collect, outcome
from tests.pipeline.routes import routing

STARTED = Chunk((Started(id="1"),))
PING = Chunk((), b": ping\n\n")
HELLO = Chunk((TextDelta("hello"),))
END = Chunk((Finish(FinishReason.STOP),))
PATHS = st.sampled_from(["ok", "early", "late", "silent"])


def call(stream: bool = True) -> ChatCall:
    return ChatCall(model="both", stream=stream, messages=(Message(Role.USER, (Text("hi"),)),))


def failure(kind: ErrorKind = ErrorKind.UPSTREAM_OVERLOADED) -> ServerError:
    return ServerError(kind, "no")


def scripted(name: str, *steps: Answer | ServerError) -> FakeProvider:
    return FakeProvider(name, lambda _: steps)


def routed(*providers: FakeProvider) -> Routed:
    """Return the stage over one route, with one call for each target: what comes round again is elsewhere."""
    return routing(providers, attempts=len(providers))[0]


def told(steps: Iterable[Answer]) -> list[object]:
    return [event for step in steps if isinstance(step, Chunk) for event in step.events]


async def test_a_failure_before_content_moves_on_and_leaves_no_trace() -> None:
    first, second = scripted("a", STARTED, PING, failure()), scripted("b", STARTED, HELLO, END)
    ctx = Context(request_id="r")
    answers = await collect(routed(first, second)(call(), ctx))
    assert answers == [STARTED, HELLO, END]
    assert [(a.provider, a.error) for a in ctx.attempts] == [
        ("a", ErrorKind.UPSTREAM_OVERLOADED),
        ("b", None),
    ]


async def test_a_failure_after_content_is_raised_and_nothing_else_is_tried() -> None:
    first, second = scripted("a", STARTED, HELLO, failure()), scripted("b", HELLO, END)
    seen, error = await outcome(routed(first, second)(call(), Context(request_id="r")))
    assert error is not None
    assert seen == [STARTED, HELLO]
    assert second.calls == []


@pytest.mark.parametrize("kind", list(ErrorKind))
async def test_only_retryable_kinds_move_on(kind: ErrorKind) -> None:
    second = scripted("b", HELLO, END)
    handler = routed(scripted("a", failure(kind)), second)
    if kind.retryable:
        assert await collect(handler(call(), Context(request_id="r"))) == [HELLO, END]
    else:
        with pytest.raises(ServerError) as caught:
            await collect(handler(call(), Context(request_id="r")))
        assert caught.value.kind is kind
    assert len(second.calls) == int(kind.retryable)


async def test_the_last_failure_is_the_callers() -> None:
    handler = routed(scripted("a", failure()), scripted("b", failure(ErrorKind.UPSTREAM_TIMEOUT)))
    with pytest.raises(ServerError) as caught:
        await collect(handler(call(), Context(request_id="r")))
    assert (caught.value.kind, caught.value.provider) == (ErrorKind.UPSTREAM_TIMEOUT, "b")
    assert caught.value.message == "no None of the 2 targets tried could answer; this was the last."
    assert caught.value.message in str(caught.value)


@pytest.mark.parametrize("kind", [ErrorKind.INVALID_REQUEST, ErrorKind.UPSTREAM_ERROR])
async def test_one_target_alone_or_the_callers_fault_is_not_summed_up(kind: ErrorKind) -> None:
    targets = [scripted("a", failure())] * (not kind.retryable)
    with pytest.raises(ServerError) as caught:
        await collect(routed(*targets, scripted("b", failure(kind)))(call(), Context(request_id="r")))
    assert caught.value.message == "no"


async def test_the_callers_bytes_survive_being_addressed() -> None:
    provider = FakeProvider("a")
    asked = ChatCall(model="both", raw=b"{}", messages=call().messages)
    await collect(routed(provider)(asked, Context(request_id="r")))
    assert (provider.calls[0].model, provider.calls[0].raw) == ("m", b"{}")


async def test_leaving_closes_the_provider() -> None:
    provider = scripted("a", STARTED, HELLO, HELLO, END)
    ctx = Context(request_id="r")
    answers = routed(provider)(call(), ctx)
    await anext(answers)
    assert provider.open == 1
    await answers.aclose()
    assert provider.open == 0
    assert ctx.attempts[0].error is ErrorKind.CLIENT_CLOSED


@given(st.lists(PATHS, min_size=1, max_size=5))
async def test_whatever_fails_the_caller_sees_one_answer_or_one_error(paths: list[str]) -> None:
    scripts: dict[str, tuple[Answer | ServerError, ...]] = {
        "ok": (STARTED, HELLO, END),
        "early": (STARTED, failure()),
        "late": (STARTED, HELLO, failure()),
        "silent": (STARTED, END),
    }
    providers = [scripted(f"p{at}", *scripts[path]) for at, path in enumerate(paths)]
    seen, error = await outcome(routed(*providers)(call(), Context(request_id="r")))
    deciding = next((path for path in paths if path != "early"), "early")
    expected = [step for step in scripts[deciding] if not isinstance(step, ServerError)]
    assert told(seen) == ([] if deciding == "early" else told(expected))
    assert (error is not None) == (deciding in ("early", "late"))
    tried = paths.index(deciding) + 1 if deciding in paths and deciding != "early" else len(paths)
    assert [len(provider.calls) for provider in providers] == [1] * tried + [0] * (len(paths) - tried)


async def test_a_whole_answer_is_content() -> None:
    def answer(asked: Call) -> Iterable[Answer | ServerError]:
        yield from ()
        raise AssertionError("never asked")

    first, second = FakeProvider("a"), FakeProvider("b", answer)
    answers = await collect(routed(first, second)(call(stream=False), Context(request_id="r")))
    assert len(answers) == 1
    assert second.calls == []
