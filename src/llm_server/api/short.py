"""The short way's end: answers written as they come, without a task that waits for them."""

import asyncio
from collections.abc import Callable

from llm_server.api import headers
from llm_server.api.reply import EVENT_STREAM, JSON, STREAMING, Reply
from llm_server.api.sink import PromptSink
from llm_server.contract import Answer, Begin, Begun, Call, Chunk, Context, Events, failed
from llm_server.wire.codec import Codec

_STREAMING = headers.written(STREAMING)


class ShortReply(Reply):
    """A reply given as the answer comes: the taker of a call's short way.

    Whatever was written so, the ordinary way can go on with: ``turned`` is told what is left to write.
    """

    __slots__ = ("_call_begun", "_keeper", "_prompt", "_turns", "call", "turned")

    def __init__(self, sink: PromptSink, ctx: Context, codec: Codec, call: Call) -> None:
        super().__init__(sink, ctx, codec)
        self._prompt = sink
        self._call_begun: Begun | None = None
        self._turns = False
        self._keeper: asyncio.TimerHandle | None = None
        self.call = call
        self.turned: Callable[[Events], None]

    def begin(self, begin: Begin) -> bool:
        """Begin to answer by ``begin``; false if there is only the ordinary way."""
        self.open(self.call)
        self._call_begun = begin(self.call, self._ctx, self)
        if self._call_begun is None:
            return False
        if self._turns:
            self.turn()
        return True

    def take(self, answer: Answer) -> None:
        """Write a whole answer, or the next chunk of a stream."""
        if isinstance(answer, Chunk):
            encoder = self._encoder
            assert encoder is not None
            if data := encoder.encode(answer):
                self._put(data)
            return
        self._leave()
        try:
            body = self._codec.whole(self.call, answer)
            lines = self._lines(JSON)
        except Exception as error:  # noqa: BLE001 - the ordinary way tells the caller
            self.turned(failed(error))
            return
        self._done = True
        self._prompt.put_whole(lines, body)

    def end(self) -> None:
        """Write the end of a stream."""
        self._leave()
        encoder = self._encoder
        assert encoder is not None
        try:
            data = encoder.end()
        except Exception as error:  # noqa: BLE001 - the ordinary way tells the caller
            self.turned(failed(error))
            return
        if not self._begun:
            self._put(data)
            data = b""
        self._done = True
        self._prompt.put_end(data)

    def turn(self) -> None:
        """Let the ordinary way go on."""
        begun = self._call_begun
        if begun is None:
            self._turns = True  # it is not known yet
            return
        self._leave()
        self.turned(begun.rest())

    def is_short(self) -> bool:
        """Whether the answer is still to come, or to go on, by the short way."""
        return self._call_begun is not None

    def keep_alive(self, every_s: float, loop: asyncio.AbstractEventLoop) -> None:
        """Write the dialect's keep-alive into every silence of ``every_s`` seconds while this is the way."""
        if self._codec.keepalive and self._call_begun is not None:
            self._keeper = loop.call_later(every_s, self._look, every_s, loop)

    def _leave(self) -> None:
        self._call_begun = None
        if self._keeper is not None:
            self._keeper.cancel()
            self._keeper = None

    def _look(self, every_s: float, loop: asyncio.AbstractEventLoop) -> None:
        if not self._wrote:
            self._put(self._codec.keepalive)
        self._wrote = False
        self._keeper = loop.call_later(every_s, self._look, every_s, loop)

    def _put(self, data: bytes) -> None:
        self._wrote = True
        if self._begun:
            self._prompt.put(data)
        else:
            self._begun = True
            self._prompt.put_start(self._lines(EVENT_STREAM) + _STREAMING, data)

    def _lines(self, content_type: bytes) -> bytes:
        attempt = self._ctx.attempt
        translated = attempt is not None and attempt.dialect != self.call.dialect
        lines = b"" if translated else headers.plain_story(self._ctx, content_type)
        return lines or headers.written(self._told(content_type))


class Awaited:
    """Waits for the whole answer of a call that was begun; see :class:`llm_server.contract.Taker`."""

    __slots__ = ("_answer",)

    def __init__(self) -> None:
        self._answer: asyncio.Future[Answer | None] = asyncio.get_running_loop().create_future()

    def take(self, answer: Answer) -> None:
        """Take the whole answer."""
        if not self._answer.done():
            self._answer.set_result(answer)

    def end(self) -> None:
        """Whole answers have no end of their own."""

    def turn(self) -> None:
        """Wait no more."""
        if not self._answer.done():
            self._answer.set_result(None)

    async def answers(self, begun: Begun) -> Events:
        """Yield what comes: by the short way, or the ordinary way's rest of it."""
        try:
            answer = await self._answer
        except asyncio.CancelledError:
            # The ordinary way hears of it where it waits next.
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
            answer = None if self._answer.cancelled() else self._answer.result()
        if answer is not None:
            yield answer
            return
        rest = begun.rest()
        try:
            async for each in rest:
                yield each
        finally:
            await rest.aclose()
