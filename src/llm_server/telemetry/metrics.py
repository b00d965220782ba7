"""Metrics in Prometheus format: what is counted when, and how a scrape is answered."""

import asyncio
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
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

from llm_server.contract import (
    Attempt,
    Context,
    ErrorKind,
    Priority,
    ServerError,
    State,
    Target,
    Usage,
)
from llm_server.telemetry.config import TelemetryConfig
from llm_server.telemetry.families import OVERHEAD_BUCKETS_S, WAIT_BUCKETS_S, Families
from llm_server.telemetry.tallies import Tally, Times

OTHER = "other"
"""Stands for every model that has no label of its own."""
NOWHERE = "none"
"""Stands for the provider of a request that reached none."""
REFRESH_S = 1.0
"""Seconds after which a worker among several hands over what it tallied: what it loses when it is killed."""
UNROUTED = Target(NOWHERE, OTHER)


class Sources(NamedTuple):
    """Where numbers come from, asked at each scrape: those of each pool, the state of each provider."""

    pools: Callable[[], Mapping[str, Mapping[str, int]]] = dict
    states: Callable[[], Mapping[str, State]] = dict


class _Ended(NamedTuple):
    """The tallies of requests that ended the same way."""

    total: Tally
    duration: Times
    overhead: Times
    errors: Tally | None


class _Tried(NamedTuple):
    """The tallies of attempts that ended the same way."""

    target: Target
    total: Tally
    duration: Times


