"""Metrics: what is counted, scraped as Prometheus scrapes it; bounds; agreement with the documentation."""

import asyncio
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as parse_openmetrics,
)
from prometheus_client.parser import text_string_to_metric_families as parse_text
from prometheus_client.registry import Collector

from llm_server.contract import Attempt, Context, ErrorKind, ServerError, State, Target, Usage
from llm_server.telemetry.config import TelemetryConfig
from llm_server.telemetry.groups import GroupMetrics
from llm_server.telemetry.metrics import Metrics, Sources

ROUTE = "/v1/chat/completions"
NOTHING = Usage()
DOCUMENT = Path(__file__).parents[2] / "docs" / "metrics.md"
Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def attempt(
    model: str = "m", *, provider: str = "p", error: ErrorKind | None = None, took_s: float = 0.5
) -> Attempt:
    now_s = time.perf_counter()
    return Attempt(provider=provider, model=model, started_s=now_s - took_s, ended_s=now_s, error=error)


def context(*attempts: Attempt, streamed: bool = False, took_s: float = 2.0) -> Context:
    started_s = time.perf_counter() - took_s
    return Context(
        request_id="r",
        route=ROUTE,
        model="asked",
        streamed=streamed,
        started_s=started_s,
        attempts=list(attempts),
    )


def observe(metrics: Metrics, ctx: Context, usage: Usage = NOTHING, error: ErrorKind | None = None) -> None:
    metrics.started(ctx)
    if error is None:
        metrics.first_content(ctx)
    metrics.finished(ctx, usage, ServerError(error, "no") if error else None)


def scrape(metrics: Metrics) -> Samples:
    body, content_type = metrics.render("text/plain")
    assert content_type.startswith("text/plain; version=0.0.4")
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in parse_text(body.decode())
        for sample in family.samples
    }


def value(samples: Samples, name: str, **labels: str) -> float | None:
    return samples.get((f"llm_server_{name}", frozenset(labels.items())))


def make(**config: object) -> Metrics:
    return Metrics(TelemetryConfig.model_validate(config), "1.2.3")


def test_a_good_request_is_counted_in_every_family() -> None:
    metrics = make()
    usage = Usage(input_tokens=7, output_tokens=5, cached_tokens=3, cache_write_tokens=1, reasoning_tokens=2)
    observe(metrics, context(attempt(), streamed=True), usage)
    got = scrape(metrics)
    target = {"provider": "p", "model": "m"}
    assert value(got, "requests_total", route=ROUTE, status="200", **target) == 1
    assert value(got, "attempts_total", outcome="ok", **target) == 1
    assert value(got, "request_duration_seconds_count", route=ROUTE, **target) == 1
    assert value(got, "request_duration_seconds_bucket", route=ROUTE, le="1.0", **target) == 0
    assert value(got, "time_to_first_token_seconds_count", **target) == 1
    assert value(got, "upstream_duration_seconds_sum", **target) == pytest.approx(0.5)
    overhead = value(got, "overhead_seconds_sum", route=ROUTE)
    assert overhead is not None
    assert overhead >= 1.5
    tokens = {kind: value(got, "tokens_total", kind=kind, **target) for kind in ("input", "output", "cached")}
    assert tokens == {"input": 7, "output": 5, "cached": 3}
    assert value(got, "tokens_total", kind="cache_write", **target) == 1
    assert value(got, "tokens_total", kind="reasoning", **target) == 2
    assert not [name for name, _ in got if name == "llm_server_errors_total"]
    assert value(got, "build_info", version="1.2.3") == 1


def test_a_failed_request_is_counted_by_status_and_kind() -> None:
    metrics = make()
    observe(metrics, context(attempt()))
    observe(
        metrics, context(attempt(error=ErrorKind.UPSTREAM_OVERLOADED)), error=ErrorKind.UPSTREAM_OVERLOADED
    )
    got = scrape(metrics)
    labels = {"route": ROUTE, "provider": "p", "model": "m"}
    assert value(got, "requests_total", status="503", **labels) == 1
    assert value(got, "errors_total", kind="upstream_overloaded", **labels) == 1
    assert value(got, "attempts_total", provider="p", model="m", outcome="upstream_overloaded") == 1


def test_a_request_that_reached_nobody_is_counted_without_the_name_it_asked_for() -> None:
    metrics = make()
    observe(metrics, context(), error=ErrorKind.MODEL_NOT_FOUND)
    got = scrape(metrics)
    assert value(got, "requests_total", route=ROUTE, provider="none", model="other", status="404") == 1


def test_every_attempt_of_a_fallback_is_counted_and_the_last_one_names_the_request() -> None:
    metrics = Metrics(TelemetryConfig(), "1", models=[Target("p", "a"), Target("q", "b")])
    failed = attempt("a", error=ErrorKind.UPSTREAM_TIMEOUT)
    observe(metrics, context(failed, attempt("b", provider="q")))
    got = scrape(metrics)
    assert value(got, "attempts_total", provider="p", model="a", outcome="upstream_timeout") == 1
    assert value(got, "attempts_total", provider="q", model="b", outcome="ok") == 1
    assert value(got, "requests_total", route=ROUTE, provider="q", model="b", status="200") == 1


