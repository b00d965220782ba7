"""The schema registry: named schemas in immutable versions."""

import asyncio
import re
import time
import unicodedata
from collections.abc import Awaitable, Callable, Iterable

import msgspec
from msgspec import Raw

from llm_server.contract import (
    Compatibility,
    ErrorKind,
    Problem,
    RegisteredSchema,
    SchemaComparison,
    SchemaDraft,
    SchemaEntry,
    SchemaStore,
    SchemaVersion,
    ServerError,
)
from llm_server.structured.compatibility import narrowings
from llm_server.structured.remembering import Recent
from llm_server.structured.rendering import Language, render
from llm_server.structured.schema import Schema, load
from llm_server.structured.validation import Validator

MAX_ID = 64
REMEMBERED_S = 1.0
"""For how long a resolved version is used without asking: a change made by another process shows after it."""
_ID = re.compile(rf"[A-Za-z0-9][A-Za-z0-9._-]{{0,{MAX_ID - 1}}}")
_TRIES = 64
"""How often a new version is tried while others take its number: each try, at least one of them succeeds."""


class Registry:
    """Registers, changes and finds schemas; whatever takes long happens on a thread.

    Args:
        store: returns where they are kept, opened.
        clock: Unix seconds.
    """

    def __init__(
        self, store: Callable[[], Awaitable[SchemaStore]], clock: Callable[[], float] = time.time
    ) -> None:
        self._store = store
        self._clock = clock
        self._recent: Recent[tuple[str, int | None], tuple[float, SchemaVersion]] = Recent(
            count=1024, weight=16 * 1024 * 1024
        )

    async def create(self, draft: SchemaDraft) -> SchemaEntry:
        """Register a new schema, whose id is made of its name or title if ``draft`` gives none.

        An id whose versions were all deleted may be used again: its numbers go on.

        Raises:
            ServerError: ``INVALID_REQUEST`` for a schema, id or example that is not right, ``CONFLICT`` for
                an id that is in use.
        """
        schema = await asyncio.to_thread(_checked, draft)
        name = draft.name or str(schema.value.get("title") or draft.id)
        schema_id = draft.id or slug(name, schema)
        if not _ID.fullmatch(schema_id):
            message = f"A schema's id is 1 to {MAX_ID} letters, digits, dots, dashes and underscores."
            raise ServerError(ErrorKind.INVALID_REQUEST, message, param="id")
        store = await self._store()
        known = await store.find(schema_id)
        if known is None or known.latest is None:
            entry = self._next(known or RegisteredSchema(id=schema_id, name=name), draft, schema)
            if await store.add(entry.about, entry.version):
                return entry
        message = f"There is a schema '{schema_id}' already; PUT /v1/schemas/{schema_id} adds a version."
        raise ServerError(ErrorKind.CONFLICT, message, param="id")

    async def change(self, schema_id: str, draft: SchemaDraft) -> SchemaEntry:
        """Add the next version; with the latest one's schema, only replace what describes it.

        Raises:
            ServerError: ``NOT_FOUND``; ``INVALID_REQUEST`` as :meth:`create`; ``CONFLICT`` with every
                breaking change when the schema's mode (as ``draft`` sets it, if it does) forbids them.
        """
        schema = await asyncio.to_thread(_checked, draft)
        store = await self._store()
        for _ in range(_TRIES):
            about = await self.find(schema_id)
            latest = await self._version(about, about.latest)
            entry = self._next(about, draft, schema)
            if latest.digest == schema.id:
                examples = latest.examples if draft.examples is None else draft.examples
                same = msgspec.structs.replace(latest, examples=examples)
                said = msgspec.structs.replace(entry.about, versions=about.versions)
                await store.describe(said, same)
                return SchemaEntry(said, same)
            await _owed(entry.about.compatibility, latest, schema)
            if await store.add(entry.about, entry.version):
                self._recent.forget((schema_id, None))
                return entry
        raise ServerError(ErrorKind.UNAVAILABLE, "Too many others change this schema now.", retry_after_s=1.0)

    async def find(self, schema_id: str) -> RegisteredSchema:
        """Return what is registered under ``schema_id``; ``NOT_FOUND`` if there is no usable version."""
        known = await (await self._store()).find(schema_id) if _ID.fullmatch(schema_id) else None
        if known is None:
            raise _unknown(f"There is no schema '{schema_id[:MAX_ID]}'. GET /v1/schemas lists all.")
        if known.latest is None:
            raise _unknown(f"Schema '{schema_id}' was deleted.")
        return known

    async def resolve(self, schema_id: str, version: int | None = None) -> SchemaVersion:
        """Return a usable version, the latest by default; ``NOT_FOUND`` if there is none, saying why."""
        key = (schema_id, version)
        remembered = self._recent.get(key)
        now = self._clock()
        if remembered is not None and now - REMEMBERED_S < remembered[0] <= now:
            return remembered[1]
        found = (await self.show(schema_id, version)).version
        self._recent.put(key, (now, found), len(bytes(found.schema)))
        return found

    async def show(self, schema_id: str, version: int | None = None) -> SchemaEntry:
        """Return what is kept now of a usable version, the latest by default; raises as :meth:`resolve`."""
        about = await self.find(schema_id)
        return SchemaEntry(
            about, await self._version(about, version if version is not None else about.latest)
        )

    async def page(self, after: str, limit: int) -> tuple[RegisteredSchema, ...]:
        """Return up to ``limit`` schemas in order of id, with ids above ``after``, empty for the first.

        Raises:
            ServerError: ``NOT_FOUND`` when ``after`` never was a schema; a deleted one keeps its place.
        """
        store = await self._store()
        if after and await store.find(after) is None:
            raise _unknown(f"There is no schema '{after[:MAX_ID]}'.", "after")
        return await store.page(after, limit)

    async def remove(self, schema_id: str, version: int | None = None) -> int:
        """Delete a version, or all: kept, but no longer found. Return how many; ``NOT_FOUND`` if none."""
        about = await self.find(schema_id)
        if version is not None:
            await self._version(about, version)
        gone = (version,) if version is not None else about.versions
        for each in (*gone, None):
            self._recent.forget((schema_id, each))
        return await (await self._store()).remove(schema_id, version, int(self._clock()))

    async def compare(self, schema_id: str, before: int, after: int) -> SchemaComparison:
        """Return what changes from version ``before`` to version ``after``."""
        earlier, later = await self.show(schema_id, before), await self.show(schema_id, after)
        return await asyncio.to_thread(_compared, _loaded(earlier.version), _loaded(later.version))

    async def render(self, schema_id: str, version: int | None, language: Language) -> str:
        """Return the source of types for a version in ``language``."""
        shown = await self.show(schema_id, version)
        return await asyncio.to_thread(render, _loaded(shown.version), language, shown.about.name)

    async def _version(self, about: RegisteredSchema, version: int | None) -> SchemaVersion:
        if version is None or version not in about.versions:
            if version in about.deleted:
                raise _unknown(f"Version {version} of schema '{about.id}' was deleted.")
            has = ", ".join(map(str, about.versions[-16:]))
            raise _unknown(f"Schema '{about.id}' has no version {version}; it has: {has}.")
        found = await (await self._store()).version(about.id, version)
        if found is None or found.deleted is not None:
            raise _unknown(f"Version {version} of schema '{about.id}' was deleted.")
        return found

    def _next(self, about: RegisteredSchema, draft: SchemaDraft, schema: Schema) -> SchemaEntry:
        """Return the next version of ``about``, with what ``draft`` says anew."""
        now, number = int(self._clock()), about.following
        described = msgspec.structs.replace(
            about,
            name=about.name if draft.name is None else draft.name,
            description=about.description if draft.description is None else draft.description,
            compatibility=about.compatibility if draft.compatibility is None else draft.compatibility,
            created=about.created or now,
            versions=(*about.versions, number),
        )
        version = SchemaVersion(
            schema_id=about.id,
            version=number,
            schema=Raw(msgspec.json.encode(schema.value)),
            digest=schema.id,
            examples=draft.examples or (),
            created=now,
        )
        return SchemaEntry(described, version, added=True)


