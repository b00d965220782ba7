"""Metrics in Prometheus format: what is counted when, and how a scrape is answered."""

import asyncio
import os
import time
from collections.abc import Callable, Iterable, Mapping
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

from llm_server.contract import Attempt, Context, ErrorKind, ServerError, State, Target, Usage
from llm_server.telemetry.config import TelemetryConfig
from llm_server.telemetry.families import Families

OTHER = "other"
"""Stands for every model that has no label of its own."""
NOWHERE = "none"
"""Stands for the provider of a request that reached none."""
REFRESH_S = 5.0
"""Seconds between two readings of the sources by a worker that is not scraped."""
UNROUTED = Target(NOWHERE, OTHER)


class Sources(NamedTuple):
    """Where the gauges come from, asked at each scrape: numbers of each pool, state of each provider."""

    pools: Callable[[], Mapping[str, Mapping[str, int]]] = dict
    states: Callable[[], Mapping[str, State]] = dict


class _Ended(NamedTuple):
    """The series of requests that ended the same way."""

    total: Counter
    duration: Histogram
    overhead: Histogram
    errors: Counter | None


class _Tried(NamedTuple):
    """The series of attempts that ended the same way."""

    total: Counter
    duration: Histogram


class Metrics:
    """An observer that counts, and the answer to a scrape. Implements the port ``Observer``.

    A model gets a label of its own when it is configured or has answered, up to ``config.metric_models`` of
    them; names that callers made up are counted as ``other``. Series are looked up in dictionaries bounded by
    these labels, never through ``labels()`` twice.

    Args:
        config: buckets and the bound on models.
        version: of the server, for ``llm_server_build_info``.
        models: targets that are configured by name.
        sources: what is asked at each scrape.
        shared: with several workers, the directory in which they share their numbers. It must be the one that
            ``PROMETHEUS_MULTIPROC_DIR`` named when ``prometheus_client`` was imported.
    """

    def __init__(
        self,
        config: TelemetryConfig,
        version: str,
        *,
        models: Iterable[Target] = (),
        sources: Sources | None = None,
        shared: Path | None = None,
    ) -> None:
        self._registry = CollectorRegistry()
        self._shared = shared
        if shared is None:
            ProcessCollector(registry=self._registry)
            PlatformCollector(registry=self._registry)
        self.families = Families(self._registry, config.latency_buckets_s)
        self.families.build.labels(version).set(1)
        self._sources = sources or Sources()
        self._known = set(islice(models, config.metric_models))
        self._limit = config.metric_models
        self._in_flight: dict[str, Gauge] = {}
        self._ended: dict[tuple[str, Target, ErrorKind | None], _Ended] = {}
        self._tried: dict[tuple[Target, ErrorKind | None], _Tried] = {}
        self._first: dict[Target, Histogram] = {}
        self._tokens: dict[tuple[Target, str, bool], Counter] = {}

    def started(self, ctx: Context) -> None:
        """Count a request as in flight."""
        self._gauge(ctx.route).inc()

    def first_content(self, ctx: Context) -> None:
        """Note the time to the first token of a streamed answer."""
        attempt = ctx.attempt
        if not ctx.streamed or attempt is None:
            return
        self._admit(attempt)
        target = self._target(attempt)
        series = self._first.get(target)
        if series is None:
            series = self._first[target] = self.families.first_token.labels(target.provider, target.model)
        series.observe(time.perf_counter() - ctx.started_s)

    def finished(self, ctx: Context, usage: Usage, error: ServerError | None) -> None:
        """Count the request, its attempts and its tokens."""
        duration_s = time.perf_counter() - ctx.started_s
        self._gauge(ctx.route).dec()
        if error is None and ctx.attempts:
            self._admit(ctx.attempts[-1])
        upstream_s, target = 0.0, UNROUTED
        for attempt in ctx.attempts:
            target = self._target(attempt)
            tried = self._tries(target, attempt.error)
            tried.total.inc()
            tried.duration.observe(attempt.upstream_s)
            upstream_s += attempt.upstream_s
            if attempt.error is not None and (attempt.wasted.input_tokens or attempt.wasted.output_tokens):
                self._bill(target, attempt.wasted)
                usage -= attempt.wasted
        ended = self._ends(ctx.route, target, error.kind if error else None)
        ended.total.inc()
        ended.duration.observe(duration_s)
        ended.overhead.observe(max(duration_s - upstream_s, 0.0))
        if ended.errors is not None:
            ended.errors.inc()
        self._bill(target, usage, shared=ctx.shared)

    def refresh(self) -> None:
        """Read the sources into the gauges."""
        for provider, stats in self._sources.pools().items():
            for stat, gauge in self.families.pool.items():
                if stat in stats:
                    gauge.labels(provider).set(stats[stat])
        for provider, current in self._sources.states().items():
            for state in State:
                self.families.state.labels(provider, state.value).set(state is current)

    async def run(self) -> None:
        """Keep this worker's share of the gauges fresh until cancelled; returns at once with one worker."""
        while self._shared is not None:
            self.refresh()
            await asyncio.sleep(REFRESH_S)

    def render(self, accept: str = "") -> tuple[bytes, str]:
        """Return the metrics of all workers and their content type, in the format that ``accept`` asks for.

        Takes about 0.1 ms for each histogram: call it in a thread where there are many.
        """
        self.refresh()
        encode, content_type = choose_encoder(accept)
        if self._shared is None:
            return encode(self._registry), content_type
        forget_dead_workers(self._shared)
        registry = CollectorRegistry()
        MultiProcessCollector(registry, path=str(self._shared))  # type: ignore[no-untyped-call]  # untyped there
        return encode(registry), content_type

    def close(self) -> None:
        """Take this worker's gauges out of the shared numbers; its counts stay."""
        if self._shared is not None:
            mark_process_dead(os.getpid(), path=str(self._shared))  # type: ignore[no-untyped-call]  # untyped there

    def _admit(self, attempt: Attempt) -> None:
        if len(self._known) < self._limit:
            self._known.add(Target(attempt.provider, attempt.model))

    def _target(self, attempt: Attempt) -> Target:
        target = Target(attempt.provider, attempt.model)
        return target if target in self._known else Target(attempt.provider, OTHER)

    def _gauge(self, route: str) -> Gauge:
        gauge = self._in_flight.get(route)
        if gauge is None:
            gauge = self._in_flight[route] = self.families.in_flight.labels(route)
        return gauge

    def _ends(self, route: str, target: Target, kind: ErrorKind | None) -> _Ended:
        key = (route, target, kind)
        ended = self._ended.get(key)
        if ended is None:
            families, labels = self.families, (route, target.provider, target.model)
            ended = self._ended[key] = _Ended(
                families.requests.labels(*labels, str(kind.status if kind else 200)),
                families.duration.labels(*labels),
                families.overhead.labels(route),
                families.errors.labels(*labels, kind.value) if kind else None,
            )
        return ended

    def _tries(self, target: Target, kind: ErrorKind | None) -> _Tried:
        key = (target, kind)
        tried = self._tried.get(key)
        if tried is None:
            labels = (target.provider, target.model)
            tried = self._tried[key] = _Tried(
                self.families.attempts.labels(*labels, kind.value if kind else "ok"),
                self.families.upstream.labels(*labels),
            )
        return tried

    def _bill(self, target: Target, usage: Usage, *, shared: bool = False) -> None:
        for kind, tokens in (
            ("input", usage.input_tokens),
            ("output", usage.output_tokens),
            ("cached", usage.cached_tokens),
            ("cache_write", usage.cache_write_tokens),
            ("reasoning", usage.reasoning_tokens),
        ):
            if not tokens:
                continue
            series = self._tokens.get((target, kind, shared))
            if series is None:
                family = self.families.shared_tokens if shared else self.families.tokens
                series = family.labels(target.provider, target.model, kind)
                self._tokens[target, kind, shared] = series
            series.inc(tokens)


def forget_dead_workers(shared: Path) -> None:
    """Take the gauges of workers that died without closing out of the numbers in ``shared``."""
    for pid in {int(file.stem.rpartition("_")[2]) for file in shared.glob("gauge_live*_*.db")}:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            mark_process_dead(pid, path=str(shared))  # type: ignore[no-untyped-call]  # untyped there
        except PermissionError:
            continue
