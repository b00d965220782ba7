"""What batching did, in numbers."""

from collections.abc import Sequence

from llm_server.telemetry.families import Families


class GroupMetrics:
    """Counts in ``families``. Implements the port ``GroupObserver``."""

    def __init__(self, families: Families) -> None:
        self._families = families

    def sent(self, provider: str, texts: int) -> None:
        """Note the size of a call."""
        self._families.batch_texts.labels(provider).observe(texts)

    def waited(self, provider: str, waits_s: Sequence[float], calls: int) -> None:
        """Note what each request waited, and the calls that were saved."""
        wait = self._families.batch_wait.labels(provider)
        for wait_s in waits_s:
            wait.observe(wait_s)
        self._families.batch_saved.labels(provider).inc(max(len(waits_s) - calls, 0))

    def shared(self, provider: str) -> None:
        """Count a request that joined another's call."""
        self._families.shared.labels(provider).inc()
