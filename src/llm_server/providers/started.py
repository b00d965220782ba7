"""The short way of a hosted provider: a call that was sent at once, and its answer translated as it comes."""

from collections.abc import Callable, Iterable, Mapping

from msgspec import Struct

from llm_server.contract import (
    Attempt,
    Call,
    Chunk,
    Context,
    Dialect,
    Events,
    Sending,
    StreamDecoder,
    Taker,
)
from llm_server.providers.provenance import marked

EVENT_STREAM = "text/event-stream"


class Ways(Struct, frozen=True):
    """What the short way has in common with the ordinary one: the provider's name, dialect and ways to work.

    ``sent`` encodes a call; ``asked`` is the ordinary way and goes on with what was started; ``note`` tells
    what an answer's headers say, ``succeeded`` that it was good.
    """

    dialect: Dialect
    name: str
    sent: Callable[[Call, Context], Sending]
    asked: Callable[[Call, Context, "Started"], Events]
    note: Callable[[Mapping[str, str], Attempt], None]
    succeeded: Callable[[Attempt | None], None]


class Started:
    """One call, sent: see :class:`llm_server.contract.Begun`.

    Attributes:
        failure: what was wrong with the answer, for the ordinary way to raise.
        decoder: what has read a part of a stream, for the ordinary way to go on with.
    """

    __slots__ = ("_call", "_ctx", "_sending", "_taker", "_turned", "_ways", "decoder", "failure")

    def __init__(self, ways: Ways, call: Call, ctx: Context, taker: Taker) -> None:
        self._ways = ways
        self._call = call
        self._ctx = ctx
        self._taker = taker
        self._sending: Sending | None = None
        self._turned = False
        self.failure: Exception | None = None
        self.decoder: StreamDecoder | None = None

    def begin(self) -> None:
        """Encode and send; turn if that cannot be done now."""
        try:
            self._sending = sending = self._ways.sent(self._call, self._ctx)
        except Exception as error:  # noqa: BLE001 - the ordinary way raises it where everybody hears of it
            self.failure = error
            self._turn()
            return
        heard = self._stream if self._call.stream else self._whole
        if not sending.begin(heard, whole=not self._call.stream):
            self._turn()

    def sending(self) -> Sending:
        """Return what was sent, or is to be; raises what kept it from being encoded."""
        if self._sending is None:
            self.check()
        assert self._sending is not None
        return self._sending

    def check(self) -> None:
        """Raise what was wrong with the answer, if anything was."""
        failure, self.failure = self.failure, None
        try:
            if failure is not None:
                raise failure
        finally:
            del failure  # its traceback holds this frame

    def rest(self) -> Events:
        """Return what is left, by the ordinary way; nothing that comes from now on is taken here."""
        self._turned = True
        del self._taker  # which refers to this
        return self._ways.asked(self._call, self._ctx, self)

    def _whole(self) -> None:
        """Take a whole answer, which has come or failed."""
        sending, ways, ctx = self._sending, self._ways, self._ctx
        if self._turned or sending is None:
            return
        body = sending.body()
        if body is None or self._answered(sending) is None:
            self._turn()
            return
        try:
            dialect, call = ways.dialect, self._call
            glimpsed = None if ctx.marked else dialect.glance(call, body)
            answer = glimpsed or dialect.decode(call, body)
        except Exception as error:  # noqa: BLE001 - the ordinary way raises it where everybody hears of it
            self.failure = error
            self._turn()
            return
        sending.finish()
        ways.succeeded(ctx.attempt)
        self._last().take(marked(answer, ways.name) if ctx.marked else answer)

    def _stream(self) -> None:
        """Take what has come of a stream."""
        sending = self._sending
        if self._turned or sending is None:
            return
        decoder = self.decoder
        if decoder is None:
            headers = self._answered(sending)
            if headers is None or not headers.get("content-type", "").startswith(EVENT_STREAM):
                self._turn()
                return
            self.decoder = decoder = self._ways.dialect.decoder(self._call)
        try:
            if piece := sending.taken():
                self._give(decoder.feed(piece))
            over = sending.over()
            if over:
                self._give(decoder.end())
        except Exception as error:  # noqa: BLE001 - the ordinary way raises it where everybody hears of it
            self.failure = error
            self._turn()
            return
        if over:
            sending.finish()
            self._ways.succeeded(self._ctx.attempt)
            self._last().end()
        elif over is None:
            self._turn()

    def _last(self) -> Taker:
        """Return the taker, for the last thing that it takes: nothing refers to it from here any more."""
        taker = self._taker
        del self._taker
        return taker

    def _turn(self) -> None:
        self._turned = True
        self._taker.turn()

    def _answered(self, sending: Sending) -> Mapping[str, str] | None:
        headers = sending.answered()
        attempts = self._ctx.attempts
        if headers is not None and attempts:
            self._ways.note(headers, attempts[-1])
        return headers

    def _give(self, chunks: Iterable[Chunk]) -> None:
        taker, ctx = self._taker, self._ctx
        for chunk in chunks:
            taker.take(marked(chunk, self._ways.name) if ctx.marked else chunk)
