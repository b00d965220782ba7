"""Serve an application on a free port of loopback, in the test's own event loop, by either transport."""

import asyncio
import socket
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager, contextmanager

import pytest
import uvicorn

from llm_server.api.connection import Connection
from llm_server.api.lane import Lane
from llm_server.api.server import Server

TRANSPORTS: dict[str, type[Connection]] = {"lane": Lane, "asgi": Connection}
_chosen: list[type[Connection]] = [Lane]


@pytest.fixture(scope="module")
def transport(request: pytest.FixtureRequest) -> Iterator[str]:
    """Serve by this transport for a while; the hot lane where a test is not parametrized."""
    name = getattr(request, "param", "lane")
    _chosen.append(TRANSPORTS[name])
    yield name
    _chosen.pop()


def over_both_transports(metafunc: pytest.Metafunc) -> None:
    """Run a test that has the fixture ``transport`` once with each."""
    metafunc.parametrize("transport", list(TRANSPORTS), indirect=True, scope="module")


class _Server(uvicorn.Server):
    """uvicorn without signal handlers, that says when it has started."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready, self.stopping = asyncio.Event(), asyncio.Event()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.ready.set()

    async def main_loop(self) -> None:
        """Wait to be stopped; uvicorn would look for that ten times a second, hundreds of tests long."""
        await self.on_tick(0)
        await self.stopping.wait()


@asynccontextmanager
async def serving(app: Server, drain_s: int = 5, idle_s: float = 5) -> AsyncGenerator[str, None]:
    """Yield the base URL of ``app``, started; leaving shuts it down and waits for its requests.

    The fixture :func:`transport` decides whether there is a hot lane.
    """
    # With its protocol named: asyncio turns Nagle's algorithm off for such sockets only, 40 ms a request.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.bind(("127.0.0.1", 0))
    config = uvicorn.Config(
        app,
        http=_chosen[-1],
        log_config=None,
        server_header=False,
        lifespan="on",
        timeout_graceful_shutdown=drain_s,
        timeout_keep_alive=idle_s,  # type: ignore[arg-type]  # any number of seconds will do
        # It would hide the application from the connection.
        proxy_headers=False,
    )
    server = _Server(config)
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
        server.stopping.set()
        await task
        listener.close()
