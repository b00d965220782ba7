"""Make the engine for a database's URL. Everything that is particular to SQLite stands here."""

import asyncio
import time
from functools import partial
from typing import Any

from sqlalchemy import Connection, event, make_url
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import AsyncAdaptedQueuePool
from sqlalchemy.util import await_only

WRITES = "writes"
"""Execution option of connections that write: SQLite then lets the transaction begin when it may write."""
_CONNECTIONS = 4
"""Each connection to SQLite is a thread, and only one of them writes at a time."""
_AGAIN_S = 0.01
"""Seconds between two attempts at what SQLite does not wait for by itself."""


def sqlite(url: str, busy_timeout_s: float) -> AsyncEngine:
    """Return an engine for the SQLite file of ``url``; its folder is made if it is missing.

    Write-ahead logging lets readers go on while one writes (sqlite.org/wal.html); a commit is on the disk
    when it returns (``synchronous=FULL``, the default).
    """
    parsed = make_url(url).set(drivername="sqlite+aiosqlite")
    engine = create_async_engine(
        parsed,
        poolclass=AsyncAdaptedQueuePool,
        pool_size=_CONNECTIONS,
        max_overflow=0,
        connect_args={"timeout": busy_timeout_s},
    )
    event.listen(engine.sync_engine, "connect", partial(_connected, busy_timeout_s))
    event.listen(engine.sync_engine, "begin", _begun)
    return engine


def _connected(busy_timeout_s: float, connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # the driver would begin transactions late, and not for every statement
    cursor = connection.cursor()
    cursor.execute("PRAGMA foreign_keys=ON")
    _write_ahead(cursor, time.monotonic() + busy_timeout_s)
    cursor.close()


def _write_ahead(cursor: Any, until_s: float) -> None:
    """Turn write-ahead logging on; only the first connection to a new file has something to do.

    That one needs the file for itself and fails at once if it has it not: SQLite calls no busy handler where
    two connections could wait for each other (sqlite.org/c3ref/busy_handler.html).
    """
    while True:
        try:
            cursor.execute("PRAGMA journal_mode=WAL")
        except Exception as error:
            if getattr(error, "sqlite_errorname", "") != "SQLITE_BUSY" or time.monotonic() >= until_s:
                raise
            await_only(asyncio.sleep(_AGAIN_S))
        else:
            return


def _begun(connection: Connection) -> None:
    """Begin as SQLAlchemy advises where the driver does not (dialects/sqlite, "Transactions with SQLite").

    A transaction that reads first and writes later could not wait for another writer: it would fail.
    """
    writes = connection.get_execution_options().get(WRITES)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
