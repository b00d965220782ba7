"""One client's connection: uvicorn's, with time limits, size limits and a strict reading of HTTP.

uvicorn alone waits for ever for a request that has begun, takes headers of any size, and queues pipelined
requests without end. Its parser (llhttp) refuses most of what proxies and servers read differently (a length
beside a transfer coding, folded lines, bare line feeds, malformed chunks); the rest is refused here.
"""

import math
import re
import socket
import time
from asyncio import AbstractEventLoop, Transport
from collections.abc import Mapping
from typing import Any

import httptools
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from llm_server.api.body import headers_of
from llm_server.api.config import ApiConfig
from llm_server.api.timer import LazyTimer
from llm_server.contract import ErrorKind, ServerError
from llm_server.wire import OPENAI_CHAT

MAX_HEADERS = 256
"""Header fields of one request. Browsers and SDKs send 10 to 30; Apache takes 100, Node.js 2,000."""
MAX_PIPELINED = 128
"""Requests that may wait behind the one that is answered."""
CHUNK_BYTES = 16
"""What a chunk may have around it on average, besides twice the limit on headers for all together: chunk
extensions and trailers are read and dropped, of which a client can send any number (CVE-2023-39326)."""

LINGER_S = 2.0
"""Seconds for which what a refused client still sends is dropped, before its connection is closed (nginx.org,
ngx_http_core_module, lingering_close)."""

_HOST = re.compile(r"(?:[A-Za-z0-9._~%!$&'()*+,;=-]+|\[[0-9A-Fa-f:.]+\])?(?::[0-9]{0,5})?")
"""RFC 3986, 3.2.2 and 3.2.3; empty is allowed (RFC 9110, 7.2)."""


