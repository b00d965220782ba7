"""The transport over aiohttp: HTTP proxies, and servers that are odd in ways it forgives.

aiohttp takes a third of a second to import: the first request imports it, not the start of a server.
"""

import asyncio
import errno
import io
from collections.abc import AsyncGenerator, Callable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Self

from llm_server.contract import HttpRequest, Secret, ServerError
from llm_server.pool import tls
from llm_server.pool.config import PoolConfig
from llm_server.pool.failures import (
    described,
    not_http,
    timed_out,
    too_large,
    truncated,
    undecodable,
    unreachable,
)
from llm_server.pool.requests import DEFAULTS, check, check_secrets, origin_of
from llm_server.pool.transport import RESEND_WITHIN_S, gives_up

if TYPE_CHECKING:
    import aiohttp

LARGE_BODY_BYTES = 1024 * 1024
"""Bodies from here on are written in pieces, so that one of them does not hold the event loop."""


class AiohttpTransport:
    """Connections to the one origin of ``base_url``; see :class:`llm_server.pool.transport.Transport`.

    ``headers`` (credentials) go with every request and nowhere else: no redirect is followed and no
    request names another host. No cookies are kept. The session is made in the loop that sends first.
    aiohttp keeps no connections ahead and knows no greatest age of one.
    """

    def __init__(self, base_url: str, config: PoolConfig, headers: Mapping[str, Secret]) -> None:
        self._tls = origin_of(base_url).tls
        check_secrets(headers)
        self._base_url = base_url.rstrip("/")
        self._config = config
        self._headers = dict(headers)
        self._session: aiohttp.ClientSession | None = None
        self._fresh: aiohttp.ClientSession | None = None
        self._counts = {"opened": 0, "reused": 0, "resent": 0}

    def exchange(self, request: HttpRequest, within_s: float | None = None) -> "_Exchange":
        """Send ``request`` on entering; see :meth:`llm_server.pool.transport.Transport.exchange`."""
        total_s = self._config.total_timeout_s
        return _Exchange(self, self._config, request, total_s if within_s is None else min(within_s, total_s))

    def ready(self) -> bool:
        """Return false: aiohttp takes its time to send."""
        return False

    def begin(
        self, request: HttpRequest, within_s: float, listener: Callable[[], None], *, whole: bool
    ) -> None:
        """Begin nothing: see :meth:`ready`."""

    def warm(self) -> None:
        """Do nothing: aiohttp opens connections when they are needed."""

    def stats(self) -> Mapping[str, int]:
        """Return the numbers that :meth:`llm_server.pool.transport.Transport.stats` names."""
        idle = busy = 0
        for session in (self._session, self._fresh):
            if session is not None and session.connector is not None:
                # aiohttp does not publish how many connections it keeps.
                idle += sum(map(len, session.connector._conns.values()))
                busy += len(session.connector._acquired)
        return {"open": idle + busy, "idle": idle, **self._counts}

    async def close(self) -> None:
        """Close all connections; a later request opens new ones."""
        sessions = (self._session, self._fresh)
        self._session = self._fresh = None
        for session in sessions:
            if session is not None:
                await session.close()

    async def request(self, request: HttpRequest, noted: dict[str, bool]) -> "aiohttp.ClientResponse":
        """Send ``request``, and again where :class:`llm_server.pool.transport.Transport` says so."""
        import aiohttp

        if self._session is None:
            self._session = await self._started(keep=True)
        begun_s = asyncio.get_running_loop().time()
        try:
            response = await self._sent(self._session, request, noted)
            if not gives_up(response.status, response.headers) or not _closing_already(noted, begun_s):
                return response
            response.close()
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError, ConnectionResetError) as error:
            if not _unheard(error) or not _closing_already(noted, begun_s):
                raise
        self._counts["resent"] += 1
        if self._fresh is None:
            self._fresh = await self._started(keep=False)
        return await self._sent(self._fresh, request, noted)

    async def _sent(
        self, session: "aiohttp.ClientSession", request: HttpRequest, noted: dict[str, bool]
    ) -> "aiohttp.ClientResponse":
        from yarl import URL

        body = request.body
        return await session.request(
            request.method,
            URL(f"{self._base_url}/{request.path.lstrip('/')}", encoded=True),
            data=io.BytesIO(body) if len(body) >= LARGE_BODY_BYTES else body or None,
            headers=[*request.headers, *((name, value.reveal()) for name, value in self._headers.items())],
            allow_redirects=False,
            trace_request_ctx=noted,
        )

    async def _started(self, *, keep: bool) -> "aiohttp.ClientSession":
        """Return a session that limits nothing but the time to connect: the rest has one owner, above."""
        import aiohttp

        config = self._config
        connector = aiohttp.TCPConnector(
            limit=0,
            keepalive_timeout=config.keepalive_s if keep else None,
            force_close=not keep,
            ssl=await asyncio.to_thread(tls.context, config) if self._tls else True,
        )
        return aiohttp.ClientSession(
            connector=connector,
            timeout=aiohttp.ClientTimeout(connect=config.connect_timeout_s),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers=DEFAULTS,
            trust_env=config.proxy_from_env,
            max_line_size=config.max_header_bytes,
            max_field_size=config.max_header_bytes,
            trace_configs=[self._tracing()],
        )

    def _tracing(self) -> "aiohttp.TraceConfig":
        """Return what counts connections, and notes for each request whether its own was a kept one."""
        import aiohttp

        async def opened(_: object, __: object, ___: object) -> None:
            self._counts["opened"] += 1

        async def reused(_: object, context: object, __: object) -> None:
            self._counts["reused"] += 1
            noted = getattr(context, "trace_request_ctx", None)
            if isinstance(noted, dict):
                noted["reused"] = True

        tracing = aiohttp.TraceConfig()
        tracing.on_connection_create_end.append(opened)
        tracing.on_connection_reuseconn.append(reused)
        return tracing


