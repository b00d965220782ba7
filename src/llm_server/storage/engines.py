"""Make the engine for a database's URL. Everything that is particular to SQLite stands here."""

from typing import Any

from sqlalchemy import Connection, event, make_url
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import AsyncAdaptedQueuePool

WRITES = "writes"
"""Execution option of connections that write: SQLite then lets the transaction begin when it may write."""
_CONNECTIONS = 4
"""Each connection to SQLite is a thread, and only one of them writes at a time."""


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
    event.listen(engine.sync_engine, "connect", _connected)
    event.listen(engine.sync_engine, "begin", _begun)
    return engine


def _connected(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # the driver would begin transactions late, and not for every statement
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "foreign_keys=ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begun(connection: Connection) -> None:
    """Begin as SQLAlchemy advises where the driver does not (dialects/sqlite, "Transactions with SQLite").

    A transaction that reads first and writes later could not wait for another writer: it would fail.
    """
    writes = connection.get_execution_options().get(WRITES)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
