"""What types every language has: the form between a schema and its rendering."""

from collections.abc import Mapping
from typing import Any

from msgspec import Struct


class Anything(Struct, frozen=True):
    """Any JSON value."""


class Nothing(Struct, frozen=True):
    """No value."""


class Scalar(Struct, frozen=True):
    """A string, number, integer, boolean or null within ``limits``: keywords of JSON Schema (draft 6)."""

    kind: str
    limits: Mapping[str, Any] = {}


class Values(Struct, frozen=True):
    """One of these: strings, integers, booleans, null."""

    values: tuple[Any, ...]


class Items(Struct, frozen=True):
    """A list."""

    item: "Type"
    limits: Mapping[str, Any] = {}


class Row(Struct, frozen=True):
    """A list of exactly these."""

    items: "tuple[Type, ...]"


class Table(Struct, frozen=True):
    """An object of any names."""

    value: "Type"
    limits: Mapping[str, Any] = {}


class Named(Struct, frozen=True):
    """The declared type of this name."""

    name: str


class Choice(Struct, frozen=True):
    """Any of these."""

    members: "tuple[Type, ...]"


Type = Anything | Nothing | Scalar | Values | Items | Row | Table | Named | Choice


class Field(Struct, frozen=True):
    """A property of a record."""

    name: str
    type: Type
    required: bool
    description: str = ""


class Record(Struct, frozen=True):
    """An object with known names. ``others``: what its other properties are, ``None`` if it has none."""

    name: str
    fields: tuple[Field, ...]
    others: Type | None
    description: str = ""


class Alias(Struct, frozen=True):
    """Another type under a name of its own."""

    name: str
    type: Type
    description: str = ""


class Module(Struct, frozen=True):
    """Declarations, each after those it uses where it can be, and the keywords that none expresses."""

    root: str
    declarations: tuple[Record | Alias, ...]
    unexpressed: tuple[str, ...]