def test_tokens_are_billed_to_the_model_that_spent_them() -> None:
    metrics = Metrics(TelemetryConfig(), "1", models=[Target("p", "a"), Target("q", "b")])
    failed = attempt("a", error=ErrorKind.OUTPUT_INVALID)
    failed.wasted = Usage(input_tokens=30, output_tokens=15)
    observe(metrics, context(failed, attempt("b", provider="q")), Usage(input_tokens=40, output_tokens=20))
    got = scrape(metrics)
    assert value(got, "tokens_total", kind="input", provider="p", model="a") == 30
    assert value(got, "tokens_total", kind="output", provider="p", model="a") == 15
    assert value(got, "tokens_total", kind="input", provider="q", model="b") == 10
    assert value(got, "tokens_total", kind="output", provider="q", model="b") == 5


def test_time_to_first_token_is_for_streams_only() -> None:
    metrics = make()
    observe(metrics, context(attempt(), streamed=False))
    assert value(scrape(metrics), "time_to_first_token_seconds_count", provider="p", model="m") is None


def test_in_flight_rises_and_falls() -> None:
    metrics, ctx = make(), context(attempt())
    metrics.started(ctx)
    assert value(scrape(metrics), "requests_in_flight", route=ROUTE) == 1
    metrics.finished(ctx, Usage(), ServerError(ErrorKind.CLIENT_CLOSED, "left"))
    assert value(scrape(metrics), "requests_in_flight", route=ROUTE) == 0


def test_overhead_is_never_negative() -> None:
    metrics = make()
    observe(metrics, context(attempt(took_s=5.0), took_s=1.0))
    assert value(scrape(metrics), "overhead_seconds_sum", route=ROUTE) == 0


def test_a_model_has_its_own_label_once_it_answered() -> None:
    metrics = make()
    failed = ErrorKind.UPSTREAM_ERROR
    observe(metrics, context(attempt("new", error=failed)), error=failed)
    observe(metrics, context(attempt("new")))
    observe(metrics, context(attempt("new", error=failed)), error=failed)
    got = scrape(metrics)
    assert value(got, "requests_total", route=ROUTE, provider="p", model="other", status="502") == 1
    assert value(got, "requests_total", route=ROUTE, provider="p", model="new", status="502") == 1


@given(
    limit=st.integers(1, 5),
    configured=st.lists(st.text(max_size=5), max_size=10),
    asked=st.lists(st.tuples(st.text(max_size=8), st.booleans()), max_size=40),
)
def test_the_number_of_model_labels_is_bounded(
    limit: int, configured: list[str], asked: list[tuple[str, bool]]
) -> None:
    models = [Target("p", name) for name in configured]
    metrics = Metrics(TelemetryConfig(metric_models=limit), "1", models=models)
    for name, works in asked:
        error = None if works else ErrorKind.UPSTREAM_ERROR
        observe(metrics, context(attempt(name, error=error), streamed=True), Usage(input_tokens=1), error)
    labelled = {dict(labels)["model"] for _, labels in scrape(metrics) if "model" in dict(labels)}
    assert len(labelled - {"other"}) <= limit
    total = sum(v for (name, _), v in scrape(metrics).items() if name == "llm_server_requests_total")
    assert total == len(asked)


def test_sources_are_read_at_each_scrape() -> None:
    pools = {"p": {"open": 3, "busy": 2, "waiting_batch": 1, "limit": 9, "ejected": 1, "unheard_of": 4}}
    states = {"p": State.STARTING}
    metrics = Metrics(TelemetryConfig(), "1", sources=Sources(lambda: pools, lambda: states))
    got = scrape(metrics)
    assert value(got, "pool_open_connections", provider="p") == 3
    assert value(got, "pool_busy_connections", provider="p") == 2
    assert value(got, "pool_waiting_requests", provider="p", priority="batch") == 1
    assert value(got, "pool_waiting_requests", provider="p", priority="interactive") == 0
    assert value(got, "pool_ejected", provider="p") == 1
    assert value(got, "pool_connection_limit", provider="p") == 9
    assert value(got, "provider_state", provider="p", state="starting") == 1
    pools["p"] = {"open": 0}
    states["p"] = State.READY
    got = scrape(metrics)
    assert value(got, "pool_open_connections", provider="p") == 0
    assert value(got, "provider_state", provider="p", state="starting") == 0
    assert value(got, "provider_state", provider="p", state="ready") == 1


