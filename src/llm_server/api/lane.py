"""The hot lane: hot routes served by the connection itself, without what ASGI costs.

The same endpoints answer; only the transport differs. A plain call goes the short way; any other has a task.
There is one write per answer or piece of a stream. Whatever is unusual goes through ASGI as without a lane:
other paths and methods, HTTP/1.0, ``Expect``, an upgrade, and requests that come before the one before them
is answered.
"""

import logging
import time
from asyncio import AbstractEventLoop, Task
from collections.abc import Mapping
from typing import Any

from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle
from uvicorn.server import ServerState

from llm_server.api.body import headers_of, left_while_sending, too_large
from llm_server.api.connection import Connection
from llm_server.api.endpoint import Endpoint
from llm_server.api.headers import written
from llm_server.api.heads import Head, learned
from llm_server.api.short import ShortReply
from llm_server.api.sink import Headers
from llm_server.contract import Events, ServerError

_log = logging.getLogger(__name__)

MAX_FORGOTTEN = 8
"""Heads that were learned on one connection, after which no more are: every request of it has another."""

_OK = STATUS_LINE[200]
_CLOSE = b"connection: close\r\n"
_CHUNKED = b"transfer-encoding: chunked\r\n\r\n"


class Lane(Connection):
    """Serves hot routes itself and everything else through ASGI (``http=Lane``).

    The application must have ``lane`` too: endpoints by the bytes of their path, all ``POST``.
    """

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._endpoints: dict[bytes, Endpoint] = config.loaded_app.lane
        self._defaults: Headers = []
        self._rendered_defaults = b""
        self._head: Head | None = None
        self._forgotten = 0

    def data_received(self, data: bytes) -> None:
        """Take what has come: the head of the last request again, or whatever else."""
        if self._receiving or self._fed or self._refusal is not None or self.is_answering():
            super().data_received(data)
            return
        head = self._head
        body = None if head is None else head.body(data)
        if head is not None and body is not None:
            self.cycle = self.answering = exchange = Exchange(self, head.endpoint, keep_alive=True)
            exchange.again(head, body)
            if not exchange.response_complete and not self.flow.write_paused:
                self.timer.set(exchange.deadline_s)
            return
        before = self.answering
        super().data_received(data)
        answering = self.answering
        if answering is not before and type(answering) is Exchange and not self._receiving:
            self._learn(data, answering)

    def _learn(self, data: bytes, exchange: "Exchange") -> None:
        """Remember the head, unless every request of this client has one of its own."""
        if self._forgotten < MAX_FORGOTTEN and exchange.keep_alive:
            self._forgotten += 1
            self._head = learned(data, exchange.endpoint, exchange.headers)

    def on_headers_complete(self) -> None:
        """Take a request to a hot route; leave others to ASGI."""
        self._head = None  # this one is another, and may be the last
        headers = headers_of(self.headers)
        if not self.check_head(headers):
            return
        endpoint = self._endpoints.get(self.url) or self._endpoints.get(self.url.partition(b"?")[0])
        if endpoint is None or "expect" in headers or not self._is_usual():
            self.to_asgi()
        else:
            alive = self.parser.should_keep_alive()
            self.cycle = self.answering = exchange = Exchange(self, endpoint, keep_alive=alive)
            exchange.begin(headers)

    def _is_usual(self) -> bool:
        parser = self.parser
        return parser.get_method() == b"POST" and self.version == "1.1" and not self.is_answering()

    def on_body(self, body: bytes) -> None:
        """Take a part of the body."""
        cycle = self.cycle
        if type(cycle) is Exchange:
            self.count_body(body)
            cycle.take(body)
        else:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """Begin to answer."""
        cycle = self.cycle
        if type(cycle) is not Exchange:
            super().on_message_complete()
        elif self.end_message():
            cycle.complete()

    def abandon(self, cycle: RequestResponseCycle) -> None:
        """Cancel whoever answers."""
        if type(cycle) is Exchange:
            cycle.leave()
        else:
            super().abandon(cycle)

    def exchanged(self) -> None:
        """Go on after an answer: at once if nothing else waits."""
        if (
            self._receiving
            or self.pipeline
            or self._refusal is not None
            or self.flow.write_paused
            or self.transport.is_closing()
            or self.flow.read_paused
        ):
            self.on_response_complete()
        else:
            self.server_state.total_requests += 1
            self.timer.set(time.perf_counter() + self.timeout_keep_alive)

    def pause_writing(self) -> None:
        """Let an answer go the ordinary way, which waits for the client to read."""
        super().pause_writing()
        if type(self.answering) is Exchange:
            self.loop.call_soon(self.answering.turn)  # after what is being written now

    def shutdown(self) -> None:
        """Let an answer go the ordinary way, where the end of the server's patience is heard."""
        if type(self.answering) is Exchange:
            self.answering.turn()
        super().shutdown()

    def answer_by_s(self) -> float:
        """Return when the answer must be complete."""
        answering = self.answering
        return answering.deadline_s if type(answering) is Exchange else super().answer_by_s()

    def expired(self) -> None:
        """Cancel what takes too long, which its caller is told."""
        answering = self.answering
        if type(answering) is Exchange and answering.is_late() and not self.flow.write_paused:
            answering.cancel()
        else:
            super().expired()

    def defaults(self) -> bytes:
        """Return the headers of every answer (the date), as uvicorn keeps them, ready to write."""
        current = self.server_state.default_headers
        if current is not self._defaults:
            self._defaults = current
            self._rendered_defaults = b"".join([b"%b: %b\r\n" % each for each in current])
        return self._rendered_defaults


