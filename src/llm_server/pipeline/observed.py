"""Tell an observer what happens to each request."""

import asyncio
import time

from llm_server.contract import (
    Answer,
    Begun,
    Call,
    Chunk,
    Completion,
    Context,
    Embeddings,
    ErrorKind,
    Events,
    Handler,
    Observer,
    ServerError,
    Taker,
    Usage,
    begin_of,
)
from llm_server.contract.answers import CONTENT

_NOTHING = Context(request_id="").wasted
"""What a context holds before anything was wasted."""


class Observed:
    """Reports the start, the first content and the end of every request, exactly once each.

    A request whose answer was not taken to its end, because the caller left, ends as ``CLIENT_CLOSED``; one
    cancelled after its deadline as ``DEADLINE``, cancelled otherwise (the server stops) as ``UNAVAILABLE``;
    any exception but ``ServerError`` as ``INTERNAL``.
    """

    def __init__(self, handler: Handler, observer: Observer) -> None:
        self._handler = handler
        self._begin = begin_of(handler)
        self._observer = observer

    def __call__(self, call: Call, ctx: Context) -> Events:
        """Pass the inner handler's answers through unchanged."""
        return self._watched(call, ctx)

    def begin(self, call: Call, ctx: Context, taker: Taker) -> Begun | None:
        """Take the inner short way; what comes by it is reported in the same way."""
        watch = _Watch(self, call, ctx, taker)
        begun = self._begin(call, ctx, watch)
        if begun is None:
            return None
        watch.inner = begun
        self._observer.started(ctx)
        return watch

    async def _watched(
        self, call: Call, ctx: Context, watch: "_Watch | None" = None, rest: Events | None = None
    ) -> Events:
        """Pass answers through and report on them: on the ``rest`` of those that ``watch`` has seen."""
        usage, seen, ended = _NOTHING, False, False
        error: ServerError | None = None
        if watch is None:
            self._observer.started(ctx)
        else:
            usage, seen = watch.usage, watch.seen
        answers = rest or self._handler(call, ctx)
        try:
            async for answer in answers:
                if not seen and _is_content(answer):
                    seen = True
                    self.first_content(ctx)
                usage = _usage(answer) or usage
                yield answer
            ended = True
        except ServerError as failure:
            error = failure
            raise
        except asyncio.CancelledError:
            error = _cancelled(ctx)
            raise
        except Exception as failure:
            error = ServerError(ErrorKind.INTERNAL, "Internal error.", detail=repr(failure))
            raise
        finally:
            if not ended:
                error = error or ServerError(ErrorKind.CLIENT_CLOSED, "The client left.")
                await answers.aclose()
            self.finished(ctx, usage, error)
            error = None  # its traceback holds this frame: a cycle, left to the garbage collector

    def first_content(self, ctx: Context) -> None:
        """Report the first content."""
        self._observer.first_content(ctx)

    def finished(self, ctx: Context, usage: Usage, error: ServerError | None) -> None:
        """Report the end, with all tokens that were used."""
        if ctx.wasted is not _NOTHING:
            usage += ctx.wasted
        self._observer.finished(ctx, usage, error)


class _Watch:
    """One call on the short way, and its taker below: reports what comes and passes it on."""

    __slots__ = ("_call", "_ctx", "_observed", "_taker", "inner", "seen", "usage")

    def __init__(self, observed: Observed, call: Call, ctx: Context, taker: Taker) -> None:
        self._observed = observed
        self._call = call
        self._ctx = ctx
        self._taker = taker
        self.seen = False
        self.usage = _NOTHING
        self.inner: Begun

    def take(self, answer: Answer) -> None:
        if not self.seen and _is_content(answer):
            self.seen = True
            self._observed.first_content(self._ctx)
        self.usage = _usage(answer) or self.usage
        if type(answer) is not Chunk:
            self._observed.finished(self._ctx, self.usage, None)
        self._taker.take(answer)

    def end(self) -> None:
        self._observed.finished(self._ctx, self.usage, None)
        self._taker.end()

    def turn(self) -> None:
        self._taker.turn()

    def rest(self) -> Events:
        del self._taker  # which refers to this
        return self._observed._watched(self._call, self._ctx, self, self.inner.rest())


def _cancelled(ctx: Context) -> ServerError:
    if ctx.left:
        return ServerError(ErrorKind.CLIENT_CLOSED, "The client left.")
    if ctx.deadline_s is not None and time.perf_counter() >= ctx.deadline_s:
        return ServerError(ErrorKind.DEADLINE, "The request took longer than its deadline.")
    return ServerError(ErrorKind.UNAVAILABLE, "The server is shutting down.")


def _is_content(answer: Answer) -> bool:
    return type(answer) is not Chunk or any(isinstance(event, CONTENT) for event in answer.events)


def _usage(answer: Answer) -> Usage | None:
    if type(answer) is Chunk:
        for event in answer.events:
            if type(event) is Usage:
                return event
        return None
    return answer.usage if isinstance(answer, (Completion, Embeddings)) else None