class RefusedError(Exception):
    """What has come is not a request that can be answered; the connection ends with ``status``."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


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
        self._body_bytes = 0
        self._body_parts = 0
        self._upgrades = False
        """Whether the request that is received wants to upgrade, and will be parsed again without that."""
        self._good_host: str | None = ""
        self.answering: RequestResponseCycle | None = None
        self._refusal: RefusedError | None = None
        self.timer = LazyTimer(self.loop, self.expired)

    # The connection's life

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]  # as uvicorn does
        """Begin; the headers of the first request must come in time."""
        super().connection_made(transport)
        sock = transport.get_extra_info("socket")
        if sock is not None and sock.family in {socket.AF_INET, socket.AF_INET6}:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.timer.set(time.perf_counter() + self.limits.header_timeout_s)

    def connection_lost(self, exc: Exception | None) -> None:
        """End; whoever answers is told. uvicorn tells only the last of pipelined requests."""
        self.timer.cancel()
        if self.is_answering() and self.answering is not None:
            self.abandon(self.answering)
        self.pipeline.clear()
        self.cycle = None
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
        self._fed += len(data)
        try:
            self._feed(data)
            if self._receiving:
                self._check_size()
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

    def _feed(self, data: bytes) -> None:
        """Parse ``data``."""
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

        The parser takes what follows such a head for another protocol, and would lose the body.
        """
        method = self.parser.get_method()
        if method == b"CONNECT":
            raise RefusedError(400, "This is no proxy.")
        kept = []
        for name, value in self.headers:
            if name == b"connection":
                kept.append(b"connection: close\r\n" if b"close" in value.lower() else b"")
            elif name != b"upgrade":
                kept.append(b"%b: %b\r\n" % (name, value))
        return b"".join([method, b" ", self.url, b" HTTP/1.1\r\n", *kept, b"\r\n"])

    def _check_size(self) -> None:
        """Refuse a request that has too much besides its body."""
        allowed = self.limits.max_header_bytes
        if self._in_head:
            if self._fed > allowed:
                raise RefusedError(431, f"The headers are larger than the limit of {allowed} bytes.")
        elif self._fed - self._body_bytes > 2 * allowed + CHUNK_BYTES * self._body_parts:
            raise RefusedError(400, "The body's chunks have too much around them.")

    # What the parser finds

    def on_message_begin(self) -> None:
        """Begin a request; what ASGI needs is made when it is known that it goes there."""
        self.url = b""
        self.headers = []
        self._receiving = self._in_head = True
        self._body_bytes = self._body_parts = 0

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take one header field; those after the body (trailers) are dropped: nobody may trust them."""
        if self._in_head:
            self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """Check the headers, then let uvicorn start the application."""
        if self.check_head(headers_of(self.headers)):
            self.to_asgi()

    def to_asgi(self) -> None:
        """Let uvicorn go on with the request whose headers are complete."""
        url, headers = self.url, self.headers
        super().on_message_begin()
        self.url = url
        for name, value in headers:
            super().on_header(name, value)
        super().on_headers_complete()
        # uvicorn stops reading while requests wait and would miss the leaving; here they have a bound.
        self.flow.resume_reading()

    def check_head(self, headers: Mapping[str, str]) -> bool:
        """Note that the headers are complete; return false if they will come again without an upgrade.

        Raises:
            RefusedError: this must not be answered.
        """
        self.version = version = self.parser.get_http_version()
        host = headers.get("host")
        if host != self._good_host or version != "1.1":
            self._check_host(host, version)
        if headers.get("transfer-encoding", "chunked").lower() != "chunked":
            raise RefusedError(400, "The only transfer coding that is understood is chunked.")
        if len(self.headers) > MAX_HEADERS:
            raise RefusedError(431, f"There are more than {MAX_HEADERS} header fields.")
        if self._fed > (limit := self.limits.max_header_bytes) and self._head_bytes() > limit:
            raise RefusedError(431, f"The headers are larger than the limit of {limit} bytes.")
        if len(self.pipeline) >= MAX_PIPELINED:
            raise RefusedError(400, f"More than {MAX_PIPELINED} requests wait for their answers.")
        self._upgrades = self.parser.should_upgrade()
        self._in_head = self._upgrades
        return not self._upgrades

    def _check_host(self, host: str | None, version: str) -> None:
        if version not in {"1.1", "1.0"}:
            raise RefusedError(505, f"HTTP/{version} is not spoken here.")
        if host is None and version == "1.1":
            raise RefusedError(400, "A request needs a Host header.")
        if host is not None and _HOST.fullmatch(host) is None:  # several are joined by a comma and a space
            raise RefusedError(400, "The Host header is not valid, or there are several.")
        if host is not None:
            self._good_host = host

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
        self._receiving, self._in_head, self._fed = False, True, 0
        return True

    # What is answered

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self.answering = cycle
        super()._start_asgi_task(cycle, app)

    def on_response_complete(self) -> None:
        """Go on to what waits: another request, or the end."""
        self.server_state.total_requests += 1
        if self not in self.connections:
            return  # it is lost
        if self.transport.is_closing():
            self.timer.set(time.perf_counter() + self.limits.send_timeout_s)
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
        self.timer.set(time.perf_counter() + self.limits.send_timeout_s)

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
                at_s = min(at_s, now_s + limits.body_idle_timeout_s)
        elif not self._receiving:
            at_s = now_s + self.timeout_keep_alive
        else:
            at_s = now_s + (limits.header_timeout_s if self._in_head else limits.body_idle_timeout_s)
        self.timer.set(at_s)

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
            self.transport.abort()  # closing waits for a client that does not read
        elif self.flow.read_paused and self._refusal is None:
            self.timer.set(time.perf_counter() + self.limits.body_idle_timeout_s)  # it waits for us
        elif self._receiving and self._refusal is None and not self._answered_early():
            self._refuse(RefusedError(408, "The request did not come to its end in time."))
        else:
            self.transport.close()

    def _answered_early(self) -> bool:
        return not self._in_head and self.cycle is not None and self.cycle.response_complete

    # Refusals

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
            self.transport.write(self._rendered(refusal))
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
        if not self._receiving or not self.transport.can_write_eof():
            return False
        self.server_state.total_requests += 1
        self._refusal = RefusedError(400, "It was answered before it was complete.")
        self.transport.write_eof()
        self.timer.set(time.perf_counter() + LINGER_S)
        return True

    def _rendered(self, refusal: RefusedError) -> bytes:
        body = OPENAI_CHAT.error(ServerError(ErrorKind.INVALID_REQUEST, refusal.message), "")
        told: list[tuple[bytes, bytes]] = [
            *self.server_state.default_headers,
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(body)),
            (b"connection", b"close"),
        ]
        lines = [b"%b: %b\r\n" % each for each in told]
        return b"".join([STATUS_LINE[refusal.status], *lines, b"\r\n", body])