def test_what_a_pool_has_counted_is_counted_once_and_never_falls() -> None:
    stats = {"opened": 2, "reused": 5, "resent": 1, "shed_batch": 3}
    metrics = Metrics(TelemetryConfig(), "1", sources=Sources(lambda: {"p": stats}, dict))
    scrape(metrics)
    stats |= {"opened": 4, "shed_interactive": 1}
    got = scrape(metrics)
    assert value(got, "pool_connections_opened_total", provider="p") == 4
    assert value(got, "pool_connections_reused_total", provider="p") == 5
    assert value(got, "pool_requests_resent_total", provider="p") == 1
    assert value(got, "pool_shed_total", provider="p", priority="batch") == 3
    assert value(got, "pool_shed_total", provider="p", priority="interactive") == 1
    stats["opened"] = 1
    assert value(scrape(metrics), "pool_connections_opened_total", provider="p") == 4
    stats["opened"] = 3
    assert value(scrape(metrics), "pool_connections_opened_total", provider="p") == 6


def test_only_requests_that_had_to_wait_are_in_the_histogram_of_waits() -> None:
    metrics = make()
    waited = attempt()
    waited.queued_s = 0.25
    observe(metrics, context(attempt()))
    observe(metrics, context(waited))
    got = scrape(metrics)
    assert value(got, "pool_wait_seconds_count", provider="p") == 1
    assert value(got, "pool_wait_seconds_sum", provider="p") == pytest.approx(0.25)


def test_the_scraper_chooses_the_format() -> None:
    metrics = make()
    observe(metrics, context(attempt()))
    body, content_type = metrics.render("application/openmetrics-text; version=1.0.0, text/plain;q=0.5")
    assert content_type.startswith("application/openmetrics-text; version=1.0.0")
    families = {family.name: family for family in parse_openmetrics(body.decode())}
    assert families["llm_server_requests"].type == "counter"


def test_the_process_describes_itself() -> None:
    names = {name for name, _ in scrape(make())}
    assert {"process_resident_memory_bytes", "python_info"} <= names


def test_two_instances_do_not_meet() -> None:
    one, other = make(), make()
    observe(one, context(attempt()))
    assert not [name for name, _ in scrape(other) if name == "llm_server_requests_total"]


def _families(metrics: Metrics) -> Iterator[Collector]:
    for family in vars(metrics.families).values():
        yield from family.values() if isinstance(family, dict) else (family,)


def test_code_and_documentation_agree() -> None:
    rows = re.findall(
        r"^\| `(llm_server_\w+)` \| (\w+) \| ([\w, ]*) \| (.+) \|$",
        DOCUMENT.read_text(encoding="utf-8"),
        re.MULTILINE,
    )
    documented = {(name, kind, labels.strip(), text) for name, kind, labels, text in rows}
    in_code = set()
    for family in _families(make()):
        (described,) = family.describe()
        labels = ", ".join(family._labelnames)
        suffix = "_total" if described.type == "counter" else ""
        in_code.add((described.name + suffix, described.type, labels, described.documentation))
    assert documented == in_code
    assert len(rows) == len(documented)


def test_a_shared_answer_is_billed_once() -> None:
    metrics = make()
    usage = Usage(input_tokens=7, output_tokens=5)
    payer, other = context(attempt()), context(attempt())
    other.shared = True
    observe(metrics, payer, usage)
    observe(metrics, other, usage)
    got = scrape(metrics)
    for kind, tokens in (("input", 7), ("output", 5)):
        labels = {"provider": "p", "model": "m", "kind": kind}
        assert value(got, "tokens_total", **labels) == tokens
        assert value(got, "shared_tokens_total", **labels) == tokens
    assert value(got, "requests_total", route=ROUTE, provider="p", model="m", status="200") == 2


def test_what_was_batched_is_counted() -> None:
    metrics = make()
    batches = GroupMetrics(metrics.families)
    batches.sent("p", 1)
    batches.sent("p", 5)
    batches.waited("p", (0.001, 0.002, 0.003), 1)
    batches.waited("p", (0.004,), 3)  # taken apart, it saved nothing
    batches.shared("p")
    got = scrape(metrics)
    assert value(got, "batch_texts_sum", provider="p") == 6
    assert value(got, "batch_texts_count", provider="p") == 2
    assert value(got, "batch_wait_seconds_count", provider="p") == 4
    assert value(got, "batch_wait_seconds_sum", provider="p") == pytest.approx(0.01)
    assert value(got, "batch_calls_saved_total", provider="p") == 2
    assert value(got, "shared_requests_total", provider="p") == 1


def test_names_follow_the_conventions() -> None:
    for family in _families(make()):
        (described,) = family.describe()
        assert described.name.startswith("llm_server_")
        if described.type == "histogram":
            assert described.name.endswith(("_seconds", "_texts"))


async def test_one_worker_has_nothing_to_keep_fresh() -> None:
    await make().run()


async def test_a_worker_among_many_reads_its_sources_by_itself(tmp_path: Path) -> None:
    read = asyncio.Event()

    def states() -> dict[str, State]:
        read.set()
        return {}

    task = asyncio.create_task(
        Metrics(TelemetryConfig(), "1", sources=Sources(states=states), shared=tmp_path).run()
    )
    await read.wait()
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
