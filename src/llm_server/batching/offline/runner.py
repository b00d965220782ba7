"""Find batches that nobody works on, claim them and work on them: the task that runs all the time."""

import asyncio
import logging
import secrets
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress

from llm_server.batching.offline.config import BatchesConfig
from llm_server.batching.offline.job import Job, LostError
from llm_server.batching.offline.lines import Lines
from llm_server.batching.offline.local import Local
from llm_server.batching.offline.remote import Remote
from llm_server.batching.offline.working import DAY_S, Working, give_up
from llm_server.contract import Batch, BatchObserver, BatchStore, FileStore, ServerError

_log = logging.getLogger(__name__)

SWEEP_S = 3600.0
ABANDONED_S = 6 * 3600
"""After so long an upload that is not finished never will be."""

MAX_HELD = 1000
"""Batches that one process has at once, those that providers run included."""

Stores = Callable[[], Awaitable[tuple[FileStore, BatchStore]]]


class Runner:
    """Works on batches, several at once.

    Args:
        stores: opens the stores.
        kept: whether anything was ever stored: without that nothing is opened.
        runs: who runs batches here, and who has them run by providers.
        observer: hears of batches.
        config: the limits.
        clock: Unix seconds.
    """

    def __init__(
        self,
        stores: tuple[Stores, Callable[[], bool]],
        runs: tuple[Local, Remote],
        observer: BatchObserver,
        config: BatchesConfig,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._stores, self._kept = stores
        self._runs = runs
        self._observer = observer
        self._config = config
        self._clock = clock
        self._woken = asyncio.Event()
        self._jobs: dict[str, tuple[Job, asyncio.Task[None]]] = {}
        self._sweep_at = 0.0
        self._trouble = ""

    async def run(self) -> None:
        """Work until cancelled; then give every claim back, with what is finished kept."""
        try:
            while True:
                self._woken.clear()
                try:
                    if self._kept():
                        await self._round()
                except ServerError as error:
                    self._tell(error.detail or error.message)
                await self._rest()
        finally:
            tasks = [task for _, task in self._jobs.values()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def wake(self, batch_id: str = "") -> None:
        """Look at once: for new batches, or at ``batch_id``, which was changed."""
        for job, _ in self._jobs.values():
            if job.batch.id == batch_id:
                job.poked.set()
        self._woken.set()

    def _tell(self, trouble: str) -> None:
        """Say once why batches cannot be looked for, until that is something else."""
        if trouble != self._trouble:
            _log.warning("batches cannot be looked for now: %s", trouble)
        self._trouble = trouble

    async def _rest(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(self._config.poll_s):
                await self._woken.wait()

    async def _round(self) -> None:
        files, batches = await self._stores()
        self._trouble = ""
        now = self._clock()
        if now >= self._sweep_at:
            self._sweep_at = now + SWEEP_S
            before = int(now) - self._config.retention_days * DAY_S
            await batches.sweep(int(now), before, int(now) - ABANDONED_S)
        while len(self._jobs) < MAX_HELD:
            now = self._clock()
            # A name for each claim: whoever lost one must not write under the next, even in this process.
            owner = secrets.token_hex(16)
            full = self._running >= self._config.max_running  # to end what was given up takes no place
            batch = await batches.claim(owner, now, now + self._config.lease_s, given_up=full)
            if batch is None:
                return
            self._start(batch, owner, files, batches)

    @property
    def _running(self) -> int:
        """How many batches are worked on here; those that a provider runs only have to be asked after."""
        return sum(job.batch.upstream is None for job, _ in self._jobs.values())

    def _start(self, batch: Batch, owner: str, files: FileStore, batches: BatchStore) -> None:
        lines = Lines(files, batch.input_file, batch.endpoint)
        job = Job(batch, owner, batches, lines, (self._observer, self._clock))
        working = Working(files, *self._runs, self._config)
        task = asyncio.create_task(self._work(job, working))
        self._jobs[owner] = job, task
        self._observer.running(1)

        def ended(_: asyncio.Task[None]) -> None:
            del self._jobs[owner]
            self._observer.running(-1)
            self._woken.set()

        task.add_done_callback(ended)

    async def _work(self, job: Job, working: Working) -> None:
        holding = asyncio.create_task(job.hold(self._config.lease_s))
        try:
            await working(job)
        except LostError:
            _log.warning("batch %s is worked on by another process now", job.batch.id)
            return
        except ServerError as error:
            _log.warning("batch %s waits: %s", job.batch.id, error.detail or error.message)
            await asyncio.sleep(self._config.poll_s)
        except Exception:  # noqa: BLE001 - whatever a bug raises, the other batches go on
            _log.exception("batch %s failed", job.batch.id)
            await give_up(job)
        finally:
            holding.cancel()
            await asyncio.wait({holding})
            await self._release(job)

    async def _release(self, job: Job) -> None:
        try:
            await job.release()
        except ServerError as error:
            _log.warning("batch %s could not be given back: %s", job.batch.id, error.detail)
