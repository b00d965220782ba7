"""Ask one line of a batch as if its caller had: through the same stages, but least urgent."""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from contextlib import aclosing

from msgspec import Struct

from llm_server.batching.offline.lines import Asked
from llm_server.batching.offline.outcome import Named, answered
from llm_server.batching.offline.pace import Room
from llm_server.contract import (
    Call,
    Chunk,
    Completion,
    Context,
    Embeddings,
    ErrorKind,
    Handler,
    LineCodec,
    LineResult,
    Priority,
    ServerError,
    TokenCount,
    Usage,
)

_log = logging.getLogger(__name__)

WAITING = frozenset(
    {
        ErrorKind.OVERLOADED,
        ErrorKind.RATE_LIMITED,
        ErrorKind.UNAVAILABLE,
        ErrorKind.UPSTREAM_RATE_LIMITED,
        ErrorKind.UPSTREAM_OVERLOADED,
        ErrorKind.UPSTREAM_UNREACHABLE,
    }
)
"""There is no room now, or nobody there: the line is asked again, as long as its batch's window lasts."""
FAULTS = frozenset(
    {
        ErrorKind.UPSTREAM_ERROR,
        ErrorKind.UPSTREAM_TIMEOUT,
        ErrorKind.UPSTREAM_TRUNCATED,
        ErrorKind.UPSTREAM_INVALID,
        ErrorKind.DEADLINE,
    }
)
"""Another try may help, or never: the line is asked again a few times."""
QUEUED_S = 0.05
"""Having waited so long for a place, a line took it from somebody."""

Answer = Completion | Embeddings | TokenCount


class Outcome(Struct, frozen=True):
    """How an attempt ended: the line to write, and the error and the room that it told of."""

    result: LineResult
    error: ServerError | None
    room: Room | None


class Asking:
    """Asks lines.

    Args:
        handler: the pipeline.
        codecs: who reads and writes the bodies of each endpoint.
        timeout_s: seconds after which a line is given up.
        name: makes ids for requests.
    """

    def __init__(
        self,
        handler: Handler,
        codecs: Mapping[str, LineCodec],
        timeout_s: float,
        name: Callable[[], str],
    ) -> None:
        self._handler = handler
        self._codecs = codecs
        self._timeout_s = timeout_s
        self._name = name

    def codec(self, endpoint: str) -> LineCodec:
        """Return who reads and writes an endpoint's bodies."""
        return self._codecs[endpoint]

    async def __call__(self, number: int, asked: Asked) -> Outcome:
        """Ask a line once; never raises but when it is cancelled."""
        named = Named(number, asked.custom_id, self._name())
        started_s = time.perf_counter()
        ctx = Context(
            request_id=named.request_id,
            route=asked.url,
            started_s=started_s,
            deadline_s=started_s + self._timeout_s,
            priority=Priority.BATCH,
        )
        codec = self._codecs[asked.url]
        try:
            result = await self._answered(named, asked, ctx)
        except ServerError as error:
            room = Room.NONE if error.kind in WAITING else None
            return Outcome(failure(named, error, codec), error, room)
        queued_s = sum(attempt.queued_s for attempt in ctx.attempts)
        return Outcome(result, None, Room.FULL if queued_s > QUEUED_S else Room.SPARE)

    async def _answered(self, named: Named, asked: Asked, ctx: Context) -> LineResult:
        codec = self._codecs[asked.url]
        call = decoded(codec, asked)
        ctx.model = call.model
        try:
            async with asyncio.timeout(self._timeout_s):
                answer = await self._whole(call, ctx)
        except TimeoutError:
            message = f"No complete answer within {self._timeout_s:g} seconds."
            raise ServerError(ErrorKind.DEADLINE, message) from None
        except ServerError:
            raise
        except Exception as error:
            _log.exception("line %d of a batch, request %s, failed", named.number, named.request_id)
            message = "Internal error; see the server's log."
            raise ServerError(ErrorKind.INTERNAL, message, detail=repr(error)) from error
        return written(named, codec, call, answer)

    async def _whole(self, call: Call, ctx: Context) -> Answer:
        async with aclosing(self._handler(call, ctx)) as answers:
            got = [answer async for answer in answers]
        if len(got) != 1 or isinstance(got[0], Chunk):
            raise ServerError(ErrorKind.INTERNAL, "Internal error.", detail=f"not one whole answer: {got!r}")
        return got[0]


def decoded(codec: LineCodec, asked: Asked) -> Call:
    """Return the call of a line; raises ``INVALID_REQUEST``, or ``UNSUPPORTED`` for a stream."""
    call = codec.decode(bytes(asked.body), {})
    if call.stream:
        raise ServerError(ErrorKind.UNSUPPORTED, "stream: a batch answers whole.", param="stream")
    return call


def written(named: Named, codec: LineCodec, call: Call, answer: Answer) -> LineResult:
    """Return the line that says ``answer``; raises as :func:`answered` does."""
    usage = Usage() if isinstance(answer, TokenCount) else answer.usage
    return answered(named, 200, codec.whole(call, answer), usage)


def failure(named: Named, error: ServerError, codec: LineCodec) -> LineResult:
    """Return the line that says ``error``."""
    return answered(named, error.kind.status, codec.error(error, named.request_id))
