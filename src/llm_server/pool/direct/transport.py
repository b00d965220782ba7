"""Connections to one origin: opened when needed, kept for the next request, closed when idle for long."""

import asyncio
import ssl
from collections.abc import Callable, Mapping

from llm_server.contract import HttpRequest, Secret, ServerError
from llm_server.pool import tls
from llm_server.pool.config import PoolConfig
from llm_server.pool.direct.connection import Connection
from llm_server.pool.direct.dialing import Dialer
from llm_server.pool.direct.exchange import Exchange
from llm_server.pool.requests import Heads, check_secrets, origin_of

FIRST_RETRY_S = 1.0
"""Seconds after which a connection that was to be opened ahead is tried again; doubled each time."""
MAX_RETRY_S = 30.0
CLOSE_WITHIN_S = 3.0
"""Seconds that closing waits at most; the longest goodbye of TLS is shorter."""


class DirectTransport:
    """Keeps connections of :mod:`llm_server.pool.direct`; see :class:`llm_server.pool.transport.Transport`.

    The last connection that became free is used first, so that those beyond what is needed stay idle and
    close when ``keepalive_s`` is over; ``min_connections`` stay and are opened anew when the peer closes them
    or they grow too old. Belongs to the event loop that first uses it, until it is closed.
    """

    def __init__(self, base_url: str, config: PoolConfig, headers: Mapping[str, Secret]) -> None:
        self._origin = origin_of(base_url)
        self._config = config
        check_secrets(headers)
        self.max_response_bytes = config.max_response_bytes
        self._total_s = config.total_timeout_s
        self.heads = Heads(self._origin, headers)
        self._dialer = Dialer(self._origin, config)
        self._open: set[Connection] = set()
        self._idle: dict[Connection, None] = {}  # in the order in which they became idle
        self._loop: asyncio.AbstractEventLoop | None = None
        self._sweep_timer: asyncio.TimerHandle | None = None
        self._sweep_s = 0.0
        self._ahead: set[asyncio.Task[None]] = set()
        self._gone: asyncio.Future[None] | None = None
        self._opened = self._reused = 0
        self.resent = 0

    def exchange(self, request: HttpRequest, within_s: float | None = None) -> Exchange:
        """Send ``request`` on entering; see :meth:`llm_server.pool.transport.Transport.exchange`."""
        allowed_s = self._total_s if within_s is None else min(within_s, self._total_s)
        # Asking asyncio for its loop is a system call with Python 3.11: once only.
        return Exchange(self, request, self._loop or self._started(), allowed_s)

    def ready(self) -> bool:
        """Whether a connection is idle."""
        return bool(self._idle)

    def begin(
        self, request: HttpRequest, within_s: float, listener: Callable[[], None], *, whole: bool
    ) -> Exchange | None:
        """Send ``request`` on an idle connection; see :meth:`llm_server.pool.transport.Transport.begin`."""
        exchange = self.exchange(request, within_s)
        return exchange if exchange.begin(listener, whole=whole) else None

    def warm(self) -> None:
        """Begin to open ``min_connections``, without waiting for them."""
        self._started()

    def stats(self) -> Mapping[str, int]:
        """Return the numbers that :meth:`llm_server.pool.transport.Transport.stats` names."""
        return {
            "open": len(self._open),
            "idle": len(self._idle),
            "opened": self._opened,
            "reused": self._reused,
            "resent": self.resent,
        }

    async def close(self) -> None:
        """Close all connections, those in use too, and return when they are. A later request opens anew."""
        self._loop = None
        if self._sweep_timer is not None:
            self._sweep_timer.cancel()
            self._sweep_timer = None
        ahead = tuple(self._ahead)
        for task in ahead:
            task.cancel()
        await asyncio.gather(*ahead, return_exceptions=True)
        await self._dialer.close()
        for connection in tuple(self._open):
            if connection in self._idle:
                connection.retire()
            else:
                connection.break_off()
        self._idle.clear()
        if self._open:
            self._gone = asyncio.get_running_loop().create_future()
            await asyncio.wait([self._gone], timeout=CLOSE_WITHIN_S)
            self._gone = None

    # For exchanges.

    def take(self, now: float) -> Connection | None:
        """Return the connection that became idle last, if there is one; ``now`` is the loop's time."""
        idle = self._idle
        while idle:
            connection, _ = idle.popitem()
            if connection.usable(now):
                connection.kept = True
                self._reused += 1
                return connection
            connection.retire()
        return None

    async def dial(self, within_s: float) -> Connection:
        """Return a new connection; raises ``UPSTREAM_UNREACHABLE`` and ``UPSTREAM_TIMEOUT``."""
        connection = await self._dialer.dial(self, within_s)
        self._open.add(connection)
        self._opened += 1
        return connection

    # For connections.

    def released(self, connection: Connection) -> None:
        """Keep a connection for the next request, unless it is too old or nobody is here any more."""
        loop = self._loop
        if loop is None:
            connection.retire()
            return
        now = loop.time()
        if now >= connection.retires_s:
            connection.retire()
            return
        if connection.resumable:
            self._remember_session(connection)
        connection.expires_s = now + connection.keepalive_s
        self._idle[connection] = None
        ends_s = min(connection.expires_s, connection.retires_s)
        if self._sweep_timer is None or ends_s < self._sweep_s:
            self._look_again(loop, ends_s)

    def lost(self, connection: Connection) -> None:
        """Forget a closed connection, and open another if now there are too few."""
        self._open.discard(connection)
        self._idle.pop(connection, None)
        if self._gone is not None and not self._open and not self._gone.done():
            self._gone.set_result(None)
        if len(self._open) < self._config.min_connections:
            self._fill(FIRST_RETRY_S if connection.age_s() < FIRST_RETRY_S else 0)

    # Who stays, who goes, who comes.

    def _sweep(self) -> None:
        """Close what was idle for too long or is too old, and look again when the next one will be."""
        self._sweep_timer = None
        loop = self._loop
        if loop is None:
            return
        now = loop.time()
        spare = len(self._open) - self._config.min_connections
        for connection in tuple(self._idle):
            old = now >= connection.retires_s
            if old or (now >= connection.expires_s and spare > 0):
                spare -= 1
                del self._idle[connection]
                connection.retire()
        if self._idle:
            ends = (self._ends(connection, now) for connection in self._idle)
            self._look_again(loop, min(ends))

    def _look_again(self, loop: asyncio.AbstractEventLoop, when_s: float) -> None:
        if self._sweep_timer is not None:
            self._sweep_timer.cancel()
        self._sweep_s = when_s
        self._sweep_timer = loop.call_at(when_s, self._sweep)

    def _ends(self, connection: Connection, now: float) -> float:
        """Return when to look at an idle connection again; one that is kept over its time ends by age."""
        if now >= connection.expires_s:
            return min(connection.retires_s, now + connection.keepalive_s)
        return min(connection.retires_s, connection.expires_s)

    def _started(self) -> asyncio.AbstractEventLoop:
        self._loop = loop = asyncio.get_running_loop()
        self._fill()
        return loop

    def _fill(self, after_s: float = 0) -> None:
        """Begin to open as many connections as ``min_connections`` lacks."""
        loop = self._loop
        if loop is None:
            return
        for _ in range(self._config.min_connections - len(self._open) - len(self._ahead)):
            task = loop.create_task(self._open_ahead(after_s))
            self._ahead.add(task)
            task.add_done_callback(self._ahead.discard)

    async def _open_ahead(self, after_s: float) -> None:
        """Open a connection and keep it; try again, ever more rarely, while that fails."""
        while True:
            await asyncio.sleep(after_s)
            try:
                connection = await self.dial(self._config.connect_timeout_s)
            except ServerError:
                after_s = min(max(2 * after_s, FIRST_RETRY_S), MAX_RETRY_S)
            else:
                self.released(connection)
                return

    def _remember_session(self, connection: Connection) -> None:
        secured = connection.info("ssl_object")
        if isinstance(secured, ssl.SSLObject) and isinstance(secured.context, tls.ResumingContext):
            connection.resumable = not secured.context.remember(self._origin.host, secured)
