"""A transport over aiohttp: HTTP/1.1 keep-alive, TLS and proxies.

aiohttp takes a third of a second to import: the first request imports it, not the start of a server.
"""

import asyncio
import io
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from llm_server.contract import ErrorKind, HttpRequest, HttpResponse, Secret, ServerError
from llm_server.pool.config import PoolConfig

if TYPE_CHECKING:
    import aiohttp

LARGE_BODY_BYTES = 1024 * 1024
"""Bodies from here on are written in pieces, so that one of them does not hold the event loop."""


class AiohttpTransport:
    """Connections to the one origin of ``base_url``; implements ``Transport``.

    ``headers`` (credentials) go with every request and nowhere else: no redirect is followed and no
    request names another host. No cookies are kept. The session is made in the loop that sends first.
    """

    def __init__(self, base_url: str, config: PoolConfig, headers: Mapping[str, Secret]) -> None:
        self._base_url = base_url.rstrip("/")
        self._config = config
        self._headers = dict(headers)
        self._session: aiohttp.ClientSession | None = None
        self._busy = 0
        self._exchanges = 0
        self._opened = 0

    @asynccontextmanager
    async def exchange(
        self, request: HttpRequest, within_s: float | None = None
    ) -> AsyncIterator[HttpResponse]:
        """Send ``request`` and give its answer; see :class:`llm_server.pool.transport.Transport`.

        Raises:
            ServerError: ``UPSTREAM_UNREACHABLE``, ``UPSTREAM_TIMEOUT`` naming the phase, and
                ``UPSTREAM_INVALID`` for what is not HTTP.
        """
        total_s = self._config.total_timeout_s
        total_s = total_s if within_s is None else min(total_s, max(within_s, 0.001))
        self._busy += 1
        self._exchanges += 1
        try:
            deadline_s = asyncio.get_running_loop().time() + total_s
            response = await self._open(request, total_s)
            try:
                yield _Response(response, self._config, deadline_s)
            finally:
                # A body read to its end has given its connection back; any other cannot be reused.
                response.close()
        finally:
            self._busy -= 1

    def stats(self) -> Mapping[str, int]:
        """Return the connections ``open`` and ``idle``, and how many were ``opened`` and ``reused``."""
        connector = self._session.connector if self._session else None
        # aiohttp does not publish how many connections it keeps.
        idle = sum(map(len, connector._conns.values())) if connector else 0
        reused = max(0, self._exchanges - self._opened)
        return {
            "open": self._busy + idle,
            "idle": idle,
            "opened": self._opened,
            "reused": reused,
            "resent": 0,
        }

    async def close(self) -> None:
        """Close all connections; a later request opens new ones."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def _open(self, request: HttpRequest, total_s: float) -> "aiohttp.ClientResponse":
        import aiohttp

        config = self._config
        timeout_s = min(config.first_byte_timeout_s, total_s)
        try:
            async with asyncio.timeout(timeout_s):
                return await self._request(request)
        except aiohttp.ServerTimeoutError:
            failure = _timeout("connecting", config.connect_timeout_s)
        except TimeoutError:
            failure = _timeout("waiting for the first byte", timeout_s)
        except (aiohttp.ClientResponseError, aiohttp.InvalidURL) as error:
            failure = ServerError(
                ErrorKind.UPSTREAM_INVALID, "The provider's answer is not HTTP.", detail=type(error).__name__
            )
        except (aiohttp.ClientError, OSError) as error:
            failure = ServerError(
                ErrorKind.UPSTREAM_UNREACHABLE, "The provider cannot be reached.", detail=_described(error)
            )
        # Raised out here, so that it carries no exception of aiohttp along: those hold the request's headers.
        raise failure

    async def _request(self, request: HttpRequest) -> "aiohttp.ClientResponse":
        from yarl import URL

        if self._session is None:
            self._session = _session(self._config, self._connected)
        body = request.body
        return await self._session.request(
            request.method,
            URL(f"{self._base_url}/{request.path.lstrip('/')}", encoded=True),
            data=io.BytesIO(body) if len(body) >= LARGE_BODY_BYTES else body or None,
            headers=[*request.headers, *((name, value.reveal()) for name, value in self._headers.items())],
            allow_redirects=False,
        )

    async def _connected(self, *_: object) -> None:
        self._opened += 1


class _Response:
    """An answer whose body is still coming."""

    def __init__(self, response: "aiohttp.ClientResponse", config: PoolConfig, deadline_s: float) -> None:
        self._response = response
        self._config = config
        self._deadline_s = deadline_s
        self.status = response.status
        self.headers: Mapping[str, str] = {name.lower(): value for name, value in response.headers.items()}

    async def read(self) -> bytes:
        """Return the whole body; ``UPSTREAM_INVALID`` when it is larger than the configured bound."""
        whole = bytearray()
        while piece := await self._piece():
            whole += piece
            if len(whole) > self._config.max_response_bytes:
                raise ServerError(
                    ErrorKind.UPSTREAM_INVALID,
                    "The provider's answer is too large.",
                    detail=f"more than {self._config.max_response_bytes} bytes",
                )
        return bytes(whole)

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """Yield the body as it arrives, cut anywhere."""
        while piece := await self._piece():
            yield piece

    async def _piece(self) -> bytes:
        """Return the next bytes, empty at the end."""
        import aiohttp

        idle_s = self._config.idle_timeout_s
        now_s = asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout_at(min(now_s + idle_s, self._deadline_s)):
                return await self._response.content.readany()
        except TimeoutError:
            if now_s + idle_s < self._deadline_s:
                failure = _timeout("waiting for more of its answer", idle_s)
            else:
                failure = _timeout("answering", self._config.total_timeout_s)
        except (aiohttp.ClientError, OSError) as error:
            failure = ServerError(
                ErrorKind.UPSTREAM_TRUNCATED,
                "The provider's connection broke before its answer was complete.",
                detail=_described(error),
            )
        raise failure


def _session(config: PoolConfig, connected: Callable[..., Awaitable[None]]) -> "aiohttp.ClientSession":
    """Return a session that limits nothing itself but the time to connect: the rest has one owner, above."""
    import aiohttp

    trace = aiohttp.TraceConfig()
    trace.on_connection_create_end.append(connected)
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=config.keepalive_s),
        timeout=aiohttp.ClientTimeout(connect=config.connect_timeout_s),
        cookie_jar=aiohttp.DummyCookieJar(),
        headers={"user-agent": "llm-server", "accept": "application/json, text/event-stream"},
        trust_env=config.proxy_from_env,
        trace_configs=[trace],
    )


def _timeout(phase: str, after_s: float) -> ServerError:
    return ServerError(
        ErrorKind.UPSTREAM_TIMEOUT,
        f"The provider took too long: {phase}.",
        detail=f"{phase}: more than {after_s:g} s",
    )


def _described(error: Exception) -> str:
    """Say what broke, from fields that never hold a header or a body."""
    cause = f": {error.strerror}" if isinstance(error, OSError) and error.strerror else ""
    return f"{type(error).__name__}{cause}"
