"""Read a schema as types."""

import re
import unicodedata
from collections.abc import Iterator, Mapping
from typing import Any

from llm_server.structured.compatibility.document import SILENT, Document, Node, key_of
from llm_server.structured.keywords import is_schema
from llm_server.structured.problems import pointer
from llm_server.structured.rendering.types import (
    Alias,
    Anything,
    Choice,
    Field,
    Items,
    Module,
    Named,
    Nothing,
    Record,
    Row,
    Scalar,
    Table,
    Type,
    Values,
)
from llm_server.structured.schema import Schema

Path = tuple[str | int, ...]

MAX_DEPTH = 64
"""Steps from the root below which everything is any value: merged recursive schemas have no bottom."""

_NUMBER = ("minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum", "multipleOf")
_LIMITS: Mapping[str, tuple[str, ...]] = {
    "string": ("minLength", "maxLength", "pattern"),
    "integer": _NUMBER,
    "number": _NUMBER,
    "array": ("minItems", "maxItems"),
    "object": ("minProperties", "maxProperties"),
}
_ORDER = ("object", "array", "string", "integer", "number", "boolean", "null")
_SHAPING = frozenset({
    "$ref", "additionalItems", "additionalProperties", "allOf", "anyOf", "const", "enum", "format", "items",
    "oneOf", "prefixItems", "properties", "required", "type",
}).union(*_LIMITS.values())  # fmt: skip
"""Keywords that types express, ``format`` as what it is by itself: a remark."""
_RESERVED = frozenset({
    "Annotated", "Any", "Array", "BaseModel", "Boolean", "ConfigDict", "Date", "Error", "False", "Field",
    "Function", "Literal", "MISSING", "Map", "Never", "None", "Number", "Object", "Promise", "Record",
    "RootModel", "Set", "String", "Symbol", "True", "TypeAliasType",
})  # fmt: skip
"""Names that mean something in the source of one language or another."""


def read(schema: Schema, name: str = "") -> Module:
    """Return the types of ``schema``."""
    reader = _Reader(schema)
    title = schema.value.get("title")
    root = reader.declared(schema.value, title if isinstance(title, str) else name or "Answer", ())
    return Module(root.name, tuple(reader.declarations), tuple(dict.fromkeys(reader.unexpressed)))


