"""In an overload most requests are refused: what they leave would stop the server again and again."""

import contextlib
import gc

from llm_server.contract import (
    Call,
    ChatCall,
    Chunk,
    Context,
    ErrorKind,
    Events,
    Message,
    Role,
    ServerError,
    Text,
    TextDelta,
)
from llm_server.pipeline import Observed
from llm_server.pipeline.trip import Trip
from llm_server.testing import FakeObserver, FakeProvider
from tests.pipeline.routes import MODEL, routing

CALL = ChatCall(model=MODEL, stream=True, messages=(Message(Role.USER, (Text("hi"),)),))


def left() -> list[object]:
    """Return what lives of requests that failed, anywhere in this process."""
    return [each for each in gc.get_objects() if isinstance(each, (Trip, ServerError))]


async def test_a_failure_leaves_nothing_to_the_garbage_collector() -> None:
    class Refusing(FakeProvider):
        async def __call__(self, call: Call, ctx: Context) -> Events:
            if ctx.attempts:
                raise ServerError(ErrorKind.OVERLOADED, "full")
            yield Chunk((TextDelta("hello"),))

    handler, _ = routing([Refusing("a"), Refusing("b")])
    observed = Observed(handler, FakeObserver())
    gc.collect()
    gc.disable()
    try:
        others = left()
        with contextlib.suppress(ServerError):
            await anext(observed(CALL, Context(request_id="r")))
        assert [each for each in left() if not any(each is other for other in others)] == []
    finally:
        gc.enable()
