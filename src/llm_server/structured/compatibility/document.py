"""One schema of a comparison: its references followed, its conjunctions made one, its parts told apart."""

from collections.abc import Mapping
from typing import Any

import msgspec

from llm_server.structured.keywords import LISTED, NAMED, SINGLE, is_schema
from llm_server.structured.references import References
from llm_server.structured.schema import ANNOTATIONS, Schema

Node = dict[str, Any]

SILENT = ANNOTATIONS | {
    "$anchor", "$defs", "$id", "$schema", "$vocabulary", "contentEncoding", "contentMediaType",
    "contentSchema", "definitions", "deprecated", "id", "readOnly", "writeOnly",
}  # fmt: skip
"""Keywords that refuse nothing by themselves."""
OBJECT = frozenset({"additionalProperties", "patternProperties", "properties"})
ARRAY = frozenset({"additionalItems", "items", "prefixItems"})
CONDITION = frozenset({"else", "if", "then"})
CONTAINS = frozenset({"contains", "maxContains", "minContains"})
GROUPS = (OBJECT, ARRAY, CONDITION, CONTAINS)
"""Keywords that mean something only together."""
SETS = frozenset({"enum", "required", "type"})
"""Keywords whose lists have no order."""


class Document:
    """A schema whose references can be followed."""

    def __init__(self, schema: Schema) -> None:
        self.schema = schema
        self._references = References(schema.value, "id" if schema.draft == "4" else "$id")
        self._made: dict[int, tuple[Node, Node]] = {}
        """What was made of a node with a reference and more, by its identity: one for each, for comparers."""

    def resolved(self, node: Any) -> Any:
        """Return what ``node`` says, its own ``$ref`` followed."""
        while is_schema(node) and "$ref" in node:
            target = self._references.target(node["$ref"], node)
            if beside := self._beside(node):
                made = {**beside, "allOf": [target, *beside.get("allOf", ())]}
                return self._made.setdefault(id(node), (node, made))[1]
            node = target
        return node

    def alias(self, node: Any) -> Any:
        """Return what ``node`` refers to if it does nothing else, else ``None``."""
        if not is_schema(node) or "$ref" not in node or self._beside(node):
            return None
        return self._references.target(node["$ref"], node)

    def _beside(self, node: Node) -> Node:
        """Return what counts beside ``$ref``; until draft 7 nothing does."""
        if self.schema.draft in {"4", "6", "7"}:
            return {}
        return {key: each for key, each in node.items() if key != "$ref" and key not in SILENT}

    def loosened(self, node: Node) -> Node:
        """Return ``node`` with its ``allOf`` merged in, as far as that can be said: it may take more."""
        merged = {key: each for key, each in node.items() if key != "allOf"}
        for branch in map(self.resolved, node.get("allOf", ())):
            if is_schema(branch):
                _merge(merged, self.loosened(branch))
        return merged

    def alternatives(self, node: Node) -> list[Any] | None:
        """Return what ``node`` takes, one alternative for each branch of its ``anyOf`` or ``oneOf``.

        Each may take more than it should. ``None`` if it has neither.
        """
        for keyword in ("anyOf", "oneOf"):
            if keyword in node:
                rest = {key: each for key, each in node.items() if key != keyword}
                return [self._both(rest, self.resolved(branch)) for branch in node[keyword]]
        return None

    def _both(self, node: Node, branch: Any) -> Any:
        if not is_schema(branch):
            return node if branch else False
        merged = dict(node)
        _merge(merged, self.loosened(branch))
        return merged


def _merge(into: Node, other: Node) -> None:
    """Add to ``into`` what ``other`` demands, leaving out what cannot be said beside it."""
    taken = {key for group in GROUPS if not group.isdisjoint(into) for key in group}
    if {"properties"} == OBJECT & into.keys() == OBJECT & other.keys():
        mine, theirs = into["properties"], other["properties"]
        both = {
            name: {"allOf": [each, theirs[name]]}
            for name, each in mine.items()
            if name in theirs and each != theirs[name]
        }
        into["properties"] = {**theirs, **mine, **both}
    for key, each in other.items():
        if key == "required":
            into[key] = sorted({*into.get(key, ()), *each})
        elif key == "type" and key in into:
            common = atoms(into) & atoms(other)
            into[key] = [name for name, parts in TYPES.items() if parts <= common] or into[key]
        elif key not in into and key not in taken:
            into[key] = each


