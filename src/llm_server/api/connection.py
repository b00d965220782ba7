"""One client's connection: uvicorn's, with time limits, size limits and a strict reading of HTTP.

uvicorn alone waits for ever for a request that has begun, takes headers of any size, and queues pipelined
requests without end. Its parser (llhttp) refuses most of what proxies and servers read differently (a length
beside a transfer coding, folded lines, bare line feeds, malformed chunks); the rest is refused here.
"""

import math
import socket
import time
from asyncio import AbstractEventLoop, Transport
from collections.abc import Mapping
from typing import Any

import httptools
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from llm_server.api.body import headers_of
from llm_server.api.config import ApiConfig
from llm_server.api.cycle import cycle_of
from llm_server.api.refusal import (
    RefusedError,
    check_coding,
    check_host,
    ending,
    headers_too_large,
    lines_without_upgrade,
)
from llm_server.api.taking import Taking
from llm_server.api.timer import LazyTimer

MAX_HEADERS = 256
"""Header fields of one request. Browsers and SDKs send 10 to 30; Apache takes 100, Node.js 2,000."""
MAX_PIPELINED = 128
"""Requests that may wait behind the one that is answered."""
CHUNK_BYTES = 16
"""What a chunk may have around it on average, besides twice the limit on headers for all together: chunk
extensions and trailers are read and dropped, of which a client can send any number (CVE-2023-39326)."""

SLOWEST = 500
"""Bytes of a body in a second that keep it from being late once it has taken a whole request's time (httpd's
mod_reqtimeout, ``MinRate``)."""

LOOKS = 4
"""How often within the time that a client may take nothing it is looked at whether it does."""
LINGER_S = 2.0
"""Seconds for which what a refused client still sends is dropped, before its connection is closed (nginx.org,
ngx_http_core_module, lingering_close)."""