def _checked(draft: SchemaDraft) -> Schema:
    """Load the schema of ``draft`` and hold the examples to it."""
    schema = load(bytes(draft.schema))
    validator = Validator.of(schema)
    for at, example in enumerate(draft.examples or ()):
        found = validator.problems(msgspec.json.decode(example))
        if found:
            placed = (msgspec.structs.replace(each, pointer=f"/{at}{each.pointer}") for each in found)
            message = f"examples[{at}] does not follow the schema: {found[0]}."
            raise ServerError(ErrorKind.INVALID_REQUEST, message, param=f"examples[{at}]").because(placed)
    return schema


async def _owed(mode: Compatibility, latest: SchemaVersion, schema: Schema) -> None:
    if mode is Compatibility.NONE:
        return
    comparison = await asyncio.to_thread(_compared, _loaded(latest), schema)
    if breaking := comparison.breaking(mode):
        message = (
            f"The schema is not {mode} compatible with version {latest.version}: {_listed(breaking)}. "
            "Set compatibility to 'none' to add it all the same."
        )
        raise ServerError(ErrorKind.CONFLICT, message, param="schema").because(breaking)


def _loaded(version: SchemaVersion) -> Schema:
    return load(bytes(version.schema))


def _compared(before: Schema, after: Schema) -> SchemaComparison:
    return SchemaComparison(backward=narrowings(before, after), forward=narrowings(after, before))


def _listed(changes: Iterable[Problem], most: int = 5) -> str:
    words = [f"{each.keyword} at {each.pointer or 'the root'}" for each in changes]
    return "; ".join(words[:most]) + (f" and {len(words) - most} more" if len(words) > most else "")


def slug(name: str, schema: Schema) -> str:
    """Return an id made of ``name``: its letters and digits without accents, lower-case, with dashes."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:MAX_ID].rstrip("-") or f"schema-{schema.id[:12]}"


def _unknown(message: str, param: str = "schema_id") -> ServerError:
    return ServerError(ErrorKind.NOT_FOUND, message, param=param)
