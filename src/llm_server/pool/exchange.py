"""One request on its way: let in, sent, watched to its end, and let out again whatever happens."""

from collections.abc import AsyncGenerator, Awaitable, Mapping
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Any

from llm_server.contract import Context, ErrorKind, HttpRequest, HttpResponse, ServerError
from llm_server.pool.admission import Admission
from llm_server.pool.gate import too_late
from llm_server.pool.health import CROWDED, FAILURES, is_failure
from llm_server.pool.quota import REFUSALS
from llm_server.pool.transport import Transport

STREAMS = ("text/event-stream", "application/x-ndjson")
"""Media types of bodies that come while they are made."""


TIMER_SLACK_S = 0.01
"""Loops keep time in milliseconds: a timer for a deadline may fire a little before it."""


class Exchange:
    """Sends ``request`` once ``admission`` lets it; what :meth:`UpstreamPool.send` returns.

    With a free place nothing here waits or makes a future, task or timer.
    """

    __slots__ = (
        "_admission",
        "_ctx",
        "_exchange",
        "_good",
        "_request",
        "_streams",
        "_transport",
        "failed",
        "probe",
        "sent_s",
    )

    def __init__(
        self, admission: Admission, transport: Transport, request: HttpRequest, ctx: Context | None
    ) -> None:
        self._admission = admission
        self._transport = transport
        self._request = request
        self._ctx = ctx
        self._exchange: AbstractAsyncContextManager[HttpResponse]
        self._good = False
        self._streams = False
        self.sent_s = 0.0
        self.failed = False
        """Whether the answer's status has said all that there is to say."""
        self.probe = False

    async def __aenter__(self) -> HttpResponse:
        admission, ctx = self._admission, self._ctx
        within_s = None
        now_s = admission.now()
        if ctx is not None and ctx.deadline_s is not None and now_s >= ctx.deadline_s:
            raise too_late("over before it began")
        if admission.breaker.closed and not admission.quota.held and admission.gate.enter():
            self.sent_s = now_s
        else:
            self.probe = await admission.wait(ctx, now_s)
            self.sent_s = now_s = admission.now()
        try:
            if ctx is not None and ctx.deadline_s is not None:
                within_s = ctx.deadline_s - now_s
            self._exchange = self._transport.exchange(self._request, within_s)
            response = await self._exchange.__aenter__()
        except BaseException as error:
            if self._end(error):
                raise self._over() from None
            raise
        try:
            return self._answered(response)
        except BaseException as error:
            await self.__aexit__(type(error), error, error.__traceback__)
            raise

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        try:
            done = await self._exchange.__aexit__(kind, error, trace)
        except BaseException as other:
            self._end(other)
            raise
        if self._end(error):
            raise self._over() from None
        return done

    def began(self) -> None:
        """Note that the body of a stream has begun."""
        self._admission.began(self.sent_s)

    def _answered(self, response: HttpResponse) -> HttpResponse:
        """Note what status and headers say."""
        admission, ctx = self._admission, self._ctx
        status, headers = response.status, response.headers
        if admission.reads_headers or status in REFUSALS:
            model = ctx.attempts[-1].model if ctx is not None and ctx.attempts else ""
            admission.quota.read(status, headers, model, admission.now())
        self._good = status < 400
        if not self._good:
            self._refused(status)
        if not admission.breaker.closed and not self.failed:
            admission.recovered()
        if self.failed or not headers.get("content-type", "").startswith(STREAMS):
            return response
        self._streams = True
        return _Stream(response, self)

    def _refused(self, status: int) -> None:
        if status in REFUSALS:
            self._admission.crowded(self.sent_s)
        if is_failure(status):
            self.failed = True
            self._admission.failed(probe=self.probe)

    def _end(self, error: BaseException | None) -> bool:
        """Give the place back and judge: only what the upstream is to blame for is a failure.

        Returns whether it was the caller's deadline that ended the request.
        """
        admission = self._admission
        held_s = admission.now() - self.sent_s
        if error is None:
            if not self.failed:
                admission.succeeded(held_s, good=self._good, streamed=self._streams)
            admission.gate.leave(held_s if self._good else None)
            return False
        ours = self._is_ours(error)
        if isinstance(error, ServerError) and not self.failed and not ours:
            if error.kind in CROWDED:
                admission.crowded(self.sent_s)
            if error.kind in FAILURES:
                self.failed = True
                admission.failed(probe=self.probe)
        if self.probe and not self.failed:
            admission.breaker.unprobed()
        admission.gate.leave(held_s if self._good else None)
        return ours

    def _is_ours(self, error: BaseException) -> bool:
        """Whether the caller's deadline ended the request: the upstream had no fair chance."""
        if not isinstance(error, ServerError) or error.kind is not ErrorKind.UPSTREAM_TIMEOUT:
            return False
        deadline_s = self._ctx.deadline_s if self._ctx is not None else None
        return deadline_s is not None and self._admission.now() >= deadline_s - TIMER_SLACK_S

    def _over(self) -> ServerError:
        ctx = self._ctx
        within_s = ctx.deadline_s - ctx.started_s if ctx is not None and ctx.deadline_s is not None else 0.0
        return ServerError(ErrorKind.DEADLINE, f"No complete answer within {round(within_s, 3):g} seconds.")


class _Stream:
    """An answer whose first piece is noted."""

    __slots__ = ("_exchange", "_response", "headers", "status")

    def __init__(self, response: HttpResponse, exchange: Exchange) -> None:
        self.status = response.status
        self.headers: Mapping[str, str] = response.headers
        self._response = response
        self._exchange = exchange

    async def read(self) -> bytes:
        """Return the whole body."""
        return await self._response.read()

    def chunks(self) -> AsyncGenerator[bytes, None]:
        """Yield the body as it arrives, cut anywhere."""
        return _Pieces(self._response.chunks(), self._exchange)


class _Pieces(AsyncGenerator[bytes, None]):
    """Passes pieces on; after the first one it costs a call without a coroutine."""

    __slots__ = ("_exchange", "_pieces")

    def __init__(self, pieces: AsyncGenerator[bytes, None], exchange: Exchange) -> None:
        self._pieces = pieces
        self._exchange: Exchange | None = exchange

    def __anext__(self) -> Awaitable[bytes]:  # type: ignore[override]  # what `async for` needs; no coroutine
        return self._pieces.__anext__() if self._exchange is None else self._first()

    async def _first(self) -> bytes:
        piece = await self._pieces.__anext__()
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.began()
        return piece

    async def asend(self, value: None) -> bytes:
        """See ``AsyncGenerator``."""
        return await self._pieces.asend(value)

    async def athrow(self, *error: Any) -> bytes:
        """See ``AsyncGenerator``."""
        return await self._pieces.athrow(*error)

    async def aclose(self) -> None:
        """Close the answer's body."""
        await self._pieces.aclose()
