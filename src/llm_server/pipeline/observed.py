"""Tell an observer what happens to each request."""

import asyncio
import time

from llm_server.contract import (
    Answer,
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
    Usage,
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
        self._observer = observer

    async def __call__(self, call: Call, ctx: Context) -> Events:
        """Pass the inner handler's answers through unchanged."""
        usage, seen, ended = _NOTHING, False, False
        error: ServerError | None = None
        self._observer.started(ctx)
        answers = self._handler(call, ctx)
        try:
            async for answer in answers:
                if not seen and _is_content(answer):
                    seen = True
                    self._observer.first_content(ctx)
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
            if ctx.wasted is not _NOTHING:
                usage += ctx.wasted
            self._observer.finished(ctx, usage, error)
            error = None  # its traceback holds this frame: a cycle, left to the garbage collector


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