class Metrics:
    """An observer that counts, and the answer to a scrape. Implements the port ``Observer``.

    A model gets a label of its own when it is configured or has answered, up to ``config.metric_models`` of
    them; names that callers made up are counted as ``other``. What is counted is kept in tallies, bounded by
    these labels, until somebody asks: at each scrape, and by a worker that is not scraped every
    :data:`REFRESH_S`.

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
        self._buckets_s = config.latency_buckets_s
        self._tallies: list[Tally | Times] = []
        self._in_flight: dict[str, Tally] = {}
        self._ended: dict[tuple[str, Target, ErrorKind | None], _Ended] = {}
        self._tried: dict[tuple[str, str, ErrorKind | None], _Tried] = {}
        self._first: dict[Target, Times] = {}
        self._tokens: dict[tuple[Target, str, bool], Tally] = {}
        self._waits: dict[str, Times] = {}
        self._counted: dict[tuple[Counter, tuple[str, ...]], int] = {}

    def started(self, ctx: Context) -> None:
        """Count a request as in flight."""
        self._gauge(ctx.route).count += 1

    def first_content(self, ctx: Context) -> None:
        """Note the time to the first token of a streamed answer."""
        attempt = ctx.attempt
        if not ctx.streamed or attempt is None:
            return
        self._admit(attempt)
        target = self._target(attempt)
        times = self._first.get(target)
        if times is None:
            series = self.families.first_token.labels(target.provider, target.model)
            times = self._first[target] = self._times(series, self._buckets_s)
        times.observe(time.perf_counter() - ctx.started_s)

    def finished(self, ctx: Context, usage: Usage, error: ServerError | None) -> None:
        """Count the request, its attempts and its tokens."""
        duration_s = time.perf_counter() - ctx.started_s
        self._gauge(ctx.route).count -= 1
        upstream_s, target = 0.0, UNROUTED
        for attempt in ctx.attempts:
            tried = self._tries(attempt)
            target, took_s = tried.target, attempt.upstream_s
            tried.total.count += 1
            tried.duration.observe(took_s)
            upstream_s += took_s
            if attempt.queued_s:
                self._waited(attempt)
            if attempt.error is not None and (attempt.wasted.input_tokens or attempt.wasted.output_tokens):
                self._bill(target, attempt.wasted)
                usage -= attempt.wasted
        ended = self._ends(ctx.route, target, error.kind if error else None)
        ended.total.count += 1
        ended.duration.observe(duration_s)
        ended.overhead.observe(max(duration_s - upstream_s, 0.0))
        if ended.errors is not None:
            ended.errors.count += 1
        self._bill(target, usage, shared=ctx.shared)

    def refresh(self) -> None:
        """Hand over what was tallied, and read the sources into the gauges and counters."""
        for tally in self._tallies:
            tally.settle()
        for provider, stats in self._sources.pools().items():
            self._pool(provider, stats)
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

        Takes about 0.1 ms for each histogram. Call it where the requests are counted: tallies have no lock.
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
        """Hand over what was tallied; this worker's gauges leave the shared numbers, its counts stay."""
        self.refresh()
        if self._shared is not None:
            mark_process_dead(os.getpid(), path=str(self._shared))  # type: ignore[no-untyped-call]  # untyped there

    def _pool(self, provider: str, stats: Mapping[str, int]) -> None:
        families = self.families
        for stat, gauge in families.pool.items():
            if stat in stats:
                gauge.labels(provider).set(stats[stat])
        for stat, counter in families.pool_counts.items():
            self._count(counter, stats.get(stat, 0), provider)
        for priority in Priority:
            name = priority.name.lower()
            families.pool_waiting.labels(provider, name).set(stats.get(f"waiting_{name}", 0))
            self._count(families.pool_shed, stats.get(f"shed_{name}", 0), provider, name)

    def _count(self, counter: Counter, total: int, *labels: str) -> None:
        """Bring a series up to a number that its source has counted since the start."""
        key = (counter, labels)
        counter.labels(*labels).inc(max(0, total - self._counted.get(key, 0)))
        self._counted[key] = total

    def _admit(self, attempt: Attempt) -> None:
        if len(self._known) < self._limit:
            self._known.add(Target(attempt.provider, attempt.model))

    def _target(self, attempt: Attempt) -> Target:
        target = Target(attempt.provider, attempt.model)
        return target if target in self._known else Target(attempt.provider, OTHER)

    def _gauge(self, route: str) -> Tally:
        gauge = self._in_flight.get(route)
        if gauge is None:
            gauge = self._in_flight[route] = self._tally(self.families.in_flight.labels(route))
        return gauge

    def _ends(self, route: str, target: Target, kind: ErrorKind | None) -> _Ended:
        key = (route, target, kind)
        ended = self._ended.get(key)
        if ended is None:
            families, labels = self.families, (route, target.provider, target.model)
            ended = self._ended[key] = _Ended(
                self._tally(families.requests.labels(*labels, str(kind.status if kind else 200))),
                self._times(families.duration.labels(*labels), self._buckets_s),
                self._times(families.overhead.labels(route), OVERHEAD_BUCKETS_S),
                self._tally(families.errors.labels(*labels, kind.value)) if kind else None,
            )
        return ended

    def _tries(self, attempt: Attempt) -> _Tried:
        """Return the tallies of attempts like this one; those to models without a label share theirs."""
        tried = self._tried.get((attempt.provider, attempt.model, attempt.error))
        if tried is not None:
            return tried
        if attempt.error is None:
            self._admit(attempt)
        target = self._target(attempt)
        key = (target.provider, target.model, attempt.error)
        tried = self._tried.get(key)
        if tried is None:
            kind = attempt.error
            labels = (target.provider, target.model)
            tried = self._tried[key] = _Tried(
                target,
                self._tally(self.families.attempts.labels(*labels, kind.value if kind else "ok")),
                self._times(self.families.upstream.labels(*labels), self._buckets_s),
            )
        return tried

    def _waited(self, attempt: Attempt) -> None:
        times = self._waits.get(attempt.provider)
        if times is None:
            series = self.families.pool_wait.labels(attempt.provider)
            times = self._waits[attempt.provider] = self._times(series, WAIT_BUCKETS_S)
        times.observe(attempt.queued_s)

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
            tally = self._tokens.get((target, kind, shared))
            if tally is None:
                family = self.families.shared_tokens if shared else self.families.tokens
                series = family.labels(target.provider, target.model, kind)
                tally = self._tokens[target, kind, shared] = self._tally(series)
            tally.count += tokens

    def _tally(self, series: Counter | Gauge) -> Tally:
        self._tallies.append(tally := Tally(series))
        return tally

    def _times(self, series: Histogram, bounds_s: Sequence[float]) -> Times:
        self._tallies.append(times := Times(series, bounds_s))
        return times


def forget_dead_workers(shared: Path) -> None:
    """Take the gauges of workers that died without closing out of the numbers in ``shared``."""
    for pid in {int(file.stem.rpartition("_")[2]) for file in shared.glob("gauge_live*_*.db")}:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            mark_process_dead(pid, path=str(shared))  # type: ignore[no-untyped-call]  # untyped there
        except PermissionError:
            continue
