"""Write one answer: whole, streamed or an error, in the caller's dialect."""

import asyncio
from contextlib import aclosing

from llm_server.api import headers
from llm_server.api.sink import Headers, Sink
from llm_server.contract import (
    Answer,
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

STREAMING: Headers = [(b"cache-control", b"no-cache"), (b"x-accel-buffering", b"no")]
"""nginx must not collect the stream (nginx.org, ngx_http_proxy_module, proxy_buffering)."""


class Reply:
    """The one answer to one request. After :meth:`error` or a finished answer nothing more is written."""

    __slots__ = ("_begun", "_call", "_codec", "_ctx", "_done", "_encoder", "_sink", "_wrote")

    def __init__(self, sink: Sink, ctx: Context, codec: Codec) -> None:
        self._sink = sink
        self._ctx = ctx
        self._codec = codec
        self._call: Call | None = None
        self._encoder: StreamEncoder | None = None
        self._begun = False
        self._done = False
        self._wrote = False

    def open(self, call: Call) -> StreamEncoder | None:
        """Note what is answered, and return the writer of its stream if it is to be one."""
        self._call = call
        if call.stream and self._encoder is None:
            self._encoder = self._codec.encoder(call)
        return self._encoder

    async def whole(self, call: Call, answers: Events) -> None:
        """Write the one whole value that ``answers`` holds."""
        self.open(call)
        answer = await only(answers)
        if isinstance(answer, Chunk):
            raise ServerError(ErrorKind.INTERNAL, "Internal error.", detail="a chunk is no whole answer")
        status, told, body = self._complete(200, self._codec.whole(call, answer))
        await self._sink.whole(status, told, body)

    async def stream(self, call: Call, answers: Events, keepalive_s: float) -> None:
        """Write chunks as they come; into a silence of ``keepalive_s`` goes the dialect's keep-alive.

        The status goes out with the first content, or with the first keep-alive: a failure before that is an
        ordinary error answer, one after it the dialect's in-band error.
        """
        encoder = self.open(call) or self._codec.encoder(call)
        keeper = _Keeper(self, keepalive_s) if self._codec.keepalive else None
        try:
            async with aclosing(answers):
                async for answer in answers:
                    if not isinstance(answer, Chunk):
                        raise ServerError(ErrorKind.INTERNAL, "Internal error.", detail="not a chunk")
                    await self._write(encoder.encode(answer))
        finally:
            if keeper is not None:
                keeper.close()
        await self._end(encoder.end())

    async def error(self, error: ServerError) -> None:
        """Write ``error``: as a status and a body if nothing was written yet, else in band and close."""
        if self._done:
            return
        if self._begun and self._encoder is not None:
            await self._end(self._encoder.error(error))
            return
        body = self._codec.error(error, self._ctx.request_id)
        status, told, body = self._complete(error.kind.status, body, headers.retry(error))
        await self._sink.whole(status, told, body)

    async def break_silence(self) -> None:
        """Write the dialect's keep-alive if nothing was written since this was last called."""
        if not self._wrote:
            await self._write(self._codec.keepalive)
        self._wrote = False

    def _told(self, content_type: bytes) -> Headers:
        """The headers so far; a translated call also names what of the caller's body nothing could carry."""
        ctx, call = self._ctx, self._call
        if call is not None and call.raw and ctx.attempt is not None and ctx.attempt.dialect != call.dialect:
            self._call = None  # said once, also when an error follows
            ctx.dropped += self._codec.unmodelled(call.raw)
        return headers.story(ctx, content_type)

    def _complete(self, status: int, body: bytes, more: Headers | None = None) -> tuple[int, Headers, bytes]:
        self._done = True
        told = self._told(JSON)
        if more:
            told += more
        told.append((b"content-length", b"%d" % len(body)))
        return status, told, body

    async def _write(self, data: bytes) -> None:
        if not data:
            return
        self._wrote = True
        if self._begun:
            await self._sink.write(data)
        else:
            self._begun = True
            await self._sink.start(self._told(EVENT_STREAM) + STREAMING, data)

    async def _end(self, data: bytes) -> None:
        if not self._begun:
            await self._write(data)
            data = b""
        self._done = True
        await self._sink.end(data)


async def only(answers: Events) -> Answer:
    """Return the one answer that there is, and close ``answers``; raises ``INTERNAL`` for none or several."""
    found: Answer | None = None
    count = 0
    try:
        async for answer in answers:
            found, count = answer, count + 1
    finally:
        await answers.aclose()
    if found is None or count > 1:
        raise ServerError(ErrorKind.INTERNAL, "Internal error.", detail=f"{count} whole answers")
    return found


class _Keeper:
    """Looks every so often whether a stream is silent. A stream that is not costs it one timer."""

    __slots__ = ("_every_s", "_reply", "_timer", "_writing")

    def __init__(self, reply: Reply, every_s: float) -> None:
        self._reply = reply
        self._every_s = every_s
        self._writing: asyncio.Task[None] | None = None
        self._timer = asyncio.get_running_loop().call_later(every_s, self._look)

    def close(self) -> None:
        """Look no more."""
        self._timer.cancel()
        if self._writing is not None:
            self._writing.cancel()

    def _look(self) -> None:
        loop = asyncio.get_running_loop()
        if self._writing is None or self._writing.done():  # else the caller is behind: no more for it
            self._writing = loop.create_task(self._reply.break_silence())
        self._timer = loop.call_later(self._every_s, self._look)
