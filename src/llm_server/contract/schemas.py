"""Registered schemas: the values, and the ports of who keeps and who finds them."""

from enum import StrEnum
from typing import Protocol

from msgspec import Raw, Struct

from llm_server.contract.errors import Problem


class Compatibility(StrEnum):
    """What a new version of a schema owes the one before it."""

    NONE = "none"
    BACKWARD = "backward"
    """What was valid stays valid: readers of the new version can read old data."""
    FORWARD = "forward"
    """What is valid now was valid before: readers of the old version can read new data."""
    FULL = "full"
    """Both."""


class SchemaVersion(Struct, frozen=True, kw_only=True):
    """One version of a registered schema. Its ``schema`` never changes; what describes it may."""

    schema_id: str
    version: int
    schema: Raw
    """As it was written, without white space: models follow the order of properties."""
    digest: str
    """SHA-256 of the canonical schema, hexadecimal: two spellings of one schema share it."""
    examples: tuple[Raw, ...] = ()
    created: int = 0
    """Unix seconds."""
    deleted: int | None = None
    """Unix seconds since when it may no longer be used."""


class RegisteredSchema(Struct, frozen=True, kw_only=True):
    """A named schema: what is said of it, and the numbers of its versions in order."""

    id: str
    name: str
    description: str = ""
    compatibility: Compatibility = Compatibility.NONE
    created: int = 0
    versions: tuple[int, ...] = ()
    """Those that may be used."""
    deleted: tuple[int, ...] = ()
    """Those that may no longer be used; their numbers are never given again."""

    @property
    def latest(self) -> int | None:
        """The highest version that may be used."""
        return self.versions[-1] if self.versions else None

    @property
    def following(self) -> int:
        """The number that the next version gets."""
        return max((*self.versions, *self.deleted), default=0) + 1


class SchemaStore(Protocol):
    """Keeps registered schemas. Implemented in storage/ and testing, used by structured/.

    Writes are whole or not at all, and lasting when they return. A store that cannot answer raises
    ``UNAVAILABLE``.
    """

    async def find(self, schema_id: str) -> RegisteredSchema | None:
        """Return what is registered under ``schema_id``, ``None`` if nothing was ever."""
        ...

    async def version(self, schema_id: str, version: int) -> SchemaVersion | None:
        """Return a version, also a deleted one."""
        ...

    async def page(self, after: str, limit: int) -> tuple[RegisteredSchema, ...]:
        """Return up to ``limit`` schemas that have a usable version, in order of id, above ``after``."""
        ...

    async def add(self, about: RegisteredSchema, version: SchemaVersion) -> bool:
        """Add a version, with what ``about`` says of the schema from now on.

        Returns whether it was added: ``False`` when another writer took this version's number first; then
        nothing was changed.
        """
        ...

    async def describe(self, about: RegisteredSchema, version: SchemaVersion) -> None:
        """Replace what is said of a schema, and the examples of one of its versions."""
        ...

    async def remove(self, schema_id: str, version: int | None, at: int) -> int:
        """Mark a version, or all, as deleted at ``at`` Unix seconds; return how many were usable so far."""
        ...


class SchemaSource(Protocol):
    """Finds registered schemas for calls that name one. Implemented in structured/, used by pipeline/."""

    async def resolve(self, schema_id: str, version: int | None = None) -> SchemaVersion:
        """Return a usable version, the latest by default; ``NOT_FOUND`` if there is none, saying why."""
        ...


class SchemaDraft(Struct, frozen=True, kw_only=True):
    """What somebody wants registered. ``None``: as it is, or by default."""

    schema: Raw
    id: str = ""
    name: str | None = None
    description: str | None = None
    examples: tuple[Raw, ...] | None = None
    compatibility: Compatibility | None = None


class SchemaEntry(Struct, frozen=True):
    """A registered schema, one of its versions, and whether that one is new."""

    about: RegisteredSchema
    version: SchemaVersion
    added: bool = False


class SchemaComparison(Struct, frozen=True, kw_only=True):
    """What changes from one version to another.

    ``backward`` lists what the later one refuses that the earlier one took, ``forward`` the reverse.
    """

    backward: tuple[Problem, ...]
    forward: tuple[Problem, ...]

    def breaking(self, owed: Compatibility) -> tuple[Problem, ...]:
        """Return what breaks the compatibility that is ``owed``."""
        backward = self.backward if owed in {Compatibility.BACKWARD, Compatibility.FULL} else ()
        forward = self.forward if owed in {Compatibility.FORWARD, Compatibility.FULL} else ()
        return backward + forward
