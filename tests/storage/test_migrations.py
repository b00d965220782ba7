"""The migrations make the tables that the code uses, and keep what is in them."""

import asyncio
import shutil
import sqlite3
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, create_engine, text
from sqlalchemy.pool import NullPool

from llm_server.contract import ErrorKind, ServerError
from llm_server.storage import Storage, StorageConfig
from llm_server.storage.database import HEAD, revision
from llm_server.storage.migrating import FOLDER, newest, upgrade
from llm_server.storage.tables import metadata
from tests.storage.test_schemas import about, version

NEXT = """
import sqlalchemy as sa
from alembic import op

revision, down_revision = "9999", "{head}"


def upgrade():
    with op.batch_alter_table("schema_versions") as batch:
        batch.add_column(sa.Column("owner", sa.String(64), nullable=False, server_default="nobody"))
        batch.alter_column("digest", nullable=True)
"""


def connected(path: Path) -> Connection:
    return create_engine(f"sqlite:///{path}", poolclass=NullPool).connect()


def test_the_newest_revision_is_the_one_that_the_code_expects() -> None:
    assert newest() == HEAD


def test_the_migrations_make_the_tables_that_the_code_describes(tmp_path: Path) -> None:
    with connected(tmp_path / "x.db") as connection:
        upgrade(connection, HEAD)
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []


def test_downgrading_and_upgrading_again_works(tmp_path: Path) -> None:
    from alembic import command

    from llm_server.storage.migrating import configuration

    with connected(tmp_path / "x.db") as connection:
        config = configuration()
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
        command.downgrade(config, "base")
        assert revision(connection) is None
        command.upgrade(config, "head")
        assert revision(connection) == HEAD


async def test_a_populated_database_keeps_its_rows_through_a_migration(tmp_path: Path) -> None:
    """The next revision, as somebody will write it, on a database in use: a column more, another changed."""
    storage = Storage(StorageConfig(), tmp_path)
    store = await storage.schemas()
    for number in range(1, 51):
        await store.add(about(), version(number, schema=b'{"title":"%d"}' % number))
    await storage.close()
    folder = tmp_path / "migrations"
    shutil.copytree(FOLDER, folder)
    (folder / "versions" / "r9999_next.py").write_text(NEXT.format(head=HEAD))
    with connected(tmp_path / "llm-server.db") as connection:
        upgrade(connection, "9999", folder)
        connection.commit()
        rows = connection.execute(
            text("SELECT version, body, owner FROM schema_versions ORDER BY version")
        ).all()
        assert rows == [(number, f'{{"title":"{number}"}}', "nobody") for number in range(1, 51)]
        broken = connection.execute(text("PRAGMA foreign_key_check")).all()
        assert broken == []


async def test_the_first_revision_with_rows_becomes_the_newest(tmp_path: Path) -> None:
    with connected(tmp_path / "llm-server.db") as connection:
        upgrade(connection, "0001")
        row = "INSERT INTO schemas VALUES ('a', 'A', '', 'none', 5)"
        versions = "INSERT INTO schema_versions VALUES ('a', 1, '{}', 'd', '[]', 5, NULL)"
        for statement in (row, versions):
            connection.execute(text(statement))
        connection.commit()
        assert revision(connection) == "0001"
    storage = Storage(StorageConfig(), tmp_path)
    kept = await (await storage.schemas()).find("a")
    assert kept is not None
    assert kept.versions == (1,)
    assert await (await storage.batches()).page("", None, 9) == ()
    await storage.close()
    with connected(tmp_path / "llm-server.db") as connection:
        assert revision(connection) == HEAD
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []


async def test_a_migration_that_fails_changes_nothing(tmp_path: Path) -> None:
    storage = Storage(StorageConfig(), tmp_path)
    await (await storage.schemas()).add(about(), version(1))
    await storage.close()
    folder = tmp_path / "migrations"
    shutil.copytree(FOLDER, folder)
    failing = NEXT.format(head=HEAD) + "    raise RuntimeError('half way')\n"
    (folder / "versions" / "r9999_next.py").write_text(failing)
    path = tmp_path / "llm-server.db"
    from llm_server.storage.engines import WRITES, sqlite

    engine = sqlite(f"sqlite:///{path}", 1.0)
    with pytest.raises(RuntimeError, match="half way"):
        async with engine.execution_options(**{WRITES: True}).begin() as connection:
            await connection.run_sync(upgrade, "9999", folder)
    await engine.dispose()
    with connected(path) as connection:
        assert revision(connection) == HEAD
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
        assert connection.execute(text("SELECT count(*) FROM schema_versions")).scalar() == 1


async def test_several_processes_that_start_at_once_migrate_once(tmp_path: Path) -> None:
    storages = [Storage(StorageConfig(), tmp_path) for _ in range(4)]
    stores = await asyncio.gather(*(each.schemas() for each in storages))
    assert [await store.find("a") for store in stores] == [None] * 4
    for each in storages:
        await each.close()


async def test_a_database_of_a_newer_server_is_refused(tmp_path: Path) -> None:
    storage = Storage(StorageConfig(), tmp_path)
    await storage.schemas()
    await storage.close()
    with sqlite3.connect(tmp_path / "llm-server.db") as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()
    with pytest.raises(ServerError) as raised:
        await storage.schemas()
    assert raised.value.kind is ErrorKind.UNAVAILABLE
    assert HEAD in raised.value.message
