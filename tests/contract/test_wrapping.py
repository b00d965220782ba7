"""A provider around a provider passes everything on."""

import pytest

from llm_server.contract import (
    Call,
    ChatCall,
    Context,
    ErrorKind,
    Events,
    Message,
    ModelInfo,
    Provider,
    Role,
    ServerError,
    State,
    Text,
    Wrapped,
)
from llm_server.testing import FakeProvider, collect


class Closable(FakeProvider):
    """Tells whether it was closed."""

    closed = False

    async def close(self) -> None:
        self.closed = True


def call() -> ChatCall:
    return ChatCall(model="echo", messages=(Message(Role.USER, (Text("one two"),)),))


async def test_whatever_is_asked_the_inner_provider_answers() -> None:
    inner = Closable("inner")
    wrapped = Wrapped(inner)
    assert isinstance(wrapped, Provider)
    assert wrapped.name == "inner"
    assert wrapped.facts("echo") is inner.facts("echo")
    assert await wrapped.models() == (ModelInfo(id="echo", provider="inner", created=1_700_000_000),)
    asked = call()
    answers = await collect(wrapped(asked, Context(request_id="r")))
    assert answers == await collect(inner(asked, Context(request_id="r")))
    assert inner.calls[0] is asked


async def test_the_answers_are_the_inner_ones_themselves() -> None:
    class Handing(FakeProvider):
        def __call__(self, call: Call, ctx: Context) -> Events:
            self.handed = super().__call__(call, ctx)
            return self.handed

    inner = Handing()
    events = Wrapped(inner)(call(), Context(request_id="r"))
    assert events is inner.handed
    await events.aclose()


async def test_errors_pass_as_they_are() -> None:
    failure = ServerError(ErrorKind.OVERLOADED, "Full.")
    inner = FakeProvider("inner", lambda _: [failure])
    with pytest.raises(ServerError) as caught:
        await collect(Wrapped(inner)(call(), Context(request_id="r")))
    assert caught.value.kind is ErrorKind.OVERLOADED
    assert caught.value.provider == "inner"


async def test_it_starts_and_closes_the_inner_provider_and_tells_its_state() -> None:
    inner = Closable("inner")
    wrapped = Wrapped(Wrapped(inner))
    assert wrapped.state() == (State.STARTING, "")
    await wrapped.start()
    assert wrapped.state() == inner.state() == (State.READY, "")
    assert not inner.closed
    await wrapped.close()
    assert inner.closed
