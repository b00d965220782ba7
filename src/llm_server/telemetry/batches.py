"""Count batches and their lines. Implements the port ``BatchObserver``."""

from llm_server.contract import BatchStatus, LineOutcome
from llm_server.telemetry.families import Families


class BatchMetrics:
    """Writes into the families of batches."""

    def __init__(self, families: Families) -> None:
        self._batches = {status: families.batches.labels(status.value) for status in BatchStatus}
        outcomes: tuple[LineOutcome, ...] = ("completed", "failed", "expired")
        self._lines = {outcome: families.batch_lines.labels(outcome) for outcome in outcomes}
        self._running = families.batches_running
        self._files = families.batch_files

    def entered(self, status: BatchStatus) -> None:
        """Count a batch that reached ``status``."""
        self._batches[status].inc()

    def ended(self, outcome: LineOutcome, count: int) -> None:
        """Count lines that were recorded."""
        self._lines[outcome].inc(count)

    def cleared(self, provider: str, *, deleted: bool) -> None:
        """Count a file at a provider."""
        self._files.labels(provider, "deleted" if deleted else "left").inc()

    def running(self, change: int) -> None:
        """Note that so many batches more, or fewer, are worked on."""
        self._running.inc(change)
