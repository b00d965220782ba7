"""What it takes to judge a value by a schema, told in advance.

jsonschema-rs cannot be stopped and lets no other thread run meanwhile, so what would take it long must not
be begun. The unit is what one schema takes for one value, a tenth of a microsecond; measured with 0.60.
"""

from collections.abc import Iterator
from typing import Any

from llm_server.structured.bounds import applied
from llm_server.structured.references import References

COMPOUND, INEXACT = 2, 45
"""What comparing with one object or array of an ``enum`` takes, and with one number that no machine word
holds: these are compared one by one and as decimals."""
VAST = 2**63
"""Integers from here on, either side of zero, are compared so too."""


class Efforts:
    """What the schemas of one document take for one value each, with all that apply to the same value."""

    def __init__(self, document: References) -> None:
        self._document = document
        self._known: dict[int, int] = {}

    def most(self) -> int:
        """Return the greatest."""
        return max((self._of(place.node) for place in self._document.places), default=1)

    def _of(self, node: dict[str, Any]) -> int:
        """Return that of ``node``; its chain ends, see :func:`~.bounds.check_bounds`."""
        known = self._known.get(id(node))
        if known is None:
            known = _own(node) + sum(map(self._of, applied(self._document, node)))
            self._known[id(node)] = known
        return known


def _own(node: dict[str, Any]) -> int:
    listed, patterns = node.get("enum"), node.get("patternProperties")
    values = [*(listed if isinstance(listed, list) else ()), *([node["const"]] if "const" in node else ())]
    plain = len({type(value) for value in values}) <= 1 and not any(map(_comparing, values))
    compared = 0 if plain else sum([1 + _comparing(value) for value in values])
    return 1 + compared + (len(patterns) if isinstance(patterns, dict) else 0)


def _comparing(value: Any) -> int:
    if isinstance(value, dict | list):
        return COMPOUND
    return INEXACT if isinstance(value, float) or is_vast(value) else 0


def is_vast(value: Any) -> bool:
    """Whether ``value`` is an integer that no machine word holds."""
    return type(value) is int and not -VAST <= value < VAST


def size(value: Any, levels: int) -> int | None:
    """Return how many values there are in ``value``, itself included; ``None`` if deeper than ``levels``."""
    count, level = 1, [value] if isinstance(value, dict | list) else []
    for _ in range(levels):
        if not level:
            return count
        count += sum(map(len, level))
        level = [each for each in _children(level) if isinstance(each, dict | list)]
    return None if level else count


def count_vast(value: Any) -> int:
    """Return how many integers in ``value`` no machine word holds."""
    count, level = 0, [value]
    while level:
        count += sum(map(is_vast, level))
        level = list(_children([each for each in level if isinstance(each, dict | list)]))
    return count


def _children(containers: list[Any]) -> Iterator[Any]:
    for each in containers:
        yield from each.values() if isinstance(each, dict) else each