class Exchange(RequestResponseCycle):
    """One request on the lane and its answer: the sink of the one, and for uvicorn a cycle like others."""

    headers: Mapping[str, str]
    """Set when they are complete."""

    def __init__(self, lane: Lane, endpoint: Endpoint, *, keep_alive: bool) -> None:
        self._lane = lane
        self.endpoint = endpoint
        self._context = endpoint.context()
        self._parts: list[bytes] = []
        self._size = 0
        self._short: ShortReply | None = None
        self._task: Task[None] | None = None
        self._stepped = False
        self.keep_alive = keep_alive
        self.disconnected = self.response_started = self.response_complete = False

    @property
    def deadline_s(self) -> float:
        """When the answer must be complete (``perf_counter``)."""
        return self._context.deadline_s or 0.0

    def again(self, head: Head, body: bytes) -> None:
        """Take a whole request whose head has been taken before."""
        self.headers = head.headers
        if head.admits:
            self.begin(head.headers)
        if self._task is None:
            if len(body) > self.endpoint.limit_bytes:
                self._refuse(too_large(self.endpoint.limit_bytes))
            else:
                self._answer(body)

    def begin(self, headers: Mapping[str, str]) -> None:
        """Take the headers; a refusal is answered at once, and the body that follows it dropped."""
        self.headers = headers
        try:
            self.endpoint.admit(headers, self._context)
        except ServerError as error:
            self._refuse(error)

    def take(self, body: bytes) -> None:
        """Take a part of the body."""
        if self._task is not None:
            return
        self._parts.append(body)
        self._size += len(body)
        if self._size > self.endpoint.limit_bytes:
            self._parts.clear()
            self._refuse(too_large(self.endpoint.limit_bytes))

    def complete(self) -> None:
        """Begin to answer, if that was not refused."""
        if self._task is None:
            parts, self._parts = self._parts, []  # an idle connection keeps its last exchange
            self._answer(parts[0] if len(parts) == 1 else b"".join(parts))

    def _answer(self, body: bytes) -> None:
        """Answer by the short way, if there is one."""
        endpoint, context = self.endpoint, self._context
        try:
            reply = self._short = None if self._lane.flow.write_paused else self._reply(body)
            begun = reply is not None and reply.begin(endpoint.begin)
        except ServerError as error:
            self._refuse(error)
            return
        except Exception:  # noqa: BLE001 - a bug of the short way alone must not cost the answer
            _log.exception("request %s cannot go the short way", context.request_id)
            reply, begun = None, False
        if reply is None:
            self._start(endpoint.answer(self.headers, body, context, self))
        elif not begun:
            self._turned(endpoint.ask(reply.call, context))
        elif reply.call.stream:
            reply.keep_alive(endpoint.keepalive_s, self._lane.loop)

    def _reply(self, body: bytes) -> ShortReply | None:
        reply = self.endpoint.short(self.headers, body, self._context, self)
        if reply is not None:
            reply.turned = self._turned
        return reply

    def _turned(self, answers: Events) -> None:
        reply = self._short
        assert reply is not None
        self._start(self.endpoint.finish(reply.call, answers, self._context, reply))

    def turn(self) -> None:
        """Let the ordinary way go on with an answer that goes the short one."""
        if self._short is not None and self._short.is_short():
            self._short.turn()

    def _refuse(self, error: ServerError) -> None:
        self._start(self.endpoint.refuse(error, self._context, self))

    def _start(self, answer: Any) -> None:
        self._task = task = self._lane.loop.create_task(self._answered(answer))
        self._lane.tasks.add(task)

    async def _answered(self, answer: Any) -> None:
        self._stepped = True
        try:
            await answer
        finally:
            self._short = None  # which refers to this
            if self._task is not None:
                self._lane.tasks.discard(self._task)
            if not self.response_complete:
                self._lane.transport.close()

    def leave(self) -> None:
        """Stop answering: the caller has left."""
        if self.disconnected:
            return
        self.disconnected = self._context.left = True
        if self._task is None and self._short is None:
            self.endpoint.unheard(left_while_sending(), self._context)
        else:
            self.cancel()

    def is_late(self) -> bool:
        """Whether the answer has begun to be made and should be complete by now."""
        running = (self._task is not None or self._short is not None) and not self.response_complete
        return running and time.perf_counter() >= self.deadline_s

    def cancel(self) -> None:
        """Cancel the answer; the context tells why."""
        self.turn()
        if self._task is None or self._task.done():
            return
        if self._stepped:
            self._task.cancel()
        else:
            # A task that is cancelled before its first step never comes to its end, nor does what was begun.
            self._lane.loop.call_soon(self.cancel)

    # The sink

    async def whole(self, status: int, headers: Headers, body: bytes) -> None:
        """See :meth:`Sink.whole`."""
        lane = self._lane
        if lane.flow.write_paused and not self.disconnected:
            await lane.flow.drain()
        self._put_whole(STATUS_LINE[status], written(headers), body)

    async def start(self, headers: Headers, data: bytes) -> None:
        """See :meth:`Sink.start`."""
        self.put_start(written(headers), data)

    async def write(self, data: bytes) -> None:
        """See :meth:`Sink.write`."""
        lane = self._lane
        if lane.flow.write_paused and not self.disconnected:
            await lane.flow.drain()
        self.put(data)

    async def end(self, data: bytes) -> None:
        """See :meth:`Sink.end`."""
        lane = self._lane
        if lane.flow.write_paused and not self.disconnected:
            await lane.flow.drain()
        self.put_end(data)

    def put_whole(self, lines: bytes, body: bytes) -> None:
        """See :meth:`PromptSink.put_whole`."""
        self._put_whole(_OK, b"%bcontent-length: %d\r\n" % (lines, len(body)), body)

    def put_start(self, lines: bytes, data: bytes) -> None:
        """See :meth:`PromptSink.put_start`."""
        self.response_started = True
        if not self.disconnected:
            lane = self._lane
            close = b"" if self.keep_alive else _CLOSE
            pieces = (_OK, lane.defaults(), lines, close, _CHUNKED, b"%x\r\n" % len(data), data, b"\r\n")
            lane.transport.write(b"".join(pieces))

    def put(self, data: bytes) -> None:
        """See :meth:`PromptSink.put`."""
        if not self.disconnected:
            self._lane.transport.write(b"%x\r\n%b\r\n" % (len(data), data))

    def put_end(self, data: bytes) -> None:
        """See :meth:`PromptSink.put_end`."""
        if not self.disconnected:
            end = b"%x\r\n%b\r\n0\r\n\r\n" % (len(data), data) if data else b"0\r\n\r\n"
            self._lane.transport.write(end)
            self._complete()

    def _put_whole(self, status: bytes, lines: bytes, body: bytes) -> None:
        if not self.disconnected:
            lane = self._lane
            end = b"\r\n" if self.keep_alive else _CLOSE + b"\r\n"
            lane.transport.write(b"".join((status, lane.defaults(), lines, end, body)))
            self._complete()

    def _complete(self) -> None:
        self.response_complete = True
        self._short = None  # which refers to this
        if not self.keep_alive:
            if self._lane.linger():
                return
            self._lane.transport.close()
        self._lane.exchanged()
