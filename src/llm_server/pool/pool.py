"""The way to one upstream: what decides when a request may go, and what carries it there."""

import asyncio
import time
from collections.abc import Callable, Mapping
from urllib.parse import urlsplit

from msgspec.structs import replace

from llm_server.contract import (
    Context,
    HttpRequest,
    Pool,
    PoolReport,
    Priority,
    Secret,
    ServerError,
)
from llm_server.pool.admission import Admission
from llm_server.pool.breaker import BreakerState
from llm_server.pool.config import PoolConfig
from llm_server.pool.exchange import Exchange
from llm_server.pool.quota import QuotaRules
from llm_server.pool.transport import Transport
from llm_server.pool.transports import transport


class UpstreamPool:
    """Requests to one origin with one credential; implements the port ``Pool``.

    Whoever names the same upstream shares it: its limits are the upstream's, not a caller's.

    Args:
        origin: scheme, host and port, for the operator.
        transport: what carries requests there; its paths are below the origin.
        config: limits, timeouts, thresholds.
        rules: how the upstream tells of its quotas.
        base_path: what the breaker's ``probe_path`` is below.
        now: the clock of deadlines, in seconds.
    """

    def __init__(
        self,
        origin: str,
        transport: Transport,
        config: PoolConfig,
        rules: QuotaRules | None = None,
        base_path: str = "",
        now: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._origin = origin
        self._transport = transport
        self._config = config
        self._admission = Admission(config, rules or QuotaRules(), now, self._opened)
        path = config.breaker.probe_path
        self._probe_path = None if path is None else f"{base_path.strip('/')}/{path.lstrip('/')}".lstrip("/")
        self._timer: asyncio.TimerHandle | None = None
        self._asking: asyncio.Task[None] | None = None

    def ready(self, ctx: Context) -> bool:
        """Whether a request sent now can be begun: nobody need wait, and a connection is idle."""
        admission = self._admission
        gate = admission.gate
        return (
            gate.busy < gate.limit
            and not gate.waiting
            and admission.breaker.closed
            and not admission.quota.held
            and self._transport.ready()
            and ctx.deadline_s is not None
            and admission.now() < ctx.deadline_s
        )

    def send(self, request: HttpRequest, ctx: Context | None = None) -> Exchange:
        """Send ``request`` when there is room and give its answer; see :class:`llm_server.contract.Pool`."""
        return Exchange(self._admission, self._transport, request, ctx)

    def warm(self) -> None:
        """Begin to open the connections that are kept ahead."""
        self._transport.warm()

    def below(self, path: str) -> Pool:
        """Return this pool for requests whose paths are below ``path``."""
        prefix = path.strip("/")
        return Below(self, f"{prefix}/") if prefix else self

    def stats(self) -> Mapping[str, int]:
        """Return numbers for metrics; see the port."""
        gate, waiting = self._admission.gate, self._admission.waiting()
        return {
            **self._transport.stats(),
            "busy": gate.busy,
            "limit": gate.limit,
            "waiting": sum(waiting.values()),
            "ejected": int(not self._admission.breaker.closed),
            **{f"waiting_{priority.name.lower()}": count for priority, count in waiting.items()},
            **{f"shed_{priority.name.lower()}": gate.shed[priority] for priority in Priority},
        }

    def report(self) -> PoolReport:
        """Return everything about the upstream, for the operator."""
        admission = self._admission
        now_s, gate, health, breaker = admission.now(), admission.gate, admission.health, admission.breaker
        requests, failures = health.counts(now_s)
        state = breaker.state(now_s)
        return PoolReport(
            origin=self._origin,
            transport=self._config.transport,
            connections=self._transport.stats(),
            limit=gate.limit,
            max_connections=self._config.max_connections,
            busy=gate.busy,
            waiting=admission.waiting(),
            shed={priority: gate.shed[priority] for priority in Priority},
            breaker=state.value,
            open_for_s=breaker.until_s - now_s if state is BreakerState.OPEN else 0.0,
            consecutive_failures=health.consecutive_failures,
            requests=requests,
            error_rate=failures / requests if requests else 0.0,
            latency_s=health.latency_s,
            first_byte_s=health.first_byte_s,
            held={name: until_s - now_s for name, until_s in admission.quota.held.items() if until_s > now_s},
            quotas=admission.quota.report(now_s),
        )

    async def close(self) -> None:
        """Stop probing and close all connections; a later request opens new ones."""
        if self._timer is not None:
            self._timer.cancel()
        self._admission.gate.close()
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.wait([self._asking])
        await self._transport.close()

    def _opened(self) -> None:
        if self._probe_path is not None:
            wait_s = max(self._admission.breaker.until_s - self._admission.now(), 0.0)
            self._timer = asyncio.get_running_loop().call_later(wait_s, self._ask)

    def _ask(self) -> None:
        self._timer = None
        self._asking = asyncio.get_running_loop().create_task(self._probe())

    async def _probe(self) -> None:
        """Ask an ejected upstream whether it works; not through the gate, which may be full of the dead."""
        request = HttpRequest(method="GET", path=self._probe_path or "", headers=())
        try:
            async with self._transport.exchange(request, self._config.connect_timeout_s) as response:
                works = response.status < 500
        except ServerError:
            works = False
        if works:
            self._admission.recovered()
        elif not self._admission.breaker.closed:
            self._admission.failed(probe=True)


class Below:
    """A pool for a provider whose API begins at ``prefix`` (ends in a slash): see ``Pool``."""

    __slots__ = ("_prefix", "pool")

    def __init__(self, pool: UpstreamPool, prefix: str) -> None:
        self.pool = pool
        self._prefix = prefix

    def ready(self, ctx: Context) -> bool:
        """Whether a request sent now can be begun."""
        return self.pool.ready(ctx)

    def send(self, request: HttpRequest, ctx: Context | None = None) -> Exchange:
        """Send ``request`` to the path below the prefix."""
        return self.pool.send(replace(request, path=self._prefix + request.path.lstrip("/")), ctx)

    def warm(self) -> None:
        """Begin to open the connections that are kept ahead."""
        self.pool.warm()

    def stats(self) -> Mapping[str, int]:
        """Return the pool's numbers."""
        return self.pool.stats()

    def report(self) -> PoolReport:
        """Return what there is to know about the upstream."""
        return self.pool.report()

    async def close(self) -> None:
        """Close the pool."""
        await self.pool.close()


def shared(pool: Pool) -> Pool:
    """Return the pool itself that ``pool`` may be a view of."""
    return pool.pool if isinstance(pool, Below) else pool


def open_pool(
    base_url: str, config: PoolConfig, headers: Mapping[str, Secret], rules: QuotaRules | None = None
) -> UpstreamPool:
    """Return a pool for the origin of ``base_url``, over the transport that ``config`` names.

    ``headers`` (credentials) go with every request and nowhere else.
    """
    origin, path = split(base_url)
    return UpstreamPool(origin, transport(origin, config, headers), config, rules, path)


def split(base_url: str) -> tuple[str, str]:
    """Return the origin of ``base_url`` and the path below it."""
    parts = urlsplit(base_url)
    return f"{parts.scheme}://{parts.netloc}", parts.path.strip("/")