class Connection(HttpToolsProtocol):
    """Serves every request through ASGI. uvicorn makes one for each connection (``http=Connection``).

    The application must have ``config``, an :class:`ApiConfig`. All time limits share one timer, which is set
    anew only when it fires or a limit comes before it: a connection in good use costs no timer per request.
    """

    cycle: RequestResponseCycle | None  # type: ignore[assignment]  # uvicorn says so only by a comment

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.limits: ApiConfig = config.loaded_app.config
        self._in_head = True
        """Whether the headers of the next request are not complete: also while nothing of it has come."""
        self._receiving = False
        """Whether a request has begun and is not complete."""
        self._fed = 0
        """Bytes that came since the last request was complete, without those that came with its end."""
        self._piece = self._with_end = 0
        """Bytes that are parsed at once now, and those that came with the end of the last request."""
        self._body_bytes = 0
        self._body_parts = 0
        self._body_by_s = 0.0
        """When a body must be complete of which nothing more comes; 0 before that is asked."""
        self._upgrades = False
        """Whether the request that is received wants to upgrade, and will be parsed again without that."""
        self._good_host: str | None = ""
        self.answering: RequestResponseCycle | None = None
        self._refusal: RefusedError | None = None
        self._lingers = False
        self.timer = LazyTimer(self.loop, self.expired)

    # The connection's life

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]  # as uvicorn does
        """Begin; the headers of the first request must come in time."""
        super().connection_made(transport)
        sock = transport.get_extra_info("socket")
        if sock is not None and sock.family in {socket.AF_INET, socket.AF_INET6}:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._taking = Taking(transport)
        self.timer.set(time.perf_counter() + self.limits.header_timeout_s)

    def connection_lost(self, exc: Exception | None) -> None:
        """End; whoever answers is told. uvicorn tells only the last of pipelined requests."""
        self.timer.cancel()
        if self.is_answering() and self.answering is not None:
            self.abandon(self.answering)
        self.pipeline.clear()
        self.cycle = self.answering = None  # they know the connection too: nobody looks for such rings soon
        super().connection_lost(exc)

    def abandon(self, cycle: RequestResponseCycle) -> None:
        """Let whoever answers ``cycle`` know that nobody will hear it."""
        cycle.disconnected = True
        cycle.message_event.set()

    def data_received(self, data: bytes) -> None:
        """Take what has come."""
        if self._refusal is not None:
            return
        begun = self._receiving
        try:
            if len(data) + self._fed > self.limits.max_header_bytes:
                self._feed_in_pieces(data)
            else:
                self._fed += len(data)
                self._feed(data)
        except RefusedError as refused:
            self._refuse(refused)
            return
        if self._receiving:
            first = self.cycle is None and self._in_head
            if first or (begun and (self._in_head or self._answered_early())):
                return  # the time that it has runs from its beginning
        elif self._fed:
            return  # nothing but line ends
        self.expect()

    def _feed_in_pieces(self, data: bytes) -> None:
        """Parse ``data``, of which no headers get more than they may be: the parser keeps less than came."""
        at, most = 0, self.limits.max_header_bytes
        while at < len(data):
            may = most - self._fed if self._in_head else most
            if may <= 0:
                raise headers_too_large(most)
            piece = data[at : at + may]
            at += may
            self._fed += len(piece)
            self._feed(piece)
            if self._receiving and not self._in_head:
                self._check_chunks()

    def _feed(self, data: bytes) -> None:
        """Parse ``data``."""
        self._piece = len(data)
        while data:
            try:
                self.parser.feed_data(data)
                return
            except httptools.HttpParserUpgrade as upgrade:
                data = self._without_upgrade() + data[upgrade.args[0] :]
            except httptools.HttpParserCallbackError as error:
                if isinstance(error.__context__, RefusedError):
                    raise error.__context__ from None
                raise RefusedError(400, "The request's target is not valid.") from error
            except httptools.HttpParserError as error:
                raise RefusedError(400, f"This is not valid HTTP: {error}.") from error

    def _without_upgrade(self) -> bytes:
        """Return the head of the request to be parsed again: a wish to upgrade is ignored (RFC 9110, 7.8).

        The parser takes what follows such a head for another protocol, and would lose the body. One that is
        told to close takes nothing more at all, so that there must be another.
        """
        method, version = self.parser.get_method(), self.version
        if method == b"CONNECT":
            raise RefusedError(400, "This is no proxy.")
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        line = b"%b %b HTTP/%b\r\n" % (method, self.url, version.encode())
        return b"".join([line, *lines_without_upgrade(self.headers), b"\r\n"])

    def _check_chunks(self) -> None:
        """Refuse a request that has too much besides its body."""
        allowed = self.limits.max_header_bytes
        if self._fed - self._body_bytes > 2 * allowed + CHUNK_BYTES * self._body_parts:
            raise RefusedError(400, "The body's chunks have too much around them.")

    # What the parser finds

    def on_message_begin(self) -> None:
        """Begin a request; what ASGI needs is made when it is known that it goes there."""
        self.url = b""
        self.headers = []
        self._receiving = self._in_head = True
        self._body_bytes = self._body_parts = 0
        self._body_by_s = 0.0

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take one header field; those after the body (trailers) are dropped: nobody may trust them."""
        if self._in_head:
            self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """Check the headers, then let uvicorn start the application."""
        if self.check_head(headers_of(self.headers)):
            self.to_asgi()

    def to_asgi(self) -> None:
        """Let uvicorn go on with the request whose headers are complete.

        Those that wait behind another are read on, so that leaving is noticed: they have a bound.
        """
        waits = self.is_answering()
        self.cycle = cycle = cycle_of(self, self.linger)
        if waits:
            self.pipeline.appendleft((cycle, self.app))
        else:
            self._start_asgi_task(cycle, self.app)

    def check_head(self, headers: Mapping[str, str]) -> bool:
        """Note that the headers are complete; return false if they will come again without an upgrade.

        Raises:
            RefusedError: this must not be answered.
        """
        self.version = version = self.parser.get_http_version()
        host = headers.get("host")
        if host != self._good_host or version != "1.1":
            check_host(host, version)
            self._good_host = host or self._good_host
        if (coding := headers.get("transfer-encoding")) is not None:
            check_coding(coding, version)
        if len(self.headers) > MAX_HEADERS:
            raise RefusedError(431, f"There are more than {MAX_HEADERS} header fields.")
        limit = self.limits.max_header_bytes
        if self._fed + self._with_end > limit and self._head_bytes() > limit:
            raise headers_too_large(limit)
        if len(self.pipeline) >= MAX_PIPELINED:
            raise RefusedError(400, f"More than {MAX_PIPELINED} requests wait for their answers.")
        self._upgrades = self.parser.should_upgrade()
        self._in_head = self._upgrades
        return not self._upgrades

    def _head_bytes(self) -> int:
        return len(self.url) + sum([len(name) + len(value) + 4 for name, value in self.headers])

    def on_body(self, body: bytes) -> None:
        """Take a part of the body."""
        self.count_body(body)
        super().on_body(body)

    def count_body(self, body: bytes) -> None:
        """Note how much of the body has come."""
        self._body_bytes += len(body)
        self._body_parts += 1

    def on_message_complete(self) -> None:
        """Note that the request is complete."""
        if self.end_message():
            super().on_message_complete()

    def end_message(self) -> bool:
        """Note that the request is complete; return false if it will come again without an upgrade."""
        if self._upgrades:
            return False
        self._receiving, self._in_head, self._fed, self._with_end = False, True, 0, self._piece
        return True

    # What is answered

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self.answering = cycle
        super()._start_asgi_task(cycle, app)

    def on_response_complete(self) -> None:
        """Go on to what waits: another request, or the end."""
        if self._lingers:
            return  # it is counted
        self.server_state.total_requests += 1
        if self not in self.connections:
            return  # it is lost
        if self.transport.is_closing():
            self._watch_taking()
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
        elif self._refusal is not None:
            self._end(self._refusal)
            return
        self.expect()

    def pause_writing(self) -> None:
        """Make whoever answers wait: the client does not read. It must go on in time."""
        super().pause_writing()
        self._watch_taking()

    def resume_writing(self) -> None:
        """Let whoever answers go on."""
        super().resume_writing()
        self.expect()

    # Time

    def expect(self) -> None:
        """Set the time until which something must happen, from what the connection is at."""
        if self.flow.write_paused or self.transport.is_closing() or self._refusal is not None:
            return
        limits, now_s = self.limits, time.perf_counter()
        if self.is_answering():
            at_s = self.answer_by_s()
            if self._awaits_body():
                at_s = min(at_s, self._rest_by_s(now_s))
        elif not self._receiving:
            at_s = now_s + self.timeout_keep_alive
        else:
            at_s = now_s + limits.header_timeout_s if self._in_head else self._rest_by_s(now_s)
        self.timer.set(at_s)

    def _rest_by_s(self, now_s: float) -> float:
        """Return when more of the body must have come: none may take for ever, however it drips."""
        limits = self.limits
        if not self._body_by_s:
            self._body_by_s = now_s + limits.request_timeout_s
        return min(now_s + limits.body_idle_timeout_s, self._body_by_s + self._body_bytes / SLOWEST)

    def answer_by_s(self) -> float:
        """Return when the answer must be complete; here the application sees to that itself."""
        return math.inf

    def is_answering(self) -> bool:
        """Whether a request has been taken and is not answered."""
        return self.cycle is not None and not self.cycle.response_complete

    def _awaits_body(self) -> bool:
        """Whether the rest of the request that is answered is to come: not of one that waits behind it."""
        return self._receiving and not self._in_head and not self.pipeline

    def expired(self) -> None:
        """Close the connection, whose time has come; a request that has begun is told so."""
        if self.transport.is_closing() or self.flow.write_paused or self.transport.get_write_buffer_size():
            self._look_at_taking()  # closing waits for a client that does not read
        elif self.flow.read_paused and self._refusal is None:
            self.timer.set(time.perf_counter() + self.limits.body_idle_timeout_s)  # it waits for us
        elif self._receiving and self._refusal is None and not self._answered_early():
            self._refuse(RefusedError(408, "The request did not come to its end in time."))
        else:
            self.transport.close()

    def _watch_taking(self) -> None:
        self._taking.begin()
        self.timer.set(time.perf_counter() + self.limits.send_timeout_s / LOOKS)

    def _look_at_taking(self) -> None:
        """Close the connection if its client has taken nothing for too long."""
        may_rest_s = self.limits.send_timeout_s
        left_s = may_rest_s - self._taking.resting_s(may_rest_s)
        if left_s > 0:
            self.timer.set(time.perf_counter() + min(left_s, may_rest_s / LOOKS))
        else:
            self.transport.abort()

    def _answered_early(self) -> bool:
        return not self._in_head and self.cycle is not None and self.cycle.response_complete

    # Refusals

    def shutdown(self) -> None:
        """Take no more requests: the server ends. What was taken is answered, what was begun is told."""
        if self._refusal is not None:
            return
        if self._receiving and self._in_head:
            self._refuse(ending())
        elif self._receiving and self._answered_early():
            self.linger()
        else:
            super().shutdown()

    def give_up(self) -> None:
        """Wait no longer for the rest of a request: the time to end has come. Its client is told.

        Those behind the one that is answered are not begun, which the end of the connection tells.
        """
        if self.pipeline and self.answering is not None:
            self.pipeline.clear()
            self.answering.keep_alive = False
        if self._refusal is None and self._receiving and not self._answered_early():
            self._refuse(ending())

    def _refuse(self, refusal: RefusedError) -> None:
        """End the connection with ``refusal``, after the answers to what came before it."""
        self._refusal = refusal
        answering = self.answering
        earlier = answering is not None and not answering.response_complete and not self._is_for(answering)
        if earlier or self.pipeline:
            self.flow.pause_reading()
            self.timer.set(math.inf)
        else:
            self._end(refusal)

    def _is_for(self, cycle: Any) -> bool:
        """Whether what is being received is the request that ``cycle`` answers."""
        return self._receiving and not self._in_head and self.cycle is cycle

    def _end(self, refusal: RefusedError) -> None:
        cycle = self.cycle
        begun = cycle is not None and not cycle.response_complete and cycle.response_started
        if not begun and not self._answered_early():
            self.transport.write(refusal.rendered(self.server_state.default_headers))
        if self.transport.can_write_eof():
            # What has not been read when a socket is closed makes the client lose what it was told.
            self.transport.write_eof()
        else:
            self.transport.close()
        if cycle is not None and not cycle.response_complete:
            self.abandon(cycle)
        self.timer.set(time.perf_counter() + LINGER_S)

    def linger(self) -> bool:
        """Drop what is still coming of a request that has its answer; return false if nothing is.

        What has not been read when a socket is closed makes the client lose what it was told.
        """
        if not self._receiving or self.transport.is_closing() or not self.transport.can_write_eof():
            return False
        self.server_state.total_requests += 1
        self._refusal, self._lingers = RefusedError(400, "It was answered before it was complete."), True
        self.flow.resume_reading()
        self.transport.write_eof()
        self.timer.set(time.perf_counter() + LINGER_S)
        return True
