"""A hot route: from the caller's bytes to the pipeline and back, the same for every transport."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Mapping
from concurrent.futures import ThreadPoolExecutor

import msgspec
from starlette.types import Receive, Scope, Send

from llm_server.api.body import check_announced, headers_of, read_body
from llm_server.api.config import ApiConfig
from llm_server.api.identity import request_id
from llm_server.api.presence import Presence, why_cancelled
from llm_server.api.reply import Reply
from llm_server.api.short import Awaited, ShortReply
from llm_server.api.sink import AsgiSink, PromptSink, Sink
from llm_server.api.wishes import note_wishes
from llm_server.contract import (
    Begin,
    Call,
    Context,
    ErrorKind,
    Events,
    Handler,
    Observer,
    ServerError,
    Usage,
    begin_of,
)
from llm_server.wire.codec import Codec

_log = logging.getLogger(__name__)

ASIDE_BYTES = 1024 * 1024
"""Bodies from this size on are read in a thread: that takes milliseconds, in which others are served."""


_ASIDE = ThreadPoolExecutor(1, "reading")
"""One thread for all: parsers hold the lock of the interpreter; several would leave the loop little of it."""


class Door(msgspec.Struct, frozen=True):
    """What every endpoint needs: the pipeline's first stage, who is told of refusals, and the limits."""

    handler: Handler
    observer: Observer
    config: ApiConfig


class Endpoint:
    """Serves one route in one dialect. One instance per route, shared by all its requests.

    A transport makes a :meth:`context`, lets :meth:`admit` look at the headers, collects the body up to
    ``limit_bytes`` and calls :meth:`answer`, or :meth:`refuse` with what went wrong on the way. It cancels
    that call when the caller leaves, which it tells in ``ctx.left``, and at ``ctx.deadline_s``.
    """

    def __init__(self, route: str, codec: Codec, door: Door) -> None:
        self.route = route
        self.limit_bytes = door.config.max_body_bytes
        self._codec = codec
        self._door = door
        self._within_s = door.config.request_timeout_s
        self._priorities = door.config.priority_header
        self.begin: Begin = begin_of(door.handler)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request that came through ASGI."""
        ctx, sink = self.context(), AsgiSink(send)
        headers = headers_of(scope["headers"])
        try:
            self.admit(headers, ctx)
            body = await read_body(receive, self.limit_bytes)
        except ServerError as error:
            await self.refuse(error, ctx, sink)
            return
        presence = Presence(receive, ctx)
        presence.start()
        try:
            await self.answer(headers, body, ctx, sink)
        finally:
            presence.stop()

    def context(self) -> Context:
        """Return the story of a request that begins now."""
        now_s = time.perf_counter()
        return Context(
            request_id=request_id(), route=self.route, started_s=now_s, deadline_s=now_s + self._within_s
        )

    def admit(self, headers: Mapping[str, str], ctx: Context) -> None:
        """Look at ``headers`` before the body is read; raises ``ServerError`` for what makes it pointless."""
        check_announced(headers, self.limit_bytes)
        note_wishes(headers, ctx, self._priorities)

    async def answer(self, headers: Mapping[str, str], body: bytes, ctx: Context, sink: Sink) -> None:
        """Answer one request. Raises nothing; when it returns, all that can be said has been said."""
        reply = Reply(sink, ctx, self._codec)
        await self._told(self._answered(headers, body, ctx, reply), ctx, reply)

    def short(
        self, headers: Mapping[str, str], body: bytes, ctx: Context, sink: PromptSink
    ) -> ShortReply | None:
        """Return the reply of one request that may take the short way; nothing if it is too large for that.

        Raises:
            ServerError: the request did not become a call.
        """
        if len(body) >= ASIDE_BYTES:
            return None
        return ShortReply(sink, ctx, self._codec, self._decoded(body, headers, ctx))

    async def finish(self, call: Call, answers: Events, ctx: Context, reply: Reply) -> None:
        """Write ``answers``, or what went wrong. Raises nothing, as :meth:`answer`."""
        await self._told(self._written(call, answers, reply), ctx, reply)

    def ask(self, call: Call, ctx: Context) -> Events:
        """Take the pipeline's ordinary way."""
        return self._door.handler(call, ctx)

    @property
    def keepalive_s(self) -> float:
        """Seconds of silence in a stream after which the dialect's keep-alive is written."""
        return self._door.config.keepalive_s

    def _decoded(self, body: bytes, headers: Mapping[str, str], ctx: Context) -> Call:
        call = self._codec.decode(body, headers)
        ctx.model, ctx.streamed = call.model, call.stream
        return call

    async def _answered(self, headers: Mapping[str, str], body: bytes, ctx: Context, reply: Reply) -> None:
        try:
            if len(body) < ASIDE_BYTES:
                call = self._decoded(body, headers, ctx)
            else:
                loop = asyncio.get_running_loop()
                call = await loop.run_in_executor(_ASIDE, self._decoded, body, headers, ctx)
        except (ServerError, asyncio.CancelledError) as error:
            self.unheard(error if isinstance(error, ServerError) else _reason(ctx), ctx)
            raise
        answers = None
        if not call.stream:
            awaited = Awaited()
            begun = self.begin(call, ctx, awaited)
            answers = begun and awaited.answers(begun)
        await self._written(call, answers or self._door.handler(call, ctx), reply)

    async def _written(self, call: Call, answers: Events, reply: Reply) -> None:
        if call.stream:
            await reply.stream(call, answers, self._door.config.keepalive_s)
        else:
            await reply.whole(call, answers)

    async def _told(self, work: Awaitable[None], ctx: Context, reply: Reply) -> None:
        """Do ``work``, and say in the reply what went wrong with it."""
        try:
            await work
        except ServerError as error:
            await reply.error(error)
        except asyncio.CancelledError:
            await _cancelled(ctx, reply)
        except Exception:  # noqa: BLE001 - the last line: whatever a bug raises, the caller gets a whole error
            _log.exception("request %s failed", ctx.request_id)
            await reply.error(ServerError(ErrorKind.INTERNAL, "Internal error; see the server's log."))

    async def refuse(self, error: ServerError, ctx: Context, sink: Sink) -> None:
        """Answer a request that did not become a call with ``error``."""
        self.unheard(error, ctx)
        await Reply(sink, ctx, self._codec).error(error)

    def unheard(self, error: ServerError, ctx: Context) -> None:
        """Tell the observer of a request that did not become a call."""
        self._door.observer.started(ctx)
        self._door.observer.finished(ctx, Usage(), error)


async def _cancelled(ctx: Context, reply: Reply) -> None:
    """Say why the request was cancelled, if there is somebody left to hear it.

    This is the request's end, and its task's: there is nothing above that should still be cancelled.
    """
    task = asyncio.current_task()
    if task is not None:
        task.uncancel()
    if not ctx.left:
        await reply.error(_reason(ctx))


def _reason(ctx: Context) -> ServerError:
    """Return why the request was cancelled."""
    message = "The server is shutting down; try again."
    return why_cancelled(ctx) or ServerError(ErrorKind.UNAVAILABLE, message, retry_after_s=1.0)
