"""Every store of schemas does what the port says: the database, and the fake."""

import asyncio
import sqlite3
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from msgspec import Raw
from msgspec.structs import replace
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from llm_server.contract import (
    Compatibility,
    ErrorKind,
    RegisteredSchema,
    SchemaStore,
    SchemaVersion,
    ServerError,
)
from llm_server.storage import Storage, StorageConfig
from llm_server.storage.engines import sqlite
from llm_server.testing import FakeSchemas

Open = Callable[[], Awaitable[SchemaStore]]


@pytest.fixture(params=["database", "fake"])
async def store(request: pytest.FixtureRequest, storage: Storage) -> SchemaStore:
    return await storage.schemas() if request.param == "database" else FakeSchemas()


def about(schema_id: str = "a", **changes: object) -> RegisteredSchema:
    return replace(RegisteredSchema(id=schema_id, name="A", description="d", created=5), **changes)


def version(number: int, schema_id: str = "a", schema: bytes = b'{"type":"object"}') -> SchemaVersion:
    return SchemaVersion(
        schema_id=schema_id,
        version=number,
        schema=Raw(schema),
        digest="f" * 64,
        examples=(Raw(b'{"x":1}'), Raw(b"null")),
        created=7,
    )


async def test_what_is_added_is_found(store: SchemaStore) -> None:
    assert await store.find("a") is None
    assert await store.version("a", 1) is None
    assert await store.add(about(compatibility=Compatibility.FULL), version(1))
    found = await store.find("a")
    assert found == about(compatibility=Compatibility.FULL, versions=(1,))
    assert (found.latest, found.following) == (1, 2)
    assert await store.version("a", 1) == version(1)
    assert await store.version("a", 2) is None
    assert await store.version("b", 1) is None


async def test_a_number_is_given_once(store: SchemaStore) -> None:
    assert await store.add(about(), version(1))
    taken = await store.add(about(name="B"), version(1, schema=b"{}"))
    assert not taken
    assert await store.find("a") == about(versions=(1,)), "nothing was changed"
    assert await store.version("a", 1) == version(1)


async def test_of_many_writers_of_one_number_one_succeeds(store: SchemaStore) -> None:
    added = await asyncio.gather(*(store.add(about(name=str(each)), version(1)) for each in range(20)))
    assert sum(added) == 1
    found = await store.find("a")
    assert found is not None
    assert found.name == str(added.index(True))


async def test_what_is_said_can_be_replaced(store: SchemaStore) -> None:
    await store.add(about(), version(1))
    await store.add(about(), version(2))
    said = about(name="B", description="", compatibility=Compatibility.FORWARD)
    await store.describe(said, replace(version(2), examples=()))
    assert await store.find("a") == replace(said, versions=(1, 2))
    assert await store.version("a", 2) == replace(version(2), examples=())
    assert await store.version("a", 1) == version(1)


async def test_what_is_deleted_is_kept_and_marked(store: SchemaStore) -> None:
    for number in (1, 2, 3):
        await store.add(about(), version(number))
    await store.add(about("b"), version(1, "b"))
    assert await store.remove("a", 2, 99) == 1
    assert await store.remove("a", 2, 100) == 0
    found = await store.find("a")
    assert found == about(versions=(1, 3), deleted=(2,))
    assert await store.version("a", 2) == replace(version(2), deleted=99)
    assert await store.remove("a", None, 101) == 2
    found = await store.find("a")
    assert found is not None
    assert (found.latest, found.following) == (None, 4)
    assert [each.id for each in await store.page("", 9)] == ["b"]


async def test_pages_go_on_after_the_last_id(store: SchemaStore) -> None:
    ids = [f"s{at:03}" for at in range(25)]
    for each in reversed(ids):
        await store.add(about(each), version(1, each))
    seen: list[str] = []
    while page := await store.page(seen[-1] if seen else "", 10):
        assert len(page) <= 10
        seen += [each.id for each in page]
    assert seen == ids


