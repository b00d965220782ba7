"""New connections: names, both families of addresses, TLS."""

import asyncio
import ipaddress
import socket
import sys
from collections.abc import Sequence

import aiohappyeyeballs

from llm_server.contract import ServerError
from llm_server.pool import tls
from llm_server.pool.config import PoolConfig
from llm_server.pool.direct.connection import Connection, Owner
from llm_server.pool.failures import described, timed_out, unreachable
from llm_server.pool.requests import Origin

ATTEMPT_DELAY_S = 0.25
"""Head start of one address over the next of the other family (RFC 8305 5 recommends 250 ms)."""
NAMES_TTL_S = 10.0
"""Seconds that addresses are remembered: enough for a burst of connections, short for a name that moves."""
TLS_SHUTDOWN_S = 1.0
"""Seconds for the peer's goodbye; nothing depends on it."""
PROBE_AFTER_S = 60
"""Seconds of silence after which the kernel asks whether the peer is still there, and between asking.

Whole answers are silent for minutes while they are generated; routers and load balancers forget connections
sooner. These are the values of the vendors' SDKs (anthropic-sdk-python ``_base_client.py``).
"""
PROBES = 5

Address = tuple[int, int, int, str, tuple[str, int] | tuple[str, int, int, int] | tuple[int, bytes]]


class Dialer:
    """Opens connections to one origin."""

    def __init__(self, origin: Origin, config: PoolConfig) -> None:
        self._origin = origin
        self._config = config
        self._looking: asyncio.Task[Sequence[Address]] | None = None
        self._found: Sequence[Address] = ()
        self._found_s = 0.0

    async def dial(self, owner: Owner, within_s: float) -> Connection:
        """Return a new connection; ``within_s`` may shorten the configured time.

        Raises:
            ServerError: ``UPSTREAM_UNREACHABLE``, ``UPSTREAM_TIMEOUT``.
        """
        limit_s = min(self._config.connect_timeout_s, within_s)
        failure: ServerError
        try:
            async with asyncio.timeout(limit_s):
                return await self._connect(owner)
        except TimeoutError:
            failure = timed_out("connecting", limit_s)
        except OSError as error:
            self._found = ()  # it may have moved
            failure = unreachable(described(error))
        raise failure

    async def close(self) -> None:
        """End a look-up that nobody waits for any more."""
        looking, self._looking = self._looking, None
        if looking is not None:
            looking.cancel()
            await asyncio.gather(looking, return_exceptions=True)

    async def _connect(self, owner: Owner) -> Connection:
        loop = asyncio.get_running_loop()
        # Reading certificates takes long the first time: not in the event loop.
        secured = await asyncio.to_thread(tls.context, self._config) if self._origin.tls else None
        sock = await aiohappyeyeballs.start_connection(
            await self._addresses(), happy_eyeballs_delay=ATTEMPT_DELAY_S, interleave=1
        )
        _probing(sock)
        _, connection = await loop.create_connection(
            lambda: Connection(owner, self._config, loop),
            sock=sock,
            ssl=secured,
            server_hostname=self._origin.host.partition("%")[0] if secured else None,
            ssl_handshake_timeout=self._config.connect_timeout_s if secured else None,
            ssl_shutdown_timeout=TLS_SHUTDOWN_S if secured else None,
        )
        return connection

    async def _addresses(self) -> Sequence[Address]:
        """Return the host's addresses; requests that ask at once share a look-up."""
        loop = asyncio.get_running_loop()
        if self._found and loop.time() - self._found_s < NAMES_TTL_S:
            return self._found
        if (literal := _literal(self._origin)) is not None:
            return [literal]
        if self._looking is None or self._looking.done():
            self._looking = loop.create_task(self._look_up())
        # Whoever is cancelled while waiting does not cancel the others' look-up.
        self._found = await asyncio.shield(self._looking)
        self._found_s = loop.time()
        return self._found

    async def _look_up(self) -> Sequence[Address]:
        loop = asyncio.get_running_loop()
        return await loop.getaddrinfo(self._origin.host, self._origin.port, type=socket.SOCK_STREAM)


def _literal(origin: Origin) -> Address | None:
    """Return the address that the host itself is, if it is one without a zone."""
    try:
        address = ipaddress.ip_address(origin.host)
    except ValueError:
        return None
    if address.version == 4:
        return (socket.AF_INET, socket.SOCK_STREAM, 0, "", (origin.host, origin.port))
    if "%" in origin.host:
        return None  # the zone's number is the system's to say
    return (socket.AF_INET6, socket.SOCK_STREAM, 0, "", (origin.host, origin.port, 0, 0))


def _probing(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if sys.platform == "linux":
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, PROBE_AFTER_S)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, PROBE_AFTER_S)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, PROBES)
