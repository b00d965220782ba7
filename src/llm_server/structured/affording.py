"""What of a schema a grammar compiler can be asked for: native code that does not end cannot be stopped."""

from collections.abc import Iterator
from typing import Any

from llm_server.structured.keywords import STRUCTURE, is_schema, subschemas
from llm_server.structured.relaxing import MAX_REPEATED, Keeping, Node

MAX_TOGETHER = 8
"""Most patterns for one text: llguidance intersects eight in milliseconds, sixteen perhaps in minutes."""
_MAX_STEPS = 20_000
_MAX_LEVELS = 64


def affordable(schema: Node) -> Keeping:
    """Return what of ``schema`` a compiler can be asked for, whatever it does with the rest."""
    nodes = list(_nodes(schema))
    counts = [node[key] for node in nodes for key in ("maxItems", "minItems") if key in node]
    repeated = MAX_REPEATED if sum(counts) <= MAX_REPEATED else MAX_REPEATED // (2 * len(counts))
    several = sum("pattern" in node for node in nodes) > MAX_TOGETHER
    return Keeping(patterns=not (several and _crowded(schema)), repeated=repeated)


def _nodes(node: Node) -> Iterator[Node]:
    left: list[Any] = [node]
    while left:
        node = left.pop()
        if is_schema(node):
            yield node
            if not STRUCTURE.isdisjoint(node):
                left += [each for _, each in subschemas(node)]


def _crowded(schema: Node) -> bool:
    """Tell whether more than :data:`MAX_TOGETHER` patterns may have to be intersected for one text.

    An upper bound is counted: parts of an ``allOf`` add up even where their patterns are for different texts.
    """
    definitions = schema.get("$defs", {})
    counter = _Together(definitions)
    return any(counter.count(each) > MAX_TOGETHER for each in (schema, *definitions.values()))


class _Together:
    def __init__(self, definitions: Node) -> None:
        self._definitions = definitions
        self._steps = 0
        self._counts: dict[int, int] = {}

    def count(self, root: Any) -> int:
        """Return the most patterns that meet in ``root``; far too many when counting takes too long."""
        self._counts = {}
        return self._count(root, _MAX_LEVELS)

    def _count(self, node: Any, levels: int) -> int:
        if not is_schema(node) or levels == 0:
            return 0
        if STRUCTURE.isdisjoint(node):
            return int("pattern" in node)
        known = self._counts.get(id(node))
        if known is not None:
            return known
        self._steps += 1
        if self._steps > _MAX_STEPS:
            return MAX_TOGETHER + 1
        self._counts[id(node)] = 0  # where a reference leads back, nothing is added
        merged = sum(self._count(each, levels - 1) for each in self._conjuncts(node))
        branches = max((self._count(each, levels - 1) for each in _branches(node)), default=0)
        inside = max((self._count(each, levels - 1) for each in _inside(node)), default=0)
        self._counts[id(node)] = total = merged + branches + max(inside, int("pattern" in node))
        return total

    def _conjuncts(self, node: Node) -> list[Any]:
        name = str(node.get("$ref", "")).rpartition("/")[2]
        return [*node.get("allOf", ()), self._definitions.get(name)]


def _branches(node: Node) -> list[Any]:
    return [*node.get("anyOf", ()), *node.get("oneOf", ())]


def _inside(node: Node) -> list[Any]:
    return [each for path, each in subschemas(node) if path[0] not in {"$defs", "allOf", "anyOf", "oneOf"}]