HOSTILE = [
    "a'; DROP TABLE schemas; --",
    '"',
    "%",
    "_",
    "../../etc/passwd",
    "a\nb",
    "é\u0301",
    "\U0001d4b3",
    "a" * 64,
    "\\",
]


async def test_hostile_text_is_text(store: SchemaStore) -> None:
    for each in HOSTILE:
        assert await store.add(
            about(each, name=each, description=each), version(1, each, b'{"title":"\\u0000"}')
        )
    for each in HOSTILE:
        found = await store.find(each)
        assert found == about(each, name=each, description=each, versions=(1,))
        assert await store.version(each, 1) == version(1, each, b'{"title":"\\u0000"}')
    assert {each.id for each in await store.page("", 99)} == set(HOSTILE)


async def test_what_was_added_outlives_the_process(tmp_path: Path) -> None:
    first = Storage(StorageConfig(), tmp_path)
    await (await first.schemas()).add(about(), version(1))
    await first.close()
    second = Storage(StorageConfig(url=f"sqlite:///{tmp_path}/llm-server.db"), Path("/nowhere"))
    assert await (await second.schemas()).version("a", 1) == version(1)
    await second.close()


async def test_the_file_is_in_write_ahead_mode(storage: Storage, tmp_path: Path) -> None:
    store = await storage.schemas()
    await store.add(about(), version(1))
    with sqlite3.connect(tmp_path / "llm-server.db") as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert connection.execute("SELECT count(*) FROM schema_versions").fetchone() == (1,)
    connection.close()


async def test_a_version_without_its_schema_is_refused(storage: Storage, tmp_path: Path) -> None:
    await storage.schemas()
    engine = sqlite(f"sqlite:///{tmp_path}/llm-server.db", 1.0)
    row = text("INSERT INTO schema_versions VALUES ('unknown', 1, '', '', '', 0, NULL)")
    async with engine.connect() as connection:
        with pytest.raises(IntegrityError, match="FOREIGN KEY"):
            await connection.execute(row)
    await engine.dispose()


async def test_writers_in_two_processes_wait_for_each_other(tmp_path: Path) -> None:
    """Two storages are two processes to SQLite: what they share is the file."""
    storages = [Storage(StorageConfig(), tmp_path) for _ in range(2)]
    stores = await asyncio.gather(*(each.schemas() for each in storages))
    wrote = [stores[at % 2].add(about(f"s{at}"), version(1, f"s{at}")) for at in range(40)]
    assert all(await asyncio.gather(*wrote))
    assert len(await stores[0].page("", 99)) == 40
    for each in storages:
        await each.close()


async def test_a_database_that_cannot_be_opened_is_unavailable_and_tried_again(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    storage = Storage(StorageConfig(), tmp_path / "file" / "below")
    with pytest.raises(ServerError) as raised:
        await storage.schemas()
    assert raised.value.kind is ErrorKind.UNAVAILABLE
    (tmp_path / "file").unlink()
    assert await (await storage.schemas()).find("a") is None
    await storage.close()


async def test_a_file_that_is_no_database_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "llm-server.db").write_bytes(b"no database at all, but long enough to look into" * 50)
    storage = Storage(StorageConfig(), tmp_path)
    with pytest.raises(ServerError) as raised:
        await storage.schemas()
    assert raised.value.kind is ErrorKind.UNAVAILABLE
    assert "not a database" in raised.value.detail
    await storage.close()


async def test_it_can_be_used_again_after_closing(storage: Storage) -> None:
    await (await storage.schemas()).add(about(), version(1))
    await storage.close()
    await storage.close()
    assert await (await storage.schemas()).find("a") == about(versions=(1,))


def test_nothing_of_it_is_imported_before_it_is_used() -> None:
    script = "import sys, llm_server.storage; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) & {"sqlalchemy", "alembic", "aiosqlite"} == set()
