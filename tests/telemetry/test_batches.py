"""What is counted of batches."""

from prometheus_client import CollectorRegistry

from llm_server.contract import BatchStatus
from llm_server.telemetry.batches import BatchMetrics
from llm_server.telemetry.families import Families


def test_batches_and_lines_are_counted_and_those_at_work_are_told() -> None:
    registry = CollectorRegistry()
    metrics = BatchMetrics(Families(registry, (1.0,)))
    for status in (BatchStatus.IN_PROGRESS, BatchStatus.IN_PROGRESS, BatchStatus.FAILED):
        metrics.entered(status)
    metrics.ended("completed", 5)
    metrics.ended("expired", 2)
    for deleted in (True, True, False):
        metrics.cleared("up", deleted=deleted)
    metrics.running(2)
    metrics.running(-1)

    def value(name: str, **labels: str) -> float | None:
        return registry.get_sample_value(f"llm_server_{name}", labels)

    assert value("batches_total", status="in_progress") == 2
    assert value("batches_total", status="failed") == 1
    assert value("batches_total", status="completed") == 0
    assert value("batch_lines_total", outcome="completed") == 5
    assert value("batch_lines_total", outcome="expired") == 2
    assert value("batch_lines_total", outcome="failed") == 0
    assert value("batch_provider_files_total", provider="up", outcome="deleted") == 2
    assert value("batch_provider_files_total", provider="up", outcome="left") == 1
    assert value("batches_running") == 1
