"""Run a batch line by line through this server's own pipeline, within the room that others leave."""

import asyncio
from collections.abc import Iterable

from llm_server.batching.offline.asking import FAULTS, Asking, Outcome
from llm_server.batching.offline.config import BatchesConfig
from llm_server.batching.offline.job import Job
from llm_server.batching.offline.lines import Asked
from llm_server.batching.offline.pace import Pace, Room
from llm_server.batching.offline.recording import Recording
from llm_server.contract import ErrorKind

MAX_UNREACHED = 30
"""How often a line is tried whose provider cannot be reached: some ten minutes, with pauses of up to one."""


class Local:
    """Runs batches of this server.

    Args:
        asking: asks one line.
        config: how many lines are under way at most, and how often a line is asked.
    """

    def __init__(self, asking: Asking, config: BatchesConfig) -> None:
        self._asking = asking
        self._concurrency = config.concurrency
        self._max_attempts = config.max_attempts

    async def __call__(self, job: Job, left: Iterable[tuple[int, int, int]]) -> None:
        """Ask the lines that are ``left``. What is finished when this is cancelled is kept all the same."""
        pace, recording = Pace(self._concurrency), Recording(job.keep)
        slots = asyncio.Semaphore(self._concurrency)

        async def line(number: int, asked: Asked) -> None:
            try:
                outcome = await self._finished(pace, number, asked)
                await recording.record(outcome.result)
            finally:
                slots.release()

        try:
            async with asyncio.TaskGroup() as group:
                for number, offset, size in left:
                    await slots.acquire()
                    group.create_task(line(number, await job.lines.read(offset, size)))
        except BaseExceptionGroup as failures:
            raise failures.exceptions[0] from None
        finally:
            await recording.flush()
            pace.close()

    async def _finished(self, pace: Pace, number: int, asked: Asked) -> Outcome:
        """Ask a line until it has an answer, or an error that another try would not change."""
        faults = unreached = 0
        answered: int | None = None
        while True:
            entered_at, outcome = await pace.enter(), None
            try:
                outcome = await self._asking(number, asked)
            finally:
                _leave(pace, entered_at, outcome)
            kind = None if outcome.error is None else outcome.error.kind
            if kind is ErrorKind.UPSTREAM_UNREACHABLE:
                # It may be down, or it is this line that breaks it: then others are answered meanwhile.
                unreached += 1
                faults += answered is not None and pace.answered > answered
                answered = pace.answered
            elif outcome.room is not Room.NONE:
                faults += 1
                if kind not in FAULTS:
                    return outcome
            if faults >= self._max_attempts or unreached >= MAX_UNREACHED:
                return outcome


def _leave(pace: Pace, entered_at: float, outcome: Outcome | None) -> None:
    room = None if outcome is None else outcome.room
    retry_after_s = None if outcome is None or outcome.error is None else outcome.error.retry_after_s
    pace.leave(entered_at, room, retry_after_s)
