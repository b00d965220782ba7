"""One connection: an HTTP/1.1 request at a time, and what came of it."""

import asyncio
import random
import ssl
from typing import Protocol, cast

from llm_server.contract import ServerError
from llm_server.pool.config import PoolConfig
from llm_server.pool.direct.answer import Answer
from llm_server.pool.direct.reading import Reading
from llm_server.pool.failures import described, not_http, timed_out, too_large, truncated, unreachable
from llm_server.pool.transport import RESEND_WITHIN_S, gives_up

PAUSE_BYTES = 256 * 1024
"""A stream is paused while more than this waits for its reader; one read more may come on top."""
SLICE_BYTES = 256 * 1024
"""Larger bodies are written a slice at a time, as the socket takes them: none holds the event loop."""
JITTER = 0.1
"""Share by which times of connections are shortened at random, so that they do not all end at once."""


class Owner(Protocol):
    """Who keeps connections."""

    def released(self, connection: "Connection") -> None:
        """Take a connection back: its answer has arrived whole and nothing else has."""
        ...

    def lost(self, connection: "Connection") -> None:
        """Forget a connection: it is closed."""
        ...


class Connection(Reading, asyncio.Protocol):
    """Sends one request at a time and fills its :class:`Answer`.

    Whatever ends an exchange early (cancelling, a timeout, a fault of the peer) closes the connection, so
    that no byte of an old answer meets a new request. There is one timer, which looks when it fires whether
    the time that it stands for has moved; a request sets it only if its own time ends sooner.
    """

    __slots__ = (
        "_bare",
        "_begun_s",
        "_config",
        "_due_s",
        "_eof",
        "_first_byte_s",
        "_heard",
        "_idle_s",
        "_loop",
        "_owner",
        "_rest",
        "_sending",
        "_shortest_s",
        "_timer",
        "_timer_s",
        "_transport",
        "_unsent_bytes",
        "expires_s",
        "keepalive_s",
        "kept",
        "opened_s",
        "resumable",
        "retires_s",
    )

    def __init__(self, owner: Owner, config: PoolConfig, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(config.max_header_bytes)
        self._owner = owner
        self._config = config
        self._loop = loop
        self._first_byte_s = config.first_byte_timeout_s
        self._idle_s = config.idle_timeout_s
        self._timer: asyncio.TimerHandle | None = None
        self._timer_s = 0.0
        self._shortest_s = min(
            config.write_timeout_s / 4,
            config.first_byte_timeout_s,
            config.idle_timeout_s,
            config.total_timeout_s,
        )
        self._rest: memoryview | None = None
        self._sending = False
        self._unsent_bytes = 0
        self._eof = False
        self.resumable = False
        """Whether it has TLS whose session nobody has remembered yet."""
        self.opened_s = loop.time()
        shorter = 1 - JITTER * random.random()  # noqa: S311 - spreads load, guards nothing
        self.keepalive_s = config.keepalive_s * shorter
        self.retires_s = self.opened_s + config.max_age_s * shorter
        self.expires_s = self.retires_s
        """When it is closed as idle; set by whoever keeps it."""
        self.kept = False
        """Whether it was idle before the request that it carries."""

    # What an exchange asks for.

    def begin(self, answer: Answer, head: bytes, body: bytes, now: float) -> None:
        """Send a request whose answer fills ``answer``; ``now`` is the loop's time."""
        self._expect(answer)
        answer.source = self
        self._begun_s = now
        self._due_s = due = now + self._first_byte_s
        self._heard = False
        self._bare = self._unsent_bytes = 0
        if len(body) <= SLICE_BYTES:
            self._transport.write(head + body)
        else:
            self._rest = memoryview(body)
            self._transport.write(head)
            self._write_on()
        due = min(due, answer.ends_s, now + self._shortest_s)
        if self._timer is None or self._timer_s > due:
            self._arm(due)

    def resume(self) -> None:
        """Read on, after a pause because nobody took what was read."""
        if self._answer is not None and not self._transport.is_closing():  # uvloop's would raise then
            self._due_s = self._loop.time() + self._idle_s
            self._transport.resume_reading()

    def abandon(self) -> None:
        """Close at once: what follows belongs to nobody."""
        self._answer = None
        self._rest = None
        self._transport.abort()

    def retire(self) -> None:
        """Close an idle connection in the orderly way (with TLS, its session stays good)."""
        self._transport.close()

    def break_off(self) -> None:
        """Close and fail what is under way."""
        if self._answer is None:
            self._transport.abort()
        else:
            self._end(truncated("closed here") if self._heard else unreachable("closed here"))

    def usable(self, now: float) -> bool:
        """Whether it may take another request, as far as can be known here."""
        return now < self.retires_s and not self._transport.is_closing()

    def age_s(self) -> float:
        """Return the seconds since it was opened."""
        return self._loop.time() - self.opened_s

    def info(self, name: str) -> object:
        """Return what the transport knows of itself (``ssl_object``, ``peername``)."""
        return self._transport.get_extra_info(name)

    # What the transport tells.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are of no such class
        self.resumable = transport.get_extra_info("ssl_object") is not None

    def data_received(self, data: bytes) -> None:
        """Read a part of the answer."""
        answer = self._answer
        if answer is None:  # nobody asked: a 408 before a close, or worse
            self._transport.abort()
            return
        self._heard = True
        before, headless = answer.buffered, not answer.status
        self._read(answer, data)
        if self._fault is not None:
            if headless:
                answer.status = 0  # nobody has seen it
            self._end(self._fault)
        elif answer.status == 408 and gives_up(408, answer.headers) and self._closing_already():
            answer.unheard = True
            self._end(unreachable("408 on a connection that was closing"))
        elif self._done:
            self._finish(answer)
        elif answer.buffered > before:
            self._bare = 0
            self._progress(answer)
        else:
            self._barren(answer, len(data))

    def eof_received(self) -> None:
        """Note whether the peer has said all, which with TLS only TLS can say; the transport then closes."""
        secured = self.info("ssl_object")
        self._eof = not isinstance(secured, ssl.SSLObject) or _said_goodbye(secured)

    def connection_lost(self, exc: Exception | None) -> None:
        """End: an answer that only the close ends is complete, any other is broken."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._owner.lost(self)
        answer = self._answer
        if answer is not None:
            self._broken(answer, exc)
        self._rest = None
        self._forget()

    def pause_writing(self) -> None:
        """Note that the socket takes no more for now."""
        self._sending = True
        self._note_progress_of_sending()

    def resume_writing(self) -> None:
        """Write on, or begin to wait for the answer."""
        self._sending = False
        answer = self._answer
        if answer is None:
            return
        if self._rest is not None:
            self._write_on()
        if not self._sending and not answer.status:
            self._due_s = self._loop.time() + self._first_byte_s

    # How an exchange ends, and what happens meanwhile.

    def _progress(self, answer: Answer) -> None:
        """A part of the body has come: tell who waits for it, or keep too much from coming."""
        self._due_s = self._loop.time() + self._idle_s
        if answer.whole:
            if answer.buffered > self._config.max_response_bytes:
                self._end(too_large(self._config.max_response_bytes))
            elif answer.status != 200:
                self._wake(answer)  # a refusal is not read to its end
            return
        if answer.buffered > PAUSE_BYTES and not answer.paused:
            answer.paused = True
            self._transport.pause_reading()
        self._wake(answer)

    def _barren(self, answer: Answer, size: int) -> None:
        """Something came that is no body: a head, or a part of one, or of trailers, or of a chunk's frame."""
        if not answer.status:
            if self._head_bytes > self._config.max_header_bytes:
                self._end(not_http(f"more than {self._config.max_header_bytes} bytes of headers"))
            return
        self._bare += size
        if self._bare > self._config.max_header_bytes:
            self._end(not_http(f"more than {self._config.max_header_bytes} bytes between parts of the body"))
            return
        self._due_s = self._loop.time() + self._idle_s
        if not answer.whole or answer.status != 200:
            self._wake(answer)

    def _finish(self, answer: Answer) -> None:
        self._answer = None
        answer.complete = True
        answer.source = None
        if answer.paused:
            answer.paused = False
            self._transport.resume_reading()
        if self._keep and not self._stray and self._rest is None and not self._unwritten():
            self._owner.released(self)
        else:
            self._rest = None
            self._close()
        self._wake(answer)  # last: who hears of it may send another request at once

    def _end(self, failure: ServerError) -> None:
        """Fail the exchange and close."""
        answer = self._answer
        assert answer is not None
        answer.failure = failure
        self.abandon()
        answer.source = None
        self._wake(answer)

    def _broken(self, answer: Answer, exc: Exception | None) -> None:
        """Say what the connection's end means for the answer that it still owed."""
        self._answer = None
        answer.source = None
        how = described(exc) if exc is not None else "closed"
        if answer.status and self._delimited and exc is None and self._eof:
            answer.complete = True
        elif self._heard:
            answer.failure = truncated(how)
        else:
            answer.failure = unreachable(f"{how} without an answer")
            answer.unheard = self._closing_already()
        self._wake(answer)

    def _closing_already(self) -> bool:
        """Whether what ends this exchange was meant for the connection while it was idle."""
        return self.kept and self._loop.time() - self._begun_s <= RESEND_WITHIN_S

    def _close(self) -> None:
        if self._unwritten():
            self._transport.abort()
        else:
            self._transport.close()

    def _unwritten(self) -> bool:
        return self._sending or self._transport.get_write_buffer_size() > 0

    @staticmethod
    def _wake(answer: Answer) -> None:
        listener = answer.listener
        if listener is not None:
            if answer.complete or answer.failure is not None:
                answer.listener = None  # it refers to what refers to the answer
            listener()
            return
        waiter = answer.waiter
        if waiter is not None:
            answer.waiter = None
            if not waiter.done():
                waiter.set_result(None)

    def _write_on(self) -> None:
        """Write what is left of a large body until the socket takes no more."""
        while self._rest is not None and not self._sending and not self._transport.is_closing():
            answer = self._answer
            if answer is None or answer.status >= 300:
                return  # refused before it was sent whole (RFC 9112 9.3): what is left stays unsent
            rest = self._rest
            self._rest = rest[SLICE_BYTES:] if len(rest) > SLICE_BYTES else None
            self._transport.write(rest[:SLICE_BYTES])

    # Time.

    def _arm(self, when_s: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_s = when_s
        self._timer = self._loop.call_at(when_s, self._tick)

    def _tick(self) -> None:
        """Look whether the exchange's time is over; without an exchange the next one sets the timer."""
        self._timer = None
        answer = self._answer
        if answer is None:
            return
        now = self._loop.time()
        if self._sending and not answer.status and not self._transport.is_closing():
            self._note_progress_of_sending()
        due = answer.ends_s if answer.paused else min(self._due_s, answer.ends_s)
        if now < due:
            self._arm(min(due, now + self._shortest_s))
        else:
            self._end(self._late(answer, now))

    def _note_progress_of_sending(self) -> None:
        """Give sending its time anew if the socket has taken something since the last look."""
        unsent = self._transport.get_write_buffer_size() + (len(self._rest) if self._rest is not None else 0)
        if unsent != self._unsent_bytes:
            self._unsent_bytes = unsent
            self._due_s = self._loop.time() + self._config.write_timeout_s

    def _late(self, answer: Answer, now: float) -> ServerError:
        if now >= answer.ends_s:
            return timed_out("answering", answer.allowed_s)
        if self._sending and not answer.status:
            return timed_out("sending the request", self._config.write_timeout_s)
        if not answer.status:
            return timed_out("waiting for the first byte", self._config.first_byte_timeout_s)
        return timed_out("waiting for more of its answer", self._config.idle_timeout_s)


def _said_goodbye(secured: ssl.SSLObject) -> bool:
    """Whether the peer has ended TLS (RFC 8446 6.1), and not somebody between only TCP (RFC 9112 9.8)."""
    try:
        return secured.read(1) == b""
    except ssl.SSLError:
        return False
