"""Write one answer: whole, streamed or an error, in the caller's dialect."""

import asyncio
from contextlib import aclosing

from starlette.types import Send

from llm_server.api import headers
from llm_server.contract import (
    Call,
    Chunk,
    Context,
    ErrorKind,
    Events,
    ServerError,
)
from llm_server.wire.codec import Codec, StreamEncoder

JSON = b"application/json"
EVENT_STREAM = b"text/event-stream; charset=utf-8"


class Reply:
    """The one answer to one request. After :meth:`error` or a finished answer nothing more is written."""

    def __init__(self, send: Send, ctx: Context, codec: Codec) -> None:
        self._send = send
        self._ctx = ctx
        self._codec = codec
        self._call: Call | None = None
        self._encoder: StreamEncoder | None = None
        self._begun = False
        self._done = False
        self._wrote = False

    async def whole(self, call: Call, answers: Events) -> None:
        """Write the one whole value that ``answers`` holds."""
        self._call = call
        async with aclosing(answers):
            got = [answer async for answer in answers]
        if len(got) != 1 or isinstance(got[0], Chunk):
            raise ServerError(ErrorKind.INTERNAL, "Internal error.", detail=f"not one whole answer: {got!r}")
        body = self._codec.whole(call, got[0])
        await self._full(200, self._told(JSON), body)

    async def stream(self, call: Call, answers: Events, keepalive_s: float) -> None:
        """Write chunks as they come; into a silence of ``keepalive_s`` goes the dialect's keep-alive.

        The status goes out with the first content, or with the first keep-alive: a failure before that is an
        ordinary error answer, one after it the dialect's in-band error.
        """
        self._call = call
        self._encoder = encoder = self._codec.encoder(call)
        keeper = asyncio.create_task(self._keep_alive(keepalive_s)) if self._codec.keepalive else None
        try:
            async with aclosing(answers):
                async for answer in answers:
                    if not isinstance(answer, Chunk):
                        raise ServerError(ErrorKind.INTERNAL, "Internal error.", detail="not a chunk")
                    await self._write(encoder.encode(answer))
        finally:
            if keeper is not None:
                keeper.cancel()
        await self._write(encoder.end())
        await self._finish()

    async def error(self, error: ServerError) -> None:
        """Write ``error``: as a status and a body if nothing was written yet, else in band and close."""
        if self._done:
            return
        if self._begun and self._encoder is not None:
            await self._write(self._encoder.error(error))
            await self._finish()
            return
        told = self._told(JSON) + headers.retry(error)
        await self._full(error.kind.status, told, self._codec.error(error, self._ctx.request_id))

    def _told(self, content_type: bytes) -> headers.Headers:
        """The headers so far; a translated call also names what of the caller's body nothing could carry."""
        ctx, call = self._ctx, self._call
        if call is not None and call.raw and ctx.attempt is not None and ctx.attempt.dialect != call.dialect:
            self._call = None  # said once, also when an error follows
            ctx.dropped += self._codec.unmodelled(call.raw)
        return headers.story(ctx, content_type)

    async def _full(self, status: int, told: headers.Headers, body: bytes) -> None:
        self._done = True
        told.append((b"content-length", b"%d" % len(body)))
        await self._send({"type": "http.response.start", "status": status, "headers": told})
        await self._send({"type": "http.response.body", "body": body})

    async def _write(self, data: bytes) -> None:
        if not data:
            return
        self._wrote = True
        if not self._begun:
            self._begun = True
            told = self._told(EVENT_STREAM)
            # nginx must not collect the stream (nginx.org, ngx_http_proxy_module, proxy_buffering).
            told += [(b"cache-control", b"no-cache"), (b"x-accel-buffering", b"no")]
            await self._send({"type": "http.response.start", "status": 200, "headers": told})
        await self._send({"type": "http.response.body", "body": data, "more_body": True})

    async def _finish(self) -> None:
        self._done = True
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _keep_alive(self, every_s: float) -> None:
        while True:
            self._wrote = False
            await asyncio.sleep(every_s)
            if not self._wrote:
                await self._write(self._codec.keepalive)
