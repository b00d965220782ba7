"""The scripted upstream itself: connections that follow scripts, and the record of what they saw.

Built on asyncio and h11 (not on an HTTP server framework), so that a test decides every byte and every close.
"""

import asyncio
import json
import socket
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import h11

from tests.upstreams.cases import Case, Refusal
from tests.upstreams.script import Close, Head, Hold, Idle, Pause, Raw, Reset, Script, Step, play


@dataclass(frozen=True)
class Request:
    """One request as it arrived. ``target`` has the query, header names are lower case and in order."""

    method: str
    target: str
    raw_headers: tuple[tuple[str, str], ...]
    body: bytes

    @property
    def path(self) -> str:
        """The target without its query."""
        return self.target.partition("?")[0]

    @property
    def headers(self) -> Mapping[str, str]:
        """Headers by lower-case name; of a repeated one, the last."""
        return dict(self.raw_headers)

    def json(self) -> Any:
        """The decoded body."""
        return json.loads(self.body)


Answer = Case | Refusal | Script
Responder = Callable[[Request], Answer]


class Upstream:
    """A running scripted upstream and what it has seen so far."""

    def __init__(self, responder: Responder) -> None:
        self.url = ""
        self.requests: list[Request] = []
        self.open_connections = 0
        self.total_connections = 0
        self.in_flight = 0
        self.abandoned = 0
        """Responses that the client left before their end."""
        self.failures: list[BaseException] = []
        self._responder = responder
        self._changed = asyncio.Event()
        self.connections: set[Connection] = set()

    def script_for(self, request: Request) -> Script:
        """Return what to do about a request."""
        answer = self._responder(request)
        return answer if isinstance(answer, Script) else play(answer)

    def notify(self) -> None:
        """Wake everybody who waits for a condition."""
        self._changed.set()
        self._changed = asyncio.Event()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until a condition over this object's attributes holds."""
        while not condition():
            await self._changed.wait()

    async def wait_requests(self, count: int = 1) -> None:
        """Wait until ``count`` requests have arrived."""
        await self.until(lambda: len(self.requests) >= count)

    async def wait_abandoned(self, count: int = 1) -> None:
        """Wait until the client has left ``count`` responses before their end."""
        await self.until(lambda: self.abandoned >= count)

    async def wait_closed(self) -> None:
        """Wait until no connection is open."""
        await self.until(lambda: self.open_connections == 0)


class Connection(asyncio.Protocol):
    """One client connection: requests in, scripts out, one at a time."""

    def __init__(self, upstream: Upstream) -> None:
        self._up = upstream
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
        self._transport: asyncio.Transport | None = None
        self._task: asyncio.Task[None] | None = None
        self._writable = asyncio.Event()
        self._writable.set()
        self._request: h11.Request | None = None
        self._body = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._up.connections.add(self)
        self._up.open_connections += 1
        self._up.total_connections += 1
        self._up.notify()

    def connection_lost(self, exc: Exception | None) -> None:
        self._up.connections.discard(self)
        self._up.open_connections -= 1
        self._writable.set()
        if self._task is not None and not self._task.done():
            self._up.abandoned += 1
            self._task.cancel()
        self._up.notify()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def data_received(self, data: bytes) -> None:
        self._http.receive_data(data)
        if self._task is None:
            try:
                self._read()
            except h11.RemoteProtocolError as error:
                self._up.failures.append(error)
                self.close()

    def close(self) -> None:
        """Hang up without being asked: the end of the test."""
        if self._task is not None:
            self._task.cancel()
        if self._transport is not None:
            self._transport.abort()

    def _read(self) -> None:
        while True:
            match self._http.next_event():
                case h11.Request() as request:
                    self._request = request
                    if self._http.they_are_waiting_for_100_continue:
                        self._send(h11.InformationalResponse(status_code=100, headers=[]))
                case h11.Data(data=data):
                    self._body += data
                case h11.EndOfMessage():
                    self._serve()
                    return
                case _:
                    return

    def _serve(self) -> None:
        assert self._request is not None
        headers = tuple((name.decode(), value.decode("latin-1")) for name, value in self._request.headers)
        request = Request(
            method=self._request.method.decode(),
            target=self._request.target.decode(),
            raw_headers=headers,
            body=bytes(self._body),
        )
        self._request, self._body = None, bytearray()
        self._up.requests.append(request)
        self._up.in_flight += 1
        self._up.notify()
        self._task = asyncio.get_running_loop().create_task(self._answer(request))
        self._task.add_done_callback(self._answered)

    def _answered(self, task: asyncio.Task[None]) -> None:
        self._task = None
        self._up.in_flight -= 1
        if not task.cancelled() and (error := task.exception()) is not None:
            self._up.failures.append(error)
            self.close()
        self._up.notify()
        if self._http.our_state is h11.DONE and self._http.their_state is h11.DONE:
            self._http.start_next_cycle()
            self._read()

    async def _answer(self, request: Request) -> None:
        head = Head()
        for step in self._up.script_for(request).steps:
            head = step if isinstance(step, Head) else head
            if not await self._step(step):
                return
        self._send(h11.EndOfMessage())
        if self._http.our_state is h11.MUST_CLOSE:
            self._end()

    async def _step(self, step: Step) -> bool:
        """Do one step; return whether the script goes on."""
        match step:
            case Head():
                self._send(h11.Response(status_code=step.status, headers=_headers(step)))
            case bytes():
                await self._writable.wait()
                self._send(h11.Data(data=step))
                await asyncio.sleep(0)  # give the loop its turn: each piece is one write, as from a network
            case Hold():
                step.reached.set()
                await step.until.wait()
            case Idle():
                await asyncio.Event().wait()
            case Pause(seconds=seconds):
                await asyncio.sleep(seconds)
            case Close():
                self._end()
            case Raw():
                self._write(step.data)
                self._end()
            case Reset():
                self._reset()
        return not isinstance(step, Close | Raw | Reset)

    def _send(self, event: Any) -> None:
        self._write(self._http.send(event) or b"")

    def _write(self, data: bytes) -> None:
        assert self._transport is not None
        self._transport.write(data)

    def _end(self) -> None:
        self._task = None  # our own doing: nobody abandoned anything
        assert self._transport is not None
        self._transport.close()

    def _reset(self) -> None:
        self._task = None
        assert self._transport is not None
        sock = self._transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._transport.abort()


def _headers(head: Head) -> list[tuple[str, str]]:
    if head.length is None:
        return [*head.headers.items(), ("transfer-encoding", "chunked")]
    return [*head.headers.items(), ("content-length", str(head.length))]
