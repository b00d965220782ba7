"""The metrics that the server has: names, labels and help. An interface, documented in ``docs/metrics.md``.

Labels take few values: ``route`` is a path template, ``provider`` a configured name, ``kind`` and ``outcome``
come from the error registry, and ``model`` is bounded (see :mod:`llm_server.telemetry.metrics`).
"""

from collections.abc import Sequence
from functools import partial

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics

TARGET = ("provider", "model")
REQUEST = ("route", *TARGET)
NAMESPACE = "llm_server"
OVERHEAD_BUCKETS_S = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1)
"""What the server itself adds is a thousand times less than what a model takes."""

WAIT_BUCKETS_S = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
"""Up to the time after which a request that waits is sent away, and somewhat longer."""
BATCH_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048)


class Families:
    """Every metric, registered in ``registry``. ``buckets_s`` are the bounds of the latency histograms."""

    def __init__(self, registry: CollectorRegistry, buckets_s: Sequence[float]) -> None:
        # Creation times double the number of series; nothing reads them.
        disable_created_metrics()  # type: ignore[no-untyped-call]  # untyped there
        self._requests(registry)
        self._times(registry, buckets_s)
        self._upstreams(registry)
        self._batching(registry)
        self._batches(registry)
        self._server(registry)

    def _requests(self, registry: CollectorRegistry) -> None:
        counter = partial(Counter, namespace=NAMESPACE, registry=registry)
        self.requests = counter("requests", "Requests finished, by final status.", (*REQUEST, "status"))
        self.errors = counter("errors", "Requests that ended in an error, by kind.", (*REQUEST, "kind"))
        self.tokens = counter("tokens", "Tokens billed, by kind.", (*TARGET, "kind"))
        self.in_flight = Gauge(
            "requests_in_flight",
            "Requests being answered now.",
            ("route",),
            namespace=NAMESPACE,
            registry=registry,
            multiprocess_mode="livesum",
        )

    def _times(self, registry: CollectorRegistry, buckets_s: Sequence[float]) -> None:
        histogram = partial(Histogram, namespace=NAMESPACE, registry=registry)
        self.duration = histogram(
            "request_duration_seconds",
            "Time from the request's arrival to the end of its answer.",
            REQUEST,
            buckets=buckets_s,
        )
        self.first_token = histogram(
            "time_to_first_token_seconds",
            "Time from the arrival of a streamed request to the first content of its answer.",
            TARGET,
            buckets=buckets_s,
        )
        self.upstream = histogram(
            "upstream_duration_seconds",
            "Time of one attempt upstream, from its start to its end.",
            TARGET,
            buckets=buckets_s,
        )
        self.overhead = histogram(
            "overhead_seconds",
            "Part of the request's duration that was not spent in attempts upstream.",
            ("route",),
            buckets=OVERHEAD_BUCKETS_S,
        )

    def _upstreams(self, registry: CollectorRegistry) -> None:
        gauge = partial(Gauge, namespace=NAMESPACE, registry=registry, multiprocess_mode="livesum")
        self.attempts = Counter(
            "attempts",
            "Attempts upstream, by outcome.",
            (*TARGET, "outcome"),
            namespace=NAMESPACE,
            registry=registry,
        )
        self.state = gauge(
            "provider_state", "Workers in which the provider is in this state.", ("provider", "state")
        )
        self._pools(registry)

    def _pools(self, registry: CollectorRegistry) -> None:
        gauge = partial(Gauge, namespace=NAMESPACE, registry=registry, multiprocess_mode="livesum")
        counter = partial(Counter, namespace=NAMESPACE, registry=registry)
        provider, classed = ("provider",), ("provider", "priority")
        self.pool = {
            "open": gauge("pool_open_connections", "Connections that are open.", provider),
            "idle": gauge("pool_idle_connections", "Open connections that carry no request.", provider),
            "busy": gauge("pool_busy_connections", "Connections that carry a request.", provider),
            "limit": gauge("pool_connection_limit", "Requests that may be under way at once.", provider),
            "ejected": gauge("pool_ejected", "Workers that leave the provider alone now.", provider),
        }
        self.pool_waiting = gauge("pool_waiting_requests", "Requests that wait for a place.", classed)
        self.pool_counts = {
            "opened": counter("pool_connections_opened", "Connections that were opened.", provider),
            "reused": counter("pool_connections_reused", "Requests sent on a kept connection.", provider),
            "resent": counter(
                "pool_requests_resent", "Requests sent again because a kept connection was closed.", provider
            ),
        }
        self.pool_shed = counter("pool_shed", "Requests sent away for want of a place in time.", classed)
        self.pool_wait = Histogram(
            "pool_wait_seconds",
            "Time that requests waited for a place, of those that had to.",
            provider,
            namespace=NAMESPACE,
            registry=registry,
            buckets=WAIT_BUCKETS_S,
        )

    def _batching(self, registry: CollectorRegistry) -> None:
        histogram = partial(Histogram, namespace=NAMESPACE, registry=registry)
        counter = partial(Counter, namespace=NAMESPACE, registry=registry)
        provider = ("provider",)
        self.batch_texts = histogram(
            "batch_texts", "Texts in one call for embeddings.", provider, buckets=BATCH_BUCKETS
        )
        self.batch_wait = histogram(
            "batch_wait_seconds",
            "Time that a request for embeddings waited for others, if it did.",
            provider,
            buckets=OVERHEAD_BUCKETS_S,
        )
        self.batch_saved = counter(
            "batch_calls_saved", "Calls that were not made because requests went as one.", provider
        )
        self.shared = counter(
            "shared_requests", "Requests answered by the call of an identical one.", provider
        )
        self.shared_tokens = counter(
            "shared_tokens", "Tokens not billed because a call was shared, by kind.", (*TARGET, "kind")
        )

    def _batches(self, registry: CollectorRegistry) -> None:
        counter = partial(Counter, namespace=NAMESPACE, registry=registry)
        self.batches = counter("batches", "Batches that reached a status.", ("status",))
        self.batch_lines = counter("batch_lines", "Lines of batches that ended, by outcome.", ("outcome",))
        self.batch_files = counter(
            "batch_provider_files",
            "Files of batches at their providers: deleted there, or left because that failed.",
            ("provider", "outcome"),
        )
        self.batches_running = Gauge(
            "batches_running",
            "Batches that are worked on now.",
            namespace=NAMESPACE,
            registry=registry,
            multiprocess_mode="livesum",
        )

    def _server(self, registry: CollectorRegistry) -> None:
        counter = partial(Counter, namespace=NAMESPACE, registry=registry)
        self.lines_dropped = counter("log_lines_dropped", "Request log lines that could not be written.")
        self.failures = counter(
            "observer_failures", "Exceptions in a part of telemetry, which then lost an event.", ("observer",)
        )
        self.build = Gauge(
            "build_info",
            "Always 1; the version is in the label.",
            ("version",),
            namespace=NAMESPACE,
            registry=registry,
            multiprocess_mode="livemax",
        )
