"""A raw client for whole answers: connections that are kept, one request on each at a time."""

import asyncio
import time
from typing import NamedTuple, cast

import httptools

from bench.processes import address


class Answer(NamedTuple):
    """A whole answer and the seconds from the request to its end. Status 0: the connection failed."""

    status: int
    body: bytes
    took_s: float


class Connection(asyncio.Protocol):
    """One connection to a server."""

    def __init__(self) -> None:
        self.waiting: asyncio.Future[Answer] | None = None
        self.parser = httptools.HttpResponseParser(self)
        self.parts: list[bytes] = []
        self.began = 0.0
        self.open = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's own is no subclass

    def connection_lost(self, exc: Exception | None) -> None:
        self.open = False
        self.settle(Answer(0, str(exc).encode(), time.perf_counter() - self.began))

    def data_received(self, data: bytes) -> None:
        self.parser.feed_data(data)

    def on_message_begin(self) -> None:
        self.parts = []

    def on_body(self, body: bytes) -> None:
        self.parts.append(body)

    def on_message_complete(self) -> None:
        took = time.perf_counter() - self.began
        status = self.parser.get_status_code()
        self.open = self.open and self.parser.should_keep_alive()
        self.settle(Answer(status, b"".join(self.parts), took))

    def settle(self, answer: Answer) -> None:
        waiting, self.waiting = self.waiting, None
        if waiting is not None and not waiting.done():
            waiting.set_result(answer)

    def ask(self, request: bytes, began: float) -> "asyncio.Future[Answer]":
        self.began = began
        self.waiting = asyncio.get_running_loop().create_future()
        self.transport.write(request)
        return self.waiting


class Client:
    """Connections to one server; a request takes an idle one or opens another."""

    def __init__(self, url: str) -> None:
        self.host, self.port = address(url)
        self.idle: list[Connection] = []

    async def ask(self, request: bytes) -> Answer:
        """Send ``request``; the time counts from here, opening a connection included."""
        began = time.perf_counter()
        while self.idle:
            connection = self.idle.pop()
            if connection.open:
                break
        else:
            loop = asyncio.get_running_loop()
            try:
                _, connection = await loop.create_connection(Connection, self.host, self.port)
            except OSError as error:
                return Answer(0, str(error).encode(), time.perf_counter() - began)
        answer = await connection.ask(request, began)
        if connection.open:
            self.idle.append(connection)
        return answer

    def close(self) -> None:
        """Close the idle connections."""
        for connection in self.idle:
            connection.transport.close()
        self.idle.clear()
