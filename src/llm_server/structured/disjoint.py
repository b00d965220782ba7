"""Whether no value can satisfy both of two schemas: then ``oneOf`` and ``anyOf`` say the same of them."""

from collections.abc import Iterator
from typing import Any, NamedTuple

from llm_server.structured.keywords import is_schema
from llm_server.structured.references import References, references

Node = dict[str, Any]

MAX_LEVELS = 4
"""How deep properties and references are followed to find a difference."""
_KINDS = frozenset({"null", "boolean", "integer", "fraction", "string", "array", "object"})


class Comparison:
    """Compares the schemas of one document, which must not change; what was worked out is kept."""

    def __init__(self, document: References) -> None:
        self._document = document
        self._known: dict[tuple[int, int], _Whole] = {}

    def disjoint(self, one: Any, other: Any, levels: int = MAX_LEVELS) -> bool:
        """Tell whether it can be shown that no value satisfies both; ``False`` says nothing."""
        if one is False or other is False:
            return True
        if not (is_schema(one) and is_schema(other)) or levels == 0:
            return False
        left, right = self._whole(one, levels), self._whole(other, levels)
        kinds, values = left.kinds & right.kinds, left.values + right.values
        if not kinds or (values and not frozenset.intersection(*values)):
            return True
        if kinds == {"object"} and self._no_object(left.nodes, right.nodes, levels):
            return True
        return self._every_branch(left.nodes, other, levels) or self._every_branch(right.nodes, one, levels)

    def within(self, schema: Any, declared: Any) -> bool:
        """Tell whether every value of ``schema`` is shown to be of the types ``declared``."""
        if not is_schema(schema):
            return schema is False
        return self._whole(schema, MAX_LEVELS).kinds <= _kinds({"type": declared})

    def _whole(self, node: Node, levels: int) -> "_Whole":
        key = id(node), levels
        if key not in self._known:
            nodes = list(self._conjuncts(node, levels))
            values = [frozenset(map(_key, found)) for each in nodes if (found := _values(each)) is not None]
            self._known[key] = _Whole(nodes, _KINDS.intersection(*map(_kinds, nodes)), values)
        return self._known[key]

    def _conjuncts(self, node: Node, levels: int) -> Iterator[Node]:
        """Yield every schema object that a value of ``node`` must satisfy."""
        yield node
        if levels == 0:
            return
        for each in (*node.get("allOf", ()), *(self._document.target(to, node) for to in references(node))):
            if is_schema(each):
                yield from self._conjuncts(each, levels - 1)

    def _every_branch(self, nodes: list[Node], other: Node, levels: int) -> bool:
        branches = (node[key] for node in nodes for key in ("anyOf", "oneOf") if key in node)
        return any(all(self.disjoint(each, other, levels - 1) for each in options) for options in branches)

    def _no_object(self, left: list[Node], right: list[Node], levels: int) -> bool:
        needed = [{name for node in side for name in node.get("required", ())} for side in (left, right)]
        if any(_forbids(node, name) for node in right for name in needed[0]):
            return True
        if any(_forbids(node, name) for node in left for name in needed[1]):
            return True
        return any(
            self.disjoint(one["properties"][name], other["properties"][name], levels - 1)
            for one in left
            for other in right
            if "properties" in one and "properties" in other
            for name in (needed[0] | needed[1]) & one["properties"].keys() & other["properties"].keys()
        )


class _Whole(NamedTuple):
    """All that must hold for a value: the schema objects, the kinds that are left, every set of values."""

    nodes: list[Node]
    kinds: frozenset[str]
    values: list[frozenset[tuple[str, Any]]]


def _kinds(node: Node) -> frozenset[str]:
    declared = node.get("type", list(_KINDS))
    names = {declared} if isinstance(declared, str) else set(declared)
    kinds = frozenset(names | {"integer", "fraction"} if "number" in names else names) & _KINDS
    values = _values(node)
    return kinds if values is None else kinds & {_kind(each) for each in values}


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int | float):
        return "integer" if value == int(value) else "fraction"
    if isinstance(value, str):
        return "string"
    if value is None:
        return "null"
    return "array" if isinstance(value, list) else "object"


def _values(node: Node) -> list[Any] | None:
    return [node["const"]] if "const" in node else node.get("enum")


def _key(value: Any) -> tuple[str, Any]:
    """Return what equal values have in common: kinds stand beside values because true == 1 in Python."""
    return _kind(value), len(value) if isinstance(value, list | dict) else value


def _forbids(node: Node, name: str) -> bool:
    declared = node.get("properties", {})
    if name in declared:
        return declared[name] is False
    return node.get("additionalProperties") is False and not node.get("patternProperties")
