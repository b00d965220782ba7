"""The repository of files."""

from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager

from sqlalchemy import Row, Select, delete, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from llm_server.contract import UNFINISHED, ErrorKind, FileQuery, ServerError, StoredFile
from llm_server.contract.batches import PIECE_BYTES
from llm_server.storage.tables import batch_lines, batches, file_pieces, files

Lending = Callable[[], AbstractAsyncContextManager[AsyncConnection]]

LISTED_LINES = 1000
"""Lines whose sizes are looked up at once, before as many of them are read as make a piece."""


class SqlFiles:
    """Keeps files in the tables ``files`` and ``file_pieces``; see ``FileStore``.

    The files of a batch's lines are not copied: they are read from ``batch_lines``.
    """

    def __init__(self, reading: Lending, writing: Lending) -> None:
        self._reading = reading
        self._writing = writing

    async def begin(self, file: StoredFile) -> None:
        """Begin a file that nobody sees before :meth:`finish`."""
        async with self._writing() as connection:
            await connection.execute(insert(files).values(file_row(file, finished=False)))

    async def append(self, file_id: str, number: int, data: bytes) -> None:
        """Add the piece ``number`` to a begun file; ``NOT_FOUND`` if it was swept away."""
        begun = update(files).where(files.c.id == file_id, files.c.finished.is_(False))
        async with self._writing() as connection:
            grown = await connection.execute(begun.values(size=files.c.size + len(data)))
            if not grown.rowcount:
                raise _gone()
            await connection.execute(insert(file_pieces).values(file_id=file_id, number=number, data=data))

    async def finish(self, file_id: str, expires: int | None = None) -> StoredFile:
        """Let the file be seen, to expire at ``expires`` if given; ``NOT_FOUND`` if it was swept away."""
        values = {"finished": True} if expires is None else {"finished": True, "expires_s": expires}
        done = update(files).where(files.c.id == file_id).values(values).returning(files)
        async with self._writing() as connection:
            row = (await connection.execute(done)).one_or_none()
        if row is None:
            raise _gone()
        return _file(row)

    async def find(self, tenant: str, file_id: str) -> StoredFile | None:
        """Return a finished file, expired or not."""
        async with self._reading() as connection:
            row = (await connection.execute(_one(tenant, file_id))).one_or_none()
        return None if row is None else _file(row)

    async def page(self, query: FileQuery) -> tuple[StoredFile, ...]:
        """Return the files that ``query`` asks for."""
        wanted = select(files).where(files.c.tenant == query.tenant, files.c.finished)
        wanted = wanted.where(files.c.expires_s.is_(None) | (files.c.expires_s > query.now))
        if query.purpose is not None:
            wanted = wanted.where(files.c.purpose == query.purpose)
        if query.after is not None:
            beyond = files.c.id > query.after if query.ascending else files.c.id < query.after
            wanted = wanted.where(beyond)
        ordered = wanted.order_by(files.c.id if query.ascending else files.c.id.desc())
        async with self._reading() as connection:
            return tuple(map(_file, await connection.execute(ordered.limit(query.limit))))

    async def content(self, file: StoredFile) -> AsyncGenerator[bytes, None]:
        """Yield what is in a file, piece by piece, each read in a transaction of its own."""
        if file.batch_id:
            async for piece in self._lines(file):
                yield piece
            return
        for number in range(-(-file.size // PIECE_BYTES)):
            if not (data := await self.piece(file.id, number)):
                raise _gone()
            yield data

    async def piece(self, file_id: str, number: int) -> bytes:
        """Return a piece of an uploaded file, empty beyond its end."""
        this = (file_pieces.c.file_id == file_id, file_pieces.c.number == number)
        async with self._reading() as connection:
            return await connection.scalar(select(file_pieces.c.data).where(*this)) or b""

    async def remove(self, tenant: str, file_id: str) -> bool:
        """Delete a file; ``CONFLICT`` while an unfinished batch reads it."""
        reading = select(batches.c.id).where(
            batches.c.input_file == file_id, batches.c.status.in_(UNFINISHED), batches.c.tenant == tenant
        )
        mine = select(files).where(files.c.tenant == tenant, files.c.id == file_id)
        async with self._writing() as connection:
            row = (await connection.execute(mine)).one_or_none()
            if row is None:
                return False
            if (used_by := await connection.scalar(reading.limit(1))) is not None:
                message = f"Batch '{used_by}' still reads this file; cancel it first."
                raise ServerError(ErrorKind.CONFLICT, message, param="file_id")
            await drop(connection, mine)
        return True

    async def used(self, tenant: str) -> int:
        """Return the bytes of all files, and of the lines that will be files."""
        kept = select(func.coalesce(func.sum(files.c.size), 0)).where(files.c.tenant == tenant)
        coming = select(func.coalesce(func.sum(batches.c.size), 0)).where(
            batches.c.tenant == tenant, batches.c.status.in_(UNFINISHED)
        )
        async with self._reading() as connection:
            sums = [await connection.scalar(each) for each in (kept, coming)]
        return sum(int(each or 0) for each in sums)

    async def _lines(self, file: StoredFile) -> AsyncGenerator[bytes, None]:
        after: int | None = -1
        while after is not None:
            async with self._reading() as connection:
                data, after = await _piece_of_lines(connection, file, after)
            if data:
                yield data


async def _piece_of_lines(
    connection: AsyncConnection, file: StoredFile, after: int
) -> tuple[bytes, int | None]:
    """Return lines of a batch after the line ``after``, and the last one's number: ``None`` at the end."""
    number, data = batch_lines.c.number, batch_lines.c.data
    mine = (batch_lines.c.batch_id == file.batch_id, batch_lines.c.failed.is_(file.failed))
    sizes = select(number, func.length(data)).where(*mine, number > after).order_by(number)
    total, last = 0, None
    for each, size in await connection.execute(sizes.limit(LISTED_LINES)):
        if last is not None and total + size > PIECE_BYTES:
            break
        total, last = total + size, each
    if last is None:
        return b"", None
    wanted = select(data).where(*mine, number > after, number <= last).order_by(number)
    return b"".join(line + b"\n" for line in (await connection.scalars(wanted)).all()), last


async def drop(connection: AsyncConnection, chosen: Select[tuple[object, ...]]) -> None:
    """Delete the files that ``chosen`` selects, and the pieces or lines that they are made of."""
    for row in (await connection.execute(chosen)).all():
        file = _file(row)
        if file.batch_id:
            mine = (batch_lines.c.batch_id == file.batch_id, batch_lines.c.failed.is_(file.failed))
            await connection.execute(delete(batch_lines).where(*mine))
        await connection.execute(delete(file_pieces).where(file_pieces.c.file_id == file.id))
        await connection.execute(delete(files).where(files.c.id == file.id))


def file_row(file: StoredFile, *, finished: bool) -> dict[str, object]:
    """Return the row of a file."""
    return {
        "id": file.id,
        "tenant": file.tenant,
        "name": file.name,
        "purpose": file.purpose,
        "size": file.size,
        "finished": finished,
        "created_s": file.created,
        "expires_s": file.expires,
        "batch_id": file.batch_id,
        "failed": file.failed,
    }


def _one(tenant: str, file_id: str) -> Select[tuple[object, ...]]:
    return select(files).where(files.c.tenant == tenant, files.c.id == file_id, files.c.finished)


def _file(row: Row[tuple[object, ...]]) -> StoredFile:
    return StoredFile(
        id=row.id,
        tenant=row.tenant,
        name=row.name,
        purpose=row.purpose,
        size=row.size,
        created=row.created_s,
        expires=row.expires_s,
        batch_id=row.batch_id,
        failed=row.failed,
    )


def _gone() -> ServerError:
    return ServerError(ErrorKind.NOT_FOUND, "The file was deleted meanwhile.", param="file_id")
