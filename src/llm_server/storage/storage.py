"""Open the database when it is first needed: a server that keeps nothing pays nothing for it."""

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

from llm_server.contract import BatchStore, FileStore, SchemaStore
from llm_server.storage.config import StorageConfig

if TYPE_CHECKING:
    from llm_server.storage.database import Database

FILE = "llm-server.db"


class Storage:
    """The server's one database.

    Args:
        config: which database, and its limits.
        data_dir: the folder of the default SQLite file.
    """

    def __init__(self, config: StorageConfig, data_dir: Path) -> None:
        self._url = config.url or f"sqlite:///{data_dir.expanduser() / FILE}"
        self._path = Path(self._url.removeprefix("sqlite:///").partition("?")[0])
        self._busy_timeout_s = config.busy_timeout_s
        self._database: Database | None = None
        self._opening = asyncio.Lock()

    async def schemas(self) -> SchemaStore:
        """Return the registry's repository, opening and migrating the database if nobody has yet.

        Raises:
            ServerError: ``UNAVAILABLE`` when it cannot be opened; the next call tries again.
        """
        return (await self._opened()).schemas

    async def files(self) -> FileStore:
        """Return the repository of files; opens and raises as :meth:`schemas`."""
        return (await self._opened()).files

    async def batches(self) -> BatchStore:
        """Return the repository of batches; opens and raises as :meth:`schemas`."""
        return (await self._opened()).batches

    def exists(self) -> bool:
        """Whether anything was ever kept: a look at the file, which opens nothing."""
        return self._database is not None or self._path.exists()

    async def close(self) -> None:
        """Close every connection; a later use opens anew."""
        async with self._opening:
            if self._database is not None:
                await self._database.close()
                self._database = None

    async def _opened(self) -> "Database":
        async with self._opening:
            if self._database is None:
                self._database = await self._open()
            return self._database

    async def _open(self) -> "Database":
        # SQLAlchemy takes a third of a second to import: on a thread, so that others are served meanwhile.
        module = await asyncio.to_thread(_imported)
        return await module.open(self._url, self._busy_timeout_s)


def _imported() -> "type[Database]":
    from llm_server.storage.database import Database

    return Database
