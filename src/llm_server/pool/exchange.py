"""One request on its way: let in, sent, watched to its end, and let out again whatever happens."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Any

from llm_server.contract import Context, ErrorKind, HttpRequest, HttpResponse, ServerError
from llm_server.pool.admission import Admission
from llm_server.pool.gate import too_late
from llm_server.pool.health import CROWDED, FAILURES, is_failure
from llm_server.pool.quota import REFUSALS
from llm_server.pool.transport import Begun, Transport

STREAMS = ("text/event-stream", "application/x-ndjson")
"""Media types of bodies that come while they are made."""


TIMER_SLACK_S = 0.01
"""Loops keep time in milliseconds: a timer for a deadline may fire a little before it."""


class Exchange:
    """Sends ``request`` once ``admission`` lets it; what :meth:`UpstreamPool.send` returns.

    With a free place nothing here waits or makes a future, task or timer. One that is begun is let in only if
    :meth:`UpstreamPool.ready` has just said so.
    """

    # Defaults stand in the class: most requests change few of them, and every request makes one.
    _exchange: AbstractAsyncContextManager[HttpResponse]
    _begun: Begun | None = None
    _noted = _began = _good = _streams = False
    sent_s = 0.0
    failed = False
    """Whether the answer's status has said all that there is to say."""
    probe = False

    def __init__(
        self, admission: Admission, transport: Transport, request: HttpRequest, ctx: Context | None
    ) -> None:
        self._admission = admission
        self._transport = transport
        self._request = request
        self._ctx = ctx

    def begin(self, listener: Callable[[], None], *, whole: bool) -> bool:
        """See :meth:`llm_server.contract.Sending.begin`."""
        admission, ctx = self._admission, self._ctx
        if ctx is None or ctx.deadline_s is None or not admission.gate.enter():
            return False
        self.sent_s = now_s = admission.now()
        try:
            begun = self._transport.begin(self._request, ctx.deadline_s - now_s, listener, whole=whole)
        except Exception:  # noqa: BLE001 - whoever enters is told
            begun = None
        if begun is None:
            admission.gate.leave()
            return False
        self._exchange = self._begun = begun
        return True

    def answered(self) -> Mapping[str, str] | None:
        """See :meth:`llm_server.contract.Sending.answered`."""
        begun = self._begun
        if begun is None or not begun.plain:
            return None
        self._note(200, begun.headers)
        return begun.headers

    def taken(self) -> bytes:
        """See :meth:`llm_server.contract.Sending.taken`."""
        assert self._begun is not None
        piece = self._begun.taken()
        if piece and self._streams and not self._began:
            self.began()
        return piece

    def body(self) -> bytes | None:
        """See :meth:`llm_server.contract.Sending.body`."""
        return None if self._begun is None else self._begun.body()

    def over(self) -> bool | None:
        """See :meth:`llm_server.contract.Sending.over`."""
        begun = self._begun
        return None if begun is None or not begun.plain else begun.complete

    def finish(self) -> None:
        """See :meth:`llm_server.contract.Sending.finish`."""
        self._end(None)

    async def __aenter__(self) -> HttpResponse:
        begun = self._begun is not None
        within_s = None if begun else await self._let_in()
        try:
            if not begun:
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

    async def _let_in(self) -> float | None:
        """Wait for a place and return the seconds that the caller has left, if there is a limit."""
        admission, ctx = self._admission, self._ctx
        now_s = admission.now()
        if ctx is not None and ctx.deadline_s is not None and now_s >= ctx.deadline_s:
            raise too_late("over before it began")
        if admission.breaker.closed and not admission.quota.held and admission.gate.enter():
            self.sent_s = now_s
        else:
            self.probe = await admission.wait(ctx, now_s)
            self.sent_s = now_s = admission.now()
        return None if ctx is None or ctx.deadline_s is None else ctx.deadline_s - now_s

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
        self._began = True
        self._admission.began(self.sent_s)

    def _answered(self, response: HttpResponse) -> HttpResponse:
        """Note what status and headers say, and pass it on."""
        if not self._noted:
            self._note(response.status, response.headers)
        return _Stream(response, self) if self._streams and not self._began else response

    def _note(self, status: int, headers: Mapping[str, str]) -> None:
        self._noted = True
        admission, ctx = self._admission, self._ctx
        if status in REFUSALS or not admission.reads_headers.isdisjoint(headers):
            model = ctx.attempts[-1].model if ctx is not None and ctx.attempts else ""
            admission.quota.read(status, headers, model, admission.now())
        self._good = status < 400
        if not self._good:
            self._refused(status)
        if not admission.breaker.closed and not self.failed:
            admission.recovered()
        self._streams = not self.failed and headers.get("content-type", "").startswith(STREAMS)

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
