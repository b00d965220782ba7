"""What of a schema a grammar compiler can be asked for: native code that does not end cannot be stopped."""

from collections.abc import Callable, Iterator
from decimal import Decimal
from math import prod
from typing import Any

from llm_server.structured.keywords import STRUCTURE, is_schema, subschemas
from llm_server.structured.relaxing import MAX_REPEATED, Keeping, Node

MAX_TOGETHER = 8
"""Most patterns for one text: llguidance intersects eight in milliseconds, sixteen perhaps in minutes."""
MAX_NAMES = 24
"""Most patterns for the names of one object: each is compared with each, and more in seconds."""
MAX_REMAINDERS = 1_000
"""Most remainders of all ``multipleOf`` together: ten thousand take a second, a million minutes."""
_MAX_STEPS = 20_000
_MAX_LEVELS = 64


def affordable(schema: Node) -> Keeping:
    """Return what of ``schema`` a compiler can be asked for, whatever it does with the rest."""
    nodes = list(_nodes(schema))
    counts = [node[key] for node in nodes for key in ("maxItems", "minItems") if key in node]
    repeated = MAX_REPEATED if sum(counts) <= MAX_REPEATED else MAX_REPEATED // (2 * len(counts))
    crowded = [
        sum(map(weigh, nodes)) > most and _crowded(schema, weigh, most)
        for weigh, most in ((_patterns, MAX_TOGETHER), (_names, MAX_NAMES))
    ]
    remainders = prod({_remainders(node["multipleOf"]) for node in nodes if node.get("multipleOf")})
    return Keeping(
        patterns=not crowded[0],
        names=not crowded[1],
        multiples=remainders <= MAX_REMAINDERS,
        repeated=repeated,
    )


def _remainders(multiple: float) -> int:
    """Return how many remainders an automaton that divides by ``multiple``, digit by digit, keeps apart."""
    digits = "".join(map(str, Decimal(str(multiple)).normalize().as_tuple().digits))
    return int(digits)


def _patterns(node: Node) -> int:
    return int("pattern" in node)


def _names(node: Node) -> int:
    return len(node.get("patternProperties", ()))


def _nodes(node: Node) -> Iterator[Node]:
    left: list[Any] = [node]
    while left:
        node = left.pop()
        if is_schema(node):
            yield node
            if not STRUCTURE.isdisjoint(node):
                left += [each for _, each in subschemas(node)]


def _crowded(schema: Node, weigh: Callable[[Node], int], most: int) -> bool:
    """Tell whether more than ``most`` of what ``weigh`` counts may have to be intersected for one value.

    An upper bound is counted: parts of an ``allOf`` add up even where they are about different values.
    """
    definitions = schema.get("$defs", {})
    counter = _Together(definitions, weigh, most)
    return any(counter.count(each) > most for each in (schema, *definitions.values()))


class _Together:
    def __init__(self, definitions: Node, weigh: Callable[[Node], int], most: int) -> None:
        self._definitions = definitions
        self._weigh = weigh
        self._most = most
        self._steps = 0
        self._counts: dict[int, int] = {}

    def count(self, root: Any) -> int:
        """Return the most that meets in ``root``; too many when counting takes too long."""
        self._counts = {}
        return self._count(root, _MAX_LEVELS)

    def _count(self, node: Any, levels: int) -> int:
        if not is_schema(node) or levels == 0:
            return 0
        if STRUCTURE.isdisjoint(node):
            return self._weigh(node)
        known = self._counts.get(id(node))
        if known is not None:
            return known
        self._steps += 1
        if self._steps > _MAX_STEPS:
            return self._most + 1
        self._counts[id(node)] = 0  # where a reference leads back, nothing is added
        merged = sum(self._count(each, levels - 1) for each in self._conjuncts(node))
        branches = max((self._count(each, levels - 1) for each in _branches(node)), default=0)
        inside = max((self._count(each, levels - 1) for each in _inside(node)), default=0)
        self._counts[id(node)] = total = merged + branches + max(inside, self._weigh(node))
        return total

    def _conjuncts(self, node: Node) -> list[Any]:
        name = str(node.get("$ref", "")).rpartition("/")[2]
        return [*node.get("allOf", ()), self._definitions.get(name)]


def _branches(node: Node) -> list[Any]:
    return [*node.get("anyOf", ()), *node.get("oneOf", ())]


def _inside(node: Node) -> list[Any]:
    return [each for path, each in subschemas(node) if path[0] not in {"$defs", "allOf", "anyOf", "oneOf"}]
