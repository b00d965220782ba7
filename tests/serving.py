"""Serve an application on a free port of loopback, in the test's own event loop."""

import asyncio
import socket
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager, contextmanager

import uvicorn

from llm_server.api.connection import Connection
from llm_server.api.lane import Lane
from llm_server.api.server import Server


class _Server(uvicorn.Server):
    """uvicorn without signal handlers, that says when it has started."""

    ready: asyncio.Event

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.ready.set()


@asynccontextmanager
async def serving(app: Server, drain_s: int = 5) -> AsyncGenerator[str, None]:
    """Yield the base URL of ``app``, started; leaving shuts it down and waits for its requests.

    As in the program, its settings say whether there is a hot lane.
    """
    # With its protocol named: asyncio turns Nagle's algorithm off for such sockets only, 40 ms a request.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.bind(("127.0.0.1", 0))
    config = uvicorn.Config(
        app,
        http=Lane if app.config.hot_lane else Connection,
        log_config=None,
        lifespan="on",
        timeout_graceful_shutdown=drain_s,
        # It would hide the application from the connection.
        proxy_headers=False,
    )
    server = _Server(config)
    server.ready = asyncio.Event()
    task = asyncio.create_task(server.serve([listener]))
    ready = asyncio.create_task(server.ready.wait())
    await asyncio.wait((task, ready), return_when=asyncio.FIRST_COMPLETED)
    if not server.ready.is_set():
        ready.cancel()
        await task
        raise RuntimeError("the application did not start")
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        await task
        listener.close()
