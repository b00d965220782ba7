"""Bring one batch forward, from whatever status it is in: what a new one needs, and one left by a crash."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import aclosing

from llm_server.batching.offline.config import BatchesConfig
from llm_server.batching.offline.job import ChangedError, Job, LostError
from llm_server.batching.offline.lines import Checked, Checking
from llm_server.batching.offline.local import Local
from llm_server.batching.offline.names import new_id
from llm_server.batching.offline.outcome import EXPIRED, Named, not_asked
from llm_server.batching.offline.remote import RefusedError, Remote
from llm_server.batching.offline.states import over
from llm_server.contract import (
    BatchStatus,
    ErrorKind,
    FileStore,
    LineProblem,
    LineResult,
    ServerError,
    StoredFile,
)

_log = logging.getLogger(__name__)

OUTPUT = "batch_output"
"""The purpose of the files that a batch makes."""
GROUP = 500
DAY_S = 86_400


class Working:
    """Works on batches.

    Args:
        files: where their input files are.
        local: runs lines here.
        remote: has lines run by providers.
        config: the limits.
    """

    def __init__(self, files: FileStore, local: Local, remote: Remote, config: BatchesConfig) -> None:
        self._files = files
        self._local = local
        self._remote = remote
        self._config = config
        self._steps: dict[BatchStatus, Callable[[Job], Awaitable[None]]] = {
            BatchStatus.VALIDATING: self._validate,
            BatchStatus.IN_PROGRESS: self._run,
            BatchStatus.FINALIZING: self._complete,
            BatchStatus.CANCELLING: self._cancel,
        }

    async def __call__(self, job: Job) -> None:
        """Work until the batch is over; raises ``LostError`` when it is another's, and as the stores do."""
        while not over(job.batch):
            try:
                await self._steps[job.batch.status](job)
            except ChangedError:
                continue

    async def _validate(self, job: Job) -> None:
        if job.expired:
            await job.move(BatchStatus.EXPIRED)
            return
        try:
            checked = await self._checked(job)
        except ServerError as error:
            if error.kind is not ErrorKind.NOT_FOUND:
                raise
            gone = LineProblem(code="file_not_found", message=error.message, param="input_file_id")
            await job.move(BatchStatus.FAILED, problems=(gone,))
            return
        status = BatchStatus.FAILED if checked.problems else BatchStatus.IN_PROGRESS
        await job.move(status, total=len(checked.index), model=checked.model, problems=checked.problems)

    async def _run(self, job: Job) -> None:
        job.checked = job.checked or await self._checked(job)
        run = self._local if job.batch.upstream is None else self._remote
        try:
            done = not job.expired and await job.unless_stopping(run(job, await job.left()))
        except RefusedError as refused:
            problem = LineProblem(code="provider_refused", message=str(refused))
            await self._close(job, BatchStatus.FAILED, problems=(problem,))
            return
        if done:
            await job.move(BatchStatus.FINALIZING)
        elif job.batch.status is BatchStatus.IN_PROGRESS and job.expired:
            await self._expire(job)

    async def _complete(self, job: Job) -> None:
        await self._close(job, BatchStatus.COMPLETED)

    async def _cancel(self, job: Job) -> None:
        if job.batch.upstream is not None:
            job.checked = job.checked or await self._checked(job)
            await self._remote.stop(job)
        await self._close(job, BatchStatus.CANCELLED)

    async def _expire(self, job: Job) -> None:
        if job.batch.upstream is not None:
            await self._remote.stop(job)
        group: list[LineResult] = []
        for number, offset, size in await job.left():
            asked = await job.lines.read(offset, size)
            group.append(not_asked(Named(number, asked.custom_id), *EXPIRED))
            if len(group) >= GROUP:
                await job.keep(group)
                group = []
        if group:
            await job.keep(group)
        await self._close(job, BatchStatus.EXPIRED)

    async def _checked(self, job: Job) -> Checked:
        batch = job.batch
        file = await self._files.find(batch.tenant, batch.input_file)
        if file is None:
            raise ServerError(ErrorKind.NOT_FOUND, "The input file is no longer there.")
        limits = self._config.max_lines, self._config.max_line_bytes
        check = Checking(batch.endpoint, *limits, one_model=batch.upstream is not None)
        async with aclosing(self._files.content(file)) as content:
            job.checked = await check(content)
        return job.checked

    async def _close(self, job: Job, status: BatchStatus, problems: tuple[LineProblem, ...] = ()) -> None:
        """Let the finished lines be files, and the batch be over, in one write.

        Its files at the provider go before that, while this is still done again after a crash.
        """
        if job.collected or job.batch.status is BatchStatus.FINALIZING:
            await self._remote.clear(job)
        answers, failures = await job.sizes()
        output = self._made(job, answers, failed=False) if answers else None
        errors = self._made(job, failures, failed=True) if failures else None
        await job.move(
            status,
            [each for each in (output, errors) if each is not None],
            output_file=output and output.id,
            error_file=errors and errors.id,
            problems=problems,
        )

    def _made(self, job: Job, size: int, *, failed: bool) -> StoredFile:
        batch, now = job.batch, int(job.now())
        lasting_s = batch.output_expires_after_s or self._config.retention_days * DAY_S
        return StoredFile(
            id=new_id("file-"),
            tenant=batch.tenant,
            name=f"{batch.id}_{'error' if failed else 'output'}.jsonl",
            purpose=OUTPUT,
            size=size,
            created=now,
            expires=now + lasting_s,
            batch_id=batch.id,
            failed=failed,
        )


async def give_up(job: Job) -> None:
    """Let a batch fail that cannot be worked on, so that it is not tried for ever."""
    message = "Internal error; see the server's log."
    problem = LineProblem(code="internal_error", message=message)
    try:
        await asyncio.shield(job.move(BatchStatus.FAILED, problems=(problem,)))
    except (ServerError, ChangedError, LostError, ValueError):
        _log.warning("batch %s could not be marked as failed", job.batch.id)