TYPES: Mapping[str, frozenset[str]] = {
    **{name: frozenset({name}) for name in ("null", "boolean", "string", "array", "object")},
    "number": frozenset({"integer", "fraction"}),
    "integer": frozenset({"integer"}),
}
"""The kinds of values that each type stands for: an integer is a number too."""
ANY = frozenset().union(*TYPES.values())


def atoms(node: Node) -> frozenset[str]:
    """Return the kinds of values that ``node`` can take, as its ``type``, ``enum`` and ``const`` say."""
    said = node.get("type", list(TYPES))
    kinds = ANY & frozenset().union(*(TYPES[name] for name in ([said] if isinstance(said, str) else said)))
    listed = values(node)
    return kinds if listed is None else kinds & {_kind(value) for value in listed.values()}


def values(node: Node) -> dict[bytes, Any] | None:
    """Return the listed values that ``node`` takes by what they are, ``None`` if it lists none."""
    if "const" in node:
        return {key_of(node["const"]): node["const"]}
    if "enum" in node:
        return {key_of(value): value for value in node["enum"]}
    return None


def key_of(value: Any) -> bytes:
    """Return what tells a JSON value from every other: 1 and 1.0 are one number, 1 and true are not."""
    whole = isinstance(value, float) and value.is_integer()
    return msgspec.json.encode(int(value) if whole else value, order="sorted")


def _kind(value: Any) -> str:
    if isinstance(value, float):
        return "integer" if value.is_integer() else "fraction"
    named: dict[type, str] = {
        bool: "boolean", dict: "object", int: "integer", list: "array", str: "string", type(None): "null",
    }  # fmt: skip
    return named[type(value)]


class Sameness:
    """Whether two schemas say the same, but for descriptions, order and the names of definitions."""

    def __init__(self, old: Document, new: Document) -> None:
        self._old = old
        self._new = new
        self._assumed: dict[tuple[int, int], None] = {}
        self._kept: list[Any] = []
        """What was compared: kept, so that no two ever have the same identity."""

    def __call__(self, old: Any, new: Any) -> bool:
        """Tell; ``old`` and ``new`` are schemas of the two documents."""
        known = len(self._assumed)
        same = self._same(old, new)
        if not same:
            forget(self._assumed, known)
        return same

    def _same(self, old: Any, new: Any) -> bool:
        pair = (id(old), id(new))
        if pair in self._assumed:
            return True
        old, new = self._old.resolved(old), self._new.resolved(new)
        if not is_schema(old) or not is_schema(new):
            return old is new
        self._assumed[pair] = None
        self._kept += [old, new]
        said, says = ({key: each for key, each in node.items() if key not in SILENT} for node in (old, new))
        return said.keys() == says.keys() and all(self._alike(key, said[key], says[key]) for key in said)

    def _alike(self, keyword: str, old: Any, new: Any) -> bool:
        if keyword in NAMED and isinstance(old, dict) and isinstance(new, dict):
            return old.keys() == new.keys() and all(self._same_entry(old[name], new[name]) for name in old)
        if keyword in LISTED and isinstance(old, list) and isinstance(new, list):
            return len(old) == len(new) and all(map(self._same, old, new))
        if keyword in SINGLE:
            return self._same(old, new)
        if keyword in SETS and isinstance(old, list) and isinstance(new, list):
            return {key_of(each) for each in old} == {key_of(each) for each in new}
        return key_of(old) == key_of(new)

    def _same_entry(self, old: Any, new: Any) -> bool:
        """Compare schemas, or the lists of names that ``dependencies`` may hold."""
        if isinstance(old, list) or isinstance(new, list):
            return bool(old == new)
        return self._same(old, new)


def forget(assumed: dict[tuple[int, int], None], known: int) -> None:
    """Take back every assumption but the first ``known``: what they were made for did not hold."""
    while len(assumed) > known:
        assumed.popitem()
