"""One batch that this process works on: what it is now, and the claim to it."""

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Sequence
from contextlib import suppress
from typing import Any

import msgspec

from llm_server.batching.offline.lines import Checked, Lines
from llm_server.batching.offline.states import entered
from llm_server.contract import (
    Batch,
    BatchObserver,
    BatchStatus,
    BatchStore,
    LineResult,
    ServerError,
    StoredFile,
)


class LostError(Exception):
    """Another process has the batch now."""


class ChangedError(Exception):
    """The batch was changed meanwhile: what to do next must be decided anew."""


class Job:
    """A claimed batch. What it writes is void once the claim is lost: then :class:`LostError` is raised.

    Attributes:
        batch: as it is known to be.
        stopping: set when lines should no longer be asked: it is to be cancelled, its window or its claim is
            over.
        poked: set to have the claim renewed, and the batch looked at, at once.
        checked: what its input file holds, once that was looked at.
        collected: whether all that its provider answered is kept.
    """

    def __init__(
        self,
        batch: Batch,
        owner: str,
        store: BatchStore,
        lines: Lines,
        told: tuple[BatchObserver, Callable[[], float]],
    ) -> None:
        self.batch = batch
        self.lines = lines
        self.stopping = asyncio.Event()
        self.poked = asyncio.Event()
        self.checked: Checked | None = None
        self.collected = False
        self._owner = owner
        self._store = store
        self._observer, self.now = told
        self._lost = False
        self._one_at_a_time = asyncio.Lock()

    @property
    def expired(self) -> bool:
        """Whether its window is over."""
        return self.now() >= self.batch.expires

    async def move(self, status: BatchStatus, files: Sequence[StoredFile] = (), **changes: Any) -> None:
        """Let the batch reach ``status``, with ``changes``."""
        await self._write(changes, files, status)
        self._observer.entered(status)

    async def note(self, **changes: Any) -> None:
        """Change the batch without another status."""
        await self._write(changes)

    async def keep(self, results: Sequence[LineResult]) -> None:
        """Keep finished lines."""
        async with self._one_at_a_time:
            fresh = await self._store.record(self.batch.id, self._owner, results)
            if fresh is None:
                raise self._lose()
            self._seen(fresh)
        for result in results:
            self._observer.ended(result.outcome, 1)

    def cleared(self, provider: str, *, deleted: bool) -> None:
        """Tell of a file that the batch has had at its provider."""
        self._observer.cleared(provider, deleted=deleted)

    async def left(self) -> Iterable[tuple[int, int, int]]:
        """Return number, offset and size of the lines that are not finished; ``checked`` must be set."""
        assert self.checked is not None
        recorded = frozenset(await self._store.recorded(self.batch.id))
        return [line for line in self.checked.index if line[0] not in recorded]

    async def sizes(self) -> tuple[int, int]:
        """Return the bytes of the answers and of the failures."""
        return await self._store.sizes(self.batch.id)

    async def hold(self, lease_s: float) -> None:
        """Renew the claim for as long as this runs, and set ``stopping`` when it is time."""
        held_until = self.now() + lease_s
        while not self._lost:
            left_s = min(lease_s / 3, max(0.05, self.batch.expires - self.now()))
            if self.expired:
                self.stopping.set()
                left_s = lease_s / 3
            with suppress(TimeoutError):
                async with asyncio.timeout(left_s):
                    await self.poked.wait()
            self.poked.clear()
            until = self.now() + lease_s
            try:
                await self._renew(until)
            except ServerError:  # the database is busy or gone: the claim holds until its time is over
                self._lost = self.now() >= held_until
            else:
                held_until = until
        self.stopping.set()

    async def _renew(self, until: float) -> None:
        async with self._one_at_a_time:
            fresh = await self._store.renew(self.batch.id, self._owner, until)
            self._lost = self._lost or fresh is None
            if fresh is not None:
                self._seen(fresh)

    async def release(self) -> None:
        """Give the claim back."""
        await self._store.release(self.batch.id, self._owner)

    async def unless_stopping(self, work: Coroutine[Any, Any, None]) -> bool:
        """Do ``work`` until it is done or must stop; return whether it is done.

        Raises:
            LostError: it had to stop because of that.
        """
        working, stop = asyncio.create_task(work), asyncio.create_task(self.stopping.wait())
        try:
            await asyncio.wait({working, stop}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stop.cancel()
            working.cancel()
            await asyncio.wait({working, stop})
        error = None if working.cancelled() else working.exception()
        if self._lost:
            raise LostError from error
        if error is not None:
            raise error
        return not working.cancelled()

    def _seen(self, fresh: Batch) -> None:
        if fresh.status is not self.batch.status:
            self.stopping.set()
        self.batch = fresh

    async def _write(
        self, changes: dict[str, Any], files: Sequence[StoredFile] = (), status: BatchStatus | None = None
    ) -> None:
        async with self._one_at_a_time:
            was = self.batch.status
            changed = msgspec.structs.replace(self.batch, **changes)
            if status is not None:
                changed = entered(changed, status, self.now())
            if await self._store.update(changed, self._owner, was, files):
                self.batch = changed
                return
            fresh = await self._store.find(self.batch.tenant, self.batch.id)
            if fresh is None or fresh.status is was:
                raise self._lose()
            self._seen(fresh)
            raise ChangedError

    def _lose(self) -> LostError:
        self._lost = True
        self.stopping.set()
        return LostError()
