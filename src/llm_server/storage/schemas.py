"""The schema registry's repository."""

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager

import msgspec
from msgspec import Raw
from sqlalchemy import Row, insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from llm_server.contract import Compatibility, RegisteredSchema, SchemaVersion
from llm_server.storage.tables import schema_versions as versions
from llm_server.storage.tables import schemas

Lending = Callable[[], AbstractAsyncContextManager[AsyncConnection]]


class SqlSchemas:
    """Keeps registered schemas in the tables ``schemas`` and ``schema_versions``; see ``SchemaStore``."""

    def __init__(self, reading: Lending, writing: Lending) -> None:
        self._reading = reading
        self._writing = writing

    async def find(self, schema_id: str) -> RegisteredSchema | None:
        """Return what is registered under ``schema_id``, ``None`` if nothing was ever."""
        async with self._reading() as connection:
            rows = (await connection.execute(select(schemas).where(schemas.c.id == schema_id))).all()
            found = await _with_versions(connection, rows)
        return found[0] if found else None

    async def version(self, schema_id: str, version: int) -> SchemaVersion | None:
        """Return a version, also a deleted one."""
        wanted = select(versions).where(versions.c.schema_id == schema_id, versions.c.version == version)
        async with self._reading() as connection:
            row = (await connection.execute(wanted)).one_or_none()
        return None if row is None else _version(row)

    async def page(self, after: str, limit: int) -> tuple[RegisteredSchema, ...]:
        """Return up to ``limit`` schemas that have a usable version, in order of id, above ``after``."""
        usable = select(versions.c.version).where(
            versions.c.schema_id == schemas.c.id, versions.c.deleted_s.is_(None)
        )
        wanted = select(schemas).where(schemas.c.id > after, usable.exists()).order_by(schemas.c.id)
        async with self._reading() as connection:
            return await _with_versions(connection, (await connection.execute(wanted.limit(limit))).all())

    async def add(self, about: RegisteredSchema, version: SchemaVersion) -> bool:
        """Add a version, with what ``about`` says; whether nobody else had taken its number."""
        try:
            async with self._writing() as connection:
                if not await _described(connection, about):
                    row = {"id": about.id, "created_s": about.created, **_words(about)}
                    await connection.execute(insert(schemas).values(row))
                await connection.execute(insert(versions).values(_row(version)))
        except IntegrityError:
            return False
        return True

    async def describe(self, about: RegisteredSchema, version: SchemaVersion) -> None:
        """Replace what is said of a schema, and the examples of one of its versions."""
        async with self._writing() as connection:
            await _described(connection, about)
            this = (versions.c.schema_id == version.schema_id, versions.c.version == version.version)
            await connection.execute(update(versions).where(*this).values(examples=_examples(version)))

    async def remove(self, schema_id: str, version: int | None, at: int) -> int:
        """Mark a version, or all, as deleted at ``at`` Unix seconds; return how many were usable so far."""
        usable = update(versions).where(versions.c.schema_id == schema_id, versions.c.deleted_s.is_(None))
        chosen = usable if version is None else usable.where(versions.c.version == version)
        async with self._writing() as connection:
            return (await connection.execute(chosen.values(deleted_s=at))).rowcount


async def _described(connection: AsyncConnection, about: RegisteredSchema) -> bool:
    """Replace what is said of a schema; whether it was there."""
    changed = await connection.execute(update(schemas).where(schemas.c.id == about.id).values(_words(about)))
    return changed.rowcount > 0


async def _with_versions(
    connection: AsyncConnection, rows: Sequence[Row[tuple[object, ...]]]
) -> tuple[RegisteredSchema, ...]:
    ids = [row.id for row in rows]
    wanted = select(versions.c.schema_id, versions.c.version, versions.c.deleted_s)
    numbers = await connection.execute(
        wanted.where(versions.c.schema_id.in_(ids)).order_by(versions.c.version)
    )
    usable: dict[str, list[int]] = {each: [] for each in ids}
    deleted: dict[str, list[int]] = {each: [] for each in ids}
    for schema_id, number, gone in numbers:
        (usable if gone is None else deleted)[schema_id].append(number)
    return tuple(_schema(row, usable[row.id], deleted[row.id]) for row in rows)


def _schema(row: Row[tuple[object, ...]], usable: Iterable[int], deleted: Iterable[int]) -> RegisteredSchema:
    return RegisteredSchema(
        id=row.id,
        name=row.name,
        description=row.description,
        compatibility=Compatibility(row.compatibility),
        created=row.created_s,
        versions=tuple(usable),
        deleted=tuple(deleted),
    )


def _words(about: RegisteredSchema) -> dict[str, str]:
    return {
        "name": about.name,
        "description": about.description,
        "compatibility": about.compatibility.value,
    }


def _version(row: Row[tuple[object, ...]]) -> SchemaVersion:
    return SchemaVersion(
        schema_id=row.schema_id,
        version=row.version,
        schema=Raw(row.body.encode()),
        digest=row.digest,
        examples=tuple(msgspec.json.decode(row.examples, type=list[Raw])),
        created=row.created_s,
        deleted=row.deleted_s,
    )


def _row(version: SchemaVersion) -> dict[str, object]:
    return {
        "schema_id": version.schema_id,
        "version": version.version,
        "body": bytes(version.schema).decode(),
        "digest": version.digest,
        "examples": _examples(version),
        "created_s": version.created,
        "deleted_s": version.deleted,
    }


def _examples(version: SchemaVersion) -> str:
    return msgspec.json.encode(version.examples).decode()
