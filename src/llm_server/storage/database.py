"""One open database: at the newest revision, with the repositories that work on it."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Self

from sqlalchemy import Connection, inspect, make_url, text
from sqlalchemy.exc import IntegrityError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from llm_server.contract import ErrorKind, ServerError
from llm_server.storage.batches import SqlBatches
from llm_server.storage.engines import WRITES, sqlite
from llm_server.storage.files import SqlFiles
from llm_server.storage.schemas import SqlSchemas

HEAD = "0002"
"""The newest revision in ``migrations/``: a database that has it is used without importing Alembic."""


class Database:
    """Lends connections. Failures of the database are ``UNAVAILABLE``, but for broken constraints."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self.schemas = SqlSchemas(self.reading, self.writing)
        self.files = SqlFiles(self.reading, self.writing)
        self.batches = SqlBatches(self.reading, self.writing)

    @classmethod
    async def open(cls, url: str, busy_timeout_s: float) -> Self:
        """Open ``url``, making a SQLite file and migrating as needed.

        Raises:
            ServerError: ``UNAVAILABLE``: it cannot be opened, or a newer server has migrated it.
        """
        with _available():
            Path(make_url(url).database or "").parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            database = cls(sqlite(url, busy_timeout_s))
            try:
                await database._migrate(url, busy_timeout_s)
            except BaseException:
                await database.close()
                raise
        return database

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[AsyncConnection]:
        """Lend a connection whose reads see one state of the database."""
        with _available():
            async with self._engine.connect() as connection:
                yield connection

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[AsyncConnection]:
        """Lend a connection in a transaction: committed at the end, rolled back by an exception."""
        with _available():
            async with self._engine.execution_options(**{WRITES: True}).begin() as connection:
                yield connection

    async def close(self) -> None:
        """Close every connection."""
        await self._engine.dispose()

    async def _migrate(self, url: str, busy_timeout_s: float) -> None:
        async with self.reading() as connection:
            current = await connection.run_sync(revision)
        if current != HEAD:
            # Alembic works for a tenth of a second: on a thread, with a loop and a connection of its own.
            await asyncio.to_thread(asyncio.run, _upgraded(url, busy_timeout_s))


def revision(connection: Connection) -> str | None:
    """Return the database's revision, ``None`` if it is empty."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    found: str | None = connection.scalar(text("SELECT version_num FROM alembic_version"))
    return found


async def _upgraded(url: str, busy_timeout_s: float) -> None:
    """Migrate in one write transaction: of several processes the first does it, the others find it done."""
    from llm_server.storage.migrating import upgrade

    engine = sqlite(url, busy_timeout_s)
    try:
        async with engine.execution_options(**{WRITES: True}).begin() as connection:
            await connection.run_sync(upgrade, HEAD)
    finally:
        await engine.dispose()


@contextmanager
def _available() -> Iterator[None]:
    try:
        yield
    except IntegrityError:
        raise
    except (SQLAlchemyError, OSError) as error:
        message = "The server's database cannot be used now; its log says why."
        raise ServerError(ErrorKind.UNAVAILABLE, message, detail=str(error), retry_after_s=1.0) from error
