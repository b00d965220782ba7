"""The hot lane: hot routes served by the connection itself, without what ASGI costs.

The same endpoints answer; only the transport differs. There is one task per request, and one write per answer
or piece of a stream. Whatever is unusual goes through ASGI as without a lane: other paths and methods,
HTTP/1.0, ``Expect``, an upgrade, and requests that come before the one before them is answered.
"""

import time
from asyncio import AbstractEventLoop, Task
from typing import Any

from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle
from uvicorn.server import ServerState

from llm_server.api.body import headers_of, left_while_sending, too_large
from llm_server.api.connection import Connection
from llm_server.api.endpoint import Endpoint
from llm_server.api.sink import Headers
from llm_server.contract import ServerError


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

    def on_headers_complete(self) -> None:
        """Take a request to a hot route; leave others to ASGI."""
        headers = headers_of(self.headers)
        if not self.check_head(headers):
            return
        endpoint = self._endpoints.get(self.url) or self._endpoints.get(self.url.partition(b"?")[0])
        if endpoint is None or "expect" in headers or not self._is_usual():
            self.to_asgi()
        else:
            self.cycle = self.answering = exchange = Exchange(self, endpoint)
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

    def __init__(self, lane: Lane, endpoint: Endpoint) -> None:
        self._lane = lane
        self._endpoint = endpoint
        self._context = endpoint.context()
        self._parts: list[bytes] = []
        self._size = 0
        self._task: Task[None] | None = None
        self.keep_alive = lane.parser.should_keep_alive()
        self.disconnected = self.response_started = self.response_complete = False

    @property
    def deadline_s(self) -> float:
        """When the answer must be complete (``perf_counter``)."""
        return self._context.deadline_s or 0.0

    def begin(self, headers: dict[str, str]) -> None:
        """Take the headers; a refusal is answered at once, and the body that follows it dropped."""
        self._headers = headers
        try:
            self._endpoint.admit(headers, self._context)
        except ServerError as error:
            self._refuse(error)

    def take(self, body: bytes) -> None:
        """Take a part of the body."""
        if self._task is not None:
            return
        self._parts.append(body)
        self._size += len(body)
        if self._size > self._endpoint.limit_bytes:
            self._parts.clear()
            self._refuse(too_large(self._endpoint.limit_bytes))

    def complete(self) -> None:
        """Begin to answer, if that was not refused."""
        if self._task is None:
            parts, self._parts = self._parts, []  # an idle connection keeps its last exchange
            body = parts[0] if len(parts) == 1 else b"".join(parts)
            self._start(self._endpoint.answer(self._headers, body, self._context, self))

    def _refuse(self, error: ServerError) -> None:
        self._start(self._endpoint.refuse(error, self._context, self))

    def _start(self, answer: Any) -> None:
        self._task = task = self._lane.loop.create_task(self._answered(answer))
        self._lane.tasks.add(task)

    async def _answered(self, answer: Any) -> None:
        try:
            await answer
        finally:
            if self._task is not None:
                self._lane.tasks.discard(self._task)
            if not self.response_complete:
                self._lane.transport.close()

    def leave(self) -> None:
        """Stop answering: the caller has left."""
        if self.disconnected:
            return
        self.disconnected = self._context.left = True
        if self._task is None:
            self._endpoint.unheard(left_while_sending(), self._context)
        else:
            self.cancel()

    def is_late(self) -> bool:
        """Whether the answer has begun to be made and should be complete by now."""
        running = self._task is not None and not self.response_complete
        return running and time.perf_counter() >= self.deadline_s

    def cancel(self) -> None:
        """Cancel the answer; the context tells why."""
        if (task := self._task) is not None and not task.done():
            # One that is cancelled before its first step never comes to its end.
            task.add_done_callback(self._lane.tasks.discard)
            task.cancel()

    # The sink

    async def whole(self, status: int, headers: Headers, body: bytes) -> None:
        """See :meth:`Sink.whole`."""
        lane = self._lane
        if lane.flow.write_paused and not self.disconnected:
            await lane.flow.drain()
        if not self.disconnected:
            head = self._head(status, headers)
            head += (b"\r\n", body)
            lane.transport.write(b"".join(head))
            self._complete()

    async def start(self, headers: Headers, data: bytes) -> None:
        """See :meth:`Sink.start`."""
        self.response_started = True
        head = self._head(200, headers)
        if not self.disconnected:
            head.append(b"transfer-encoding: chunked\r\n\r\n%x\r\n%b\r\n" % (len(data), data))
            self._lane.transport.write(b"".join(head))

    async def write(self, data: bytes) -> None:
        """See :meth:`Sink.write`."""
        lane = self._lane
        if lane.flow.write_paused and not self.disconnected:
            await lane.flow.drain()
        if not self.disconnected:
            lane.transport.write(b"%x\r\n%b\r\n" % (len(data), data))

    async def end(self, data: bytes) -> None:
        """See :meth:`Sink.end`."""
        lane = self._lane
        if lane.flow.write_paused and not self.disconnected:
            await lane.flow.drain()
        if not self.disconnected:
            lane.transport.write(b"%x\r\n%b\r\n0\r\n\r\n" % (len(data), data) if data else b"0\r\n\r\n")
            self._complete()

    def _head(self, status: int, headers: Headers) -> list[bytes]:
        """Return the status and the headers in pieces, without the empty line."""
        pieces = [STATUS_LINE[status], self._lane.defaults()]
        for name, value in headers:
            pieces += (name, b": ", value, b"\r\n")
        if not self.keep_alive:
            pieces.append(b"connection: close\r\n")
        return pieces

    def _complete(self) -> None:
        self.response_complete = True
        if not self.keep_alive:
            if self._lane.linger():
                return
            self._lane.transport.close()
        self._lane.on_response_complete()
