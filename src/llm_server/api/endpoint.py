"""A hot route: plain ASGI from the caller's bytes to the pipeline and back."""

import asyncio
import logging
import time

import msgspec
from starlette.types import Receive, Scope, Send

from llm_server.api.body import headers_of, read_body
from llm_server.api.config import ApiConfig
from llm_server.api.identity import request_id
from llm_server.api.presence import watch
from llm_server.api.reply import Reply
from llm_server.contract import Call, Context, ErrorKind, Handler, Observer, ServerError, Usage
from llm_server.wire.codec import Codec

_log = logging.getLogger(__name__)


class Door(msgspec.Struct, frozen=True):
    """What every endpoint needs: the pipeline's first stage, who is told of refusals, and the limits."""

    handler: Handler
    observer: Observer
    config: ApiConfig


class Endpoint:
    """Serves one route in one dialect. One instance per route, shared by all its requests."""

    def __init__(self, route: str, codec: Codec, door: Door) -> None:
        self.route = route
        self._codec = codec
        self._door = door

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; the caller's leaving cancels everything behind it."""
        started_s = time.perf_counter()
        deadline_s = started_s + self._door.config.request_timeout_s
        ctx = Context(request_id=request_id(), route=self.route, started_s=started_s, deadline_s=deadline_s)
        reply = Reply(send, ctx, self._codec)
        try:
            headers = headers_of(scope)
            body = await read_body(headers, receive, self._door.config.max_body_bytes)
            call = self._codec.decode(body, headers)
        except ServerError as error:
            self._refused(ctx, error)
            await reply.error(error)
            return
        ctx.model, ctx.streamed = call.model, call.stream
        await self._watched(call, ctx, receive, reply)

    def _refused(self, ctx: Context, error: ServerError) -> None:
        self._door.observer.started(ctx)
        self._door.observer.finished(ctx, Usage(), error)

    async def _watched(self, call: Call, ctx: Context, receive: Receive, reply: Reply) -> None:
        """Answer while listening for the caller to leave, which cancels the answer and all behind it."""
        answering = asyncio.current_task()
        leaving = watch(receive, ctx)
        try:
            await self._answer(call, ctx, reply)
        except asyncio.CancelledError:
            if not leaving.done():
                message = "The server is shutting down; try again."
                # The server's end, and the request's: there is nothing above that should still be cancelled.
                await reply.error(ServerError(ErrorKind.UNAVAILABLE, message, retry_after_s=1.0))
            if answering is not None:
                answering.uncancel()
        finally:
            leaving.cancel()

    async def _answer(self, call: Call, ctx: Context, reply: Reply) -> None:
        config = self._door.config
        try:
            async with asyncio.timeout(config.request_timeout_s):
                answers = self._door.handler(call, ctx)
                if call.stream:
                    await reply.stream(call, answers, config.keepalive_s)
                else:
                    await reply.whole(call, answers)
        except ServerError as error:
            await reply.error(error)
        except TimeoutError:
            message = f"No complete answer within {config.request_timeout_s:g} seconds."
            await reply.error(ServerError(ErrorKind.DEADLINE, message))
        except Exception:  # noqa: BLE001 - the last line: whatever a bug raises, the caller gets a whole error
            _log.exception("request %s failed", ctx.request_id)
            await reply.error(ServerError(ErrorKind.INTERNAL, "Internal error; see the server's log."))
