"""The life of a batch: which status may follow which."""

import msgspec

from llm_server.contract import UNFINISHED, Batch, BatchStatus

_VALIDATING, _IN_PROGRESS, _FINALIZING = (
    BatchStatus.VALIDATING,
    BatchStatus.IN_PROGRESS,
    BatchStatus.FINALIZING,
)
_CANCELLING = BatchStatus.CANCELLING

FOLLOWING: dict[BatchStatus, frozenset[BatchStatus]] = {
    _VALIDATING: frozenset({_IN_PROGRESS, BatchStatus.FAILED, BatchStatus.EXPIRED, _CANCELLING}),
    _IN_PROGRESS: frozenset({_FINALIZING, BatchStatus.FAILED, BatchStatus.EXPIRED, _CANCELLING}),
    _FINALIZING: frozenset({BatchStatus.COMPLETED, BatchStatus.FAILED}),
    _CANCELLING: frozenset({BatchStatus.CANCELLED, BatchStatus.FAILED}),
}
"""What may follow each status; the statuses that stand nowhere on the left are the last."""


def entered(batch: Batch, status: BatchStatus, now: float) -> Batch:
    """Return ``batch`` in its next ``status``, reached at ``now`` Unix seconds.

    Raises:
        ValueError: ``status`` cannot follow.
    """
    if status not in FOLLOWING.get(batch.status, frozenset()):
        raise ValueError(f"a batch that is {batch.status} cannot become {status}")
    return msgspec.structs.replace(batch, status=status, times={**batch.times, status: int(now)})


def over(batch: Batch) -> bool:
    """Whether nothing is left to do."""
    return batch.status not in UNFINISHED
