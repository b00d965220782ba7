"""The repository of batches."""

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from functools import reduce
from operator import add

import msgspec
from sqlalchemy import Row, delete, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from llm_server.contract import UNFINISHED, Batch, BatchStatus, LineResult, StoredFile, Usage
from llm_server.storage.files import drop, file_row
from llm_server.storage.tables import batch_lines, batches, files

Lending = Callable[[], AbstractAsyncContextManager[AsyncConnection]]

CANCELLABLE = (BatchStatus.VALIDATING, BatchStatus.IN_PROGRESS)
NOBODY = ""


class SqlBatches:
    """Keeps batches in the table ``batches``, their finished lines in ``batch_lines``; see ``BatchStore``."""

    def __init__(self, reading: Lending, writing: Lending) -> None:
        self._reading = reading
        self._writing = writing

    async def add(self, batch: Batch) -> None:
        """Add a new batch."""
        unclaimed = {"owner": NOBODY, "claimed_until_s": 0.0, "completed": 0, "failed": 0, "size": 0}
        fixed = {"id": batch.id, "tenant": batch.tenant, "input_file": batch.input_file}
        row = {**fixed, **unclaimed, "usage": _json(Usage()), **_changing(batch)}
        async with self._writing() as connection:
            await connection.execute(insert(batches).values(row))

    async def find(self, tenant: str, batch_id: str) -> Batch | None:
        """Return a batch."""
        wanted = select(batches).where(batches.c.tenant == tenant, batches.c.id == batch_id)
        async with self._reading() as connection:
            row = (await connection.execute(wanted)).one_or_none()
        return None if row is None else _batch(row)

    async def page(self, tenant: str, after: str | None, limit: int) -> tuple[Batch, ...]:
        """Return batches, newest first, after the batch ``after``."""
        wanted = select(batches).where(batches.c.tenant == tenant).order_by(batches.c.id.desc())
        if after is not None:
            wanted = wanted.where(batches.c.id < after)
        async with self._reading() as connection:
            return tuple(map(_batch, await connection.execute(wanted.limit(limit))))

    async def cancel(self, tenant: str, batch_id: str, at: int) -> Batch | None:
        """Let a batch that is validated or in progress be cancelling; return it as it then is."""
        wanted = select(batches).where(batches.c.tenant == tenant, batches.c.id == batch_id)
        async with self._writing() as connection:
            row = (await connection.execute(wanted)).one_or_none()
            if row is None or row.status not in CANCELLABLE:
                return None if row is None else _batch(row)
            found = _batch(row)
            status = BatchStatus.CANCELLING
            changed = msgspec.structs.replace(found, status=status, times={**found.times, status: at})
            await connection.execute(
                update(batches).where(batches.c.id == batch_id).values(_changing(changed))
            )
        return changed

    async def claim(self, owner: str, now: float, until: float, *, given_up: bool = False) -> Batch | None:
        """Take the oldest unfinished batch that nobody has; ``given_up``: only one that is cancelling."""
        wanted = (BatchStatus.CANCELLING,) if given_up else UNFINISHED
        free = batches.c.status.in_(wanted) & (batches.c.claimed_until_s <= now)
        oldest = select(batches.c.id).where(free).order_by(batches.c.id).limit(1).scalar_subquery()
        taken = update(batches).where(batches.c.id == oldest).values(owner=owner, claimed_until_s=until)
        async with self._reading() as connection:  # most often there is nothing, and writers need not wait
            if await connection.scalar(select(batches.c.id).where(free).limit(1)) is None:
                return None
        async with self._writing() as connection:
            row = (await connection.execute(taken.returning(batches))).one_or_none()
        return None if row is None else _batch(row)

    async def renew(self, batch_id: str, owner: str, until: float) -> Batch | None:
        """Keep a claim, and return the batch as it is; ``None`` if another one has it."""
        mine = (batches.c.id == batch_id, batches.c.owner == owner)
        kept = update(batches).where(*mine).values(claimed_until_s=until).returning(batches)
        async with self._writing() as connection:
            row = (await connection.execute(kept)).one_or_none()
        return None if row is None else _batch(row)

    async def release(self, batch_id: str, owner: str) -> None:
        """Give a claim back, if it is still ``owner``'s."""
        mine = (batches.c.id == batch_id, batches.c.owner == owner)
        async with self._writing() as connection:
            await connection.execute(update(batches).where(*mine).values(owner=NOBODY, claimed_until_s=0.0))

    async def update(
        self, batch: Batch, owner: str, was: BatchStatus, files: Sequence[StoredFile] = ()
    ) -> bool:
        """Replace a batch, all but its counts and usage, and add the files that its lines make."""
        mine = (batches.c.id == batch.id, batches.c.owner == owner, batches.c.status == was)
        async with self._writing() as connection:
            done = await connection.execute(update(batches).where(*mine).values(_changing(batch)))
            if done.rowcount and files:
                await _add_files(connection, files)
        return done.rowcount > 0

    async def record(self, batch_id: str, owner: str, results: Sequence[LineResult]) -> Batch | None:
        """Keep finished lines, each once, and count them; ``None`` if the claim is lost."""
        mine = select(batches.c.usage).where(batches.c.id == batch_id, batches.c.owner == owner)
        async with self._writing() as connection:
            if (before := await connection.scalar(mine.with_for_update())) is None:
                return None
            known = await _known(connection, batch_id, results)
            new = list({each.number: each for each in reversed(results) if each.number not in known}.values())
            if new:
                rows = [_line(batch_id, each) for each in new]
                await connection.execute(insert(batch_lines), rows)
            failed = sum(each.outcome != "completed" for each in new)
            usage = reduce(add, (each.usage for each in new), msgspec.json.decode(before, type=Usage))
            counted = {
                "completed": batches.c.completed + len(new) - failed,
                "failed": batches.c.failed + failed,
                "size": batches.c.size + sum(len(each.data) + 1 for each in new),
                "usage": _json(usage),
            }
            changed = update(batches).where(batches.c.id == batch_id).values(counted).returning(batches)
            return _batch((await connection.execute(changed)).one())

    async def recorded(self, batch_id: str) -> tuple[int, ...]:
        """Return the numbers of the finished lines."""
        wanted = select(batch_lines.c.number).where(batch_lines.c.batch_id == batch_id)
        async with self._reading() as connection:
            return tuple(await connection.scalars(wanted))

    async def sizes(self, batch_id: str) -> tuple[int, int]:
        """Return how many bytes the answers and the failures of a batch make as files."""
        size = func.sum(func.length(batch_lines.c.data) + 1)
        wanted = select(batch_lines.c.failed, size).where(batch_lines.c.batch_id == batch_id)
        async with self._reading() as connection:
            rows = await connection.execute(wanted.group_by(batch_lines.c.failed))
            found = {bool(failed): int(total) for failed, total in rows}
        return found.get(False, 0), found.get(True, 0)

    async def sweep(self, now: int, finished_before: int, begun_before: int) -> int:
        """Delete what is over; return how many files and batches."""
        read = select(batches.c.input_file).where(batches.c.status.in_(UNFINISHED))
        expired = files.c.finished & (files.c.expires_s <= now) & files.c.id.not_in(read)
        abandoned = files.c.finished.is_(False) & (files.c.created_s < begun_before)
        old = select(batches.c.id).where(batches.c.finished_s < finished_before)
        async with self._reading() as connection:
            gone = (await connection.scalars(select(files.c.id).where(expired | abandoned))).all()
            ended = (await connection.scalars(old)).all()
        for file_id in gone:  # each in a transaction of its own: others want to write meanwhile
            async with self._writing() as connection:
                await drop(connection, select(files).where(files.c.id == file_id))
        for batch_id in ended:
            async with self._writing() as connection:
                await drop(connection, select(files).where(files.c.batch_id == batch_id))
                await connection.execute(delete(batch_lines).where(batch_lines.c.batch_id == batch_id))
                await connection.execute(delete(batches).where(batches.c.id == batch_id))
        return len(gone) + len(ended)