class _Exchange:
    """One request and its answer, whose body is still coming."""

    def __init__(
        self, transport: AiohttpTransport, config: PoolConfig, request: HttpRequest, total_s: float
    ) -> None:
        self._transport = transport
        self._config = config
        self._request = request
        self._total_s = total_s
        self._ends_s = 0.0
        self._response: aiohttp.ClientResponse | None = None
        self.status = 0
        self.headers: Mapping[str, str] = {}

    async def __aenter__(self) -> Self:
        check(self._request)
        self._ends_s = asyncio.get_running_loop().time() + self._total_s
        self._response = response = await self._opened()
        if response.status == 101:
            response.close()
            raise not_http("it switched protocols (101), which was not asked for")
        self.status = response.status
        self.headers = {name.lower(): value for name, value in list(response.headers.items())[::-1]}
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._response is not None:
            # A body read to its end has given its connection back; any other connection cannot be reused.
            self._response.close()

    async def read(self) -> bytes:
        """Return the whole body; ``UPSTREAM_INVALID`` when it is larger than the configured bound."""
        whole = bytearray()
        while piece := await self._piece():
            whole += piece
            if len(whole) > self._config.max_response_bytes:
                raise too_large(self._config.max_response_bytes)
        return bytes(whole)

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """Yield the body as it arrives, cut anywhere."""
        while piece := await self._piece():
            yield piece

    async def _opened(self) -> "aiohttp.ClientResponse":
        import aiohttp

        config = self._config
        timeout_s = min(config.first_byte_timeout_s, self._total_s)
        try:
            async with asyncio.timeout(timeout_s):
                return await self._transport.request(self._request, {})
        except aiohttp.ServerTimeoutError:
            failure = timed_out("connecting", config.connect_timeout_s)
        except TimeoutError:
            phase = "answering" if timeout_s == self._total_s else "waiting for the first byte"
            failure = timed_out(phase, timeout_s)
        except (aiohttp.ClientResponseError, aiohttp.InvalidURL) as error:
            failure = not_http(type(error).__name__)
        except (aiohttp.ClientError, OSError) as error:
            failure = unreachable(described(error))
        # Raised out here, so that it carries no exception of aiohttp along: those hold the request's headers.
        raise failure

    async def _piece(self) -> bytes:
        """Return the next bytes, empty at the end."""
        import aiohttp

        assert self._response is not None
        idle_s = self._config.idle_timeout_s
        now_s = asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout_at(min(now_s + idle_s, self._ends_s)):
                return await self._response.content.readany()
        except TimeoutError:
            if now_s + idle_s < self._ends_s:
                failure = timed_out("waiting for more of its answer", idle_s)
            else:
                failure = timed_out("answering", self._total_s)
        except (aiohttp.ClientError, OSError) as error:
            failure = _broken(error)
        raise failure


def _broken(error: Exception) -> ServerError:
    from aiohttp.http_exceptions import ContentEncodingError

    if isinstance(error.__cause__, ContentEncodingError):
        return undecodable(type(error.__cause__).__name__)
    return truncated(described(error))


def _closing_already(noted: dict[str, bool], begun_s: float) -> bool:
    late_s = asyncio.get_running_loop().time() - begun_s
    return noted.get("reused", False) and late_s <= RESEND_WITHIN_S


def _unheard(error: Exception) -> bool:
    """Whether a connection ended before any byte of an answer; a reset does not say how much came before."""
    import aiohttp

    if isinstance(error, aiohttp.ServerDisconnectedError):
        return isinstance(error.message, str)  # else it is what was parsed of an answer
    return isinstance(error, OSError) and error.errno in {errno.ECONNRESET, errno.EPIPE, None}