class _Reader:
    def __init__(self, schema: Schema) -> None:
        self._document = Document(schema)
        self._names: dict[int, Named] = {}
        self._taken: set[str] = set()
        self._kept: list[Any] = []
        self.declarations: list[Record | Alias] = []
        self.unexpressed: list[str] = []

    def declared(self, node: Any, hint: str, path: Path) -> Named:
        """Return the name of the type of ``node``, declaring it if nobody has."""
        known = self._names.get(id(node))
        if known is not None:
            return known
        named = self._names[id(node)] = Named(self._free(hint))
        self._kept.append(node)
        plain = self._plain(node, path)
        description = _description(node)
        if is_schema(plain) and _is_record(plain):
            self.declarations.append(self._record(plain, named.name, description, path))
        else:
            self.declarations.append(Alias(named.name, self._type(plain, named.name, path), description))
        return named

    def type(self, node: Any, hint: str, path: Path) -> Type:
        """Return the type of ``node``; ``hint`` is what a record in it is called."""
        if len(path) > MAX_DEPTH:
            self._miss("nesting", ())
            return Anything()
        target = self._document.alias(node)
        if is_schema(target):
            return self.declared(target, self._title(target) or node["$ref"].rsplit("/", 1)[-1], path)
        plain = self._plain(node, path)
        if is_schema(plain) and _is_record(plain):
            return self.declared(node, self._title(node) or hint, path)
        return self._type(plain, hint, path)

    def _plain(self, node: Any, path: Path) -> Any:
        """Return ``node`` without references and ``allOf``; notes what it says beyond types."""
        resolved = self._document.resolved(node)
        if not is_schema(resolved):
            return resolved
        if "allOf" in resolved:
            self._miss("allOf", path)
        loose = self._document.loosened(resolved)
        for keyword in sorted(loose.keys() - _SHAPING - SILENT):
            self._miss(keyword, path)
        self._kept += [resolved, loose]
        return loose

    def _type(self, node: Any, hint: str, path: Path) -> Type:
        if not is_schema(node):
            return Anything() if node else Nothing()
        if (listed := _listed(node)) is not None:
            return self._values(listed, path)
        alternatives = self._document.alternatives(node)
        if alternatives is not None:
            return self._choice(node, alternatives, hint, path)
        said = node.get("type", list(_ORDER) if self._shaped(node) else None)
        if said is None:
            return Anything()
        kinds = [said] if isinstance(said, str) else [kind for kind in _ORDER if kind in said]
        if "number" in kinds and "integer" in kinds:
            kinds.remove("integer")
        return _any_of(self._kind(kind, node, hint, path) for kind in kinds)

    def _shaped(self, node: Node) -> bool:
        """Whether ``node`` says something of some type without saying which it wants."""
        return bool(node.keys() & _SHAPING - {"format"})

    def _kind(self, kind: str, node: Node, hint: str, path: Path) -> Type:
        limits = self._limits(kind, node)
        if kind == "array":
            return self._list(node, limits, hint, path)
        if kind == "object":
            if _has_names(node):
                only = node if node.get("type") == "object" else {**node, "type": "object"}
                self._kept.append(only)
                return self.declared(only, hint, path)
            if "patternProperties" in node:
                return Table(Anything(), limits)
            others = self.type(node.get("additionalProperties", True), f"{hint} value", path)
            return Table(others, limits)
        return Scalar(kind, limits)

    def _limits(self, kind: str, node: Node) -> dict[str, Any]:
        """Return what bounds a ``kind``. Draft 4 says by a boolean that a bound is excluded."""
        found = {key: node[key] for key in _LIMITS.get(kind, ()) if key in node}
        for bound in ("Minimum", "Maximum"):
            if isinstance(found.get(f"exclusive{bound}"), bool):
                strict = found.pop(f"exclusive{bound}")
                if strict and bound.lower() in found:
                    found[f"exclusive{bound}"] = found.pop(bound.lower())
        return found

    def _list(self, node: Node, limits: dict[str, Any], hint: str, path: Path) -> Type:
        items = node.get("items", True)
        first, others = node.get("prefixItems", []), items
        if isinstance(items, list):
            first, others = items, node.get("additionalItems", True)
        if not first:
            return Items(self.type(others, _singular(hint), (*path, "items")), limits)
        row = [self.type(each, f"{hint} {at + 1}", (*path, at)) for at, each in enumerate(first)]
        if node.get("minItems", 0) == len(first) and (others is False or node.get("maxItems") == len(first)):
            return Row(tuple(row))
        self._miss("prefixItems", path)
        return Items(Anything(), limits)

    def _values(self, listed: list[Any], path: Path) -> Type:
        if any(isinstance(value, float | dict | list) for value in listed):
            self._miss("enum", path)
            return Anything()
        return Values(tuple({key_of(value): value for value in listed}.values())) if listed else Nothing()

    def _choice(self, node: Node, alternatives: list[Any], hint: str, path: Path) -> Type:
        keyword = "anyOf" if "anyOf" in node else "oneOf"
        if keyword == "oneOf":
            self._miss("oneOf", path)
        if node.keys() - SILENT - {keyword, "type"}:
            self._miss(keyword, path)
        self._kept += alternatives
        branches = node[keyword]
        bare = not node.keys() - SILENT - {keyword}
        chosen = branches if bare else alternatives
        found = [
            self.type(each, hint if bare and self._title(each) else f"{hint} {at + 1}", (*path, keyword, at))
            for at, each in enumerate(chosen)
        ]
        return _any_of(found)

    def _record(self, node: Node, name: str, description: str, path: Path) -> Record:
        required = node.get("required", ())
        properties = node.get("properties", {})
        others = node.get("additionalProperties", True)
        for keyword in _LIMITS["object"]:
            if keyword in node:
                self._miss(keyword, path)
        fields = [
            Field(
                each,
                self.type(properties.get(each, others), f"{name} {each}", (*path, each)),
                each in required,
                _description(properties.get(each)),
            )
            for each in dict.fromkeys((*properties, *required))
        ]
        if "patternProperties" in node:
            others = True
        rest = None if others is False else self.type(others, f"{name} value", path)
        return Record(name, tuple(fields), rest, description)

    def _title(self, node: Any) -> str:
        title = node.get("title") if is_schema(node) else None
        return title if isinstance(title, str) else ""

    def _miss(self, keyword: str, path: Path) -> None:
        self.unexpressed.append(f"{keyword} at {pointer(path) or 'the root'}")

    def _free(self, hint: str) -> str:
        plain = unicodedata.normalize("NFKD", hint).encode("ascii", "ignore").decode()
        words = re.findall(r"[A-Za-z0-9]+", plain)[:8]
        name = "".join(word[0].upper() + word[1:] for word in words)[:64] or "Type"
        name = f"Type{name}" if name[0].isdigit() or name in _RESERVED else name
        free = next(each for each in _numbered(name) if each not in self._taken)
        self._taken.add(free)
        return free


def _numbered(name: str) -> Iterator[str]:
    yield name
    number = 2
    while True:
        yield f"{name}{number}"
        number += 1


def _is_record(node: Node) -> bool:
    plain = not node.keys() & {"anyOf", "oneOf", "enum", "const"}
    return plain and node.get("type") == "object" and _has_names(node)


def _has_names(node: Node) -> bool:
    closed = node.get("additionalProperties") is False and "patternProperties" not in node
    return bool(node.get("properties") or node.get("required") or closed)


def _listed(node: Node) -> list[Any] | None:
    if "const" in node:
        return [node["const"]]
    enum = node.get("enum")
    return enum if isinstance(enum, list) else None


def _any_of(types: Any) -> Type:
    members: list[Type] = []
    for each in types:
        members += each.members if isinstance(each, Choice) else [each]
    distinct = [each for at, each in enumerate(members) if each not in members[:at]]
    if any(isinstance(each, Anything) for each in distinct):
        return Anything()
    left = [each for each in distinct if not isinstance(each, Nothing)]
    if len(left) < 2:
        return left[0] if left else Nothing()
    return Choice(tuple(left))


def _description(node: Any) -> str:
    said = node.get("description") if is_schema(node) else None
    return said if isinstance(said, str) else ""


def _singular(hint: str) -> str:
    return hint[:-1] if hint.endswith("s") and not hint.endswith("ss") else f"{hint} item"