async def _add_files(connection: AsyncConnection, made: Sequence[StoredFile]) -> None:
    await connection.execute(insert(files), [file_row(each, finished=True) for each in made])


async def _known(connection: AsyncConnection, batch_id: str, results: Sequence[LineResult]) -> set[int]:
    """Return the numbers of those ``results`` that are kept already."""
    mine = (batch_lines.c.batch_id == batch_id, batch_lines.c.number.in_([each.number for each in results]))
    return set(await connection.scalars(select(batch_lines.c.number).where(*mine)))


def _line(batch_id: str, result: LineResult) -> dict[str, object]:
    failed = result.outcome != "completed"
    return {"batch_id": batch_id, "number": result.number, "failed": failed, "data": result.data}


def _changing(batch: Batch) -> dict[str, object]:
    """Return what an update writes: everything but the counts, which only ``record`` changes."""
    over = None if batch.status in UNFINISHED else batch.times.get(batch.status, batch.created)
    return {"status": batch.status.value, "finished_s": over, "about": _json(batch)}


def _batch(row: Row[tuple[object, ...]]) -> Batch:
    return msgspec.structs.replace(
        msgspec.json.decode(row.about, type=Batch),
        status=BatchStatus(row.status),
        completed=row.completed,
        failed=row.failed,
        usage=msgspec.json.decode(row.usage, type=Usage),
    )


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()
