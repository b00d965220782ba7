"""Tallies hand over exactly what the library itself would have counted."""

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import generate_latest

from llm_server.telemetry.tallies import Tally, Times

BOUNDS = (0.01, 0.1, 1.0)
SECONDS = st.one_of(st.sampled_from([0.0, 0.01, 0.1, 1.0]), st.floats(0, 3, allow_nan=False))


def buckets_of(registry: CollectorRegistry) -> list[bytes]:
    """What is told of a histogram but its sum, whose last digits depend on the order, and its birth."""
    lines = generate_latest(registry).splitlines()
    return [line for line in lines if not line.startswith((b"t_sum", b"t_created"))]


@given(st.lists(st.lists(SECONDS, max_size=20), max_size=4))
def test_times_are_those_of_the_histogram_however_often_they_are_settled(rounds: list[list[float]]) -> None:
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    told = Histogram("t", "t", ["x"], buckets=BOUNDS, registry=ours).labels("a")
    expected = Histogram("t", "t", ["x"], buckets=BOUNDS, registry=theirs).labels("a")
    times = Times(told, BOUNDS)
    for batch in rounds:
        for seconds in batch:
            times.observe(seconds)
            expected.observe(seconds)
        times.settle()
        times.settle()
    buckets = buckets_of(ours)
    assert buckets == buckets_of(theirs)
    sums = [registry.get_sample_value("t_sum", {"x": "a"}) or 0.0 for registry in (ours, theirs)]
    assert abs(sums[0] - sums[1]) < 1e-9


@given(st.lists(st.integers(-3, 9)))
def test_a_tally_adds_up_once(steps: list[int]) -> None:
    registry = CollectorRegistry()
    tally = Tally(Gauge("g", "g", registry=registry))
    for step in steps:
        tally.count += step
        tally.settle()
        tally.settle()
    assert registry.get_sample_value("g") == sum(steps)


def test_a_counter_takes_what_is_handed_over() -> None:
    registry = CollectorRegistry()
    tally = Tally(Counter("c", "c", registry=registry))
    tally.count += 3
    assert registry.get_sample_value("c_total") == 0
    tally.settle()
    assert registry.get_sample_value("c_total") == 3
