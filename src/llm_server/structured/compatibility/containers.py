"""Which subschemas of an old and a new object or array must be compared with each other."""

from collections.abc import Iterator
from typing import Any, NamedTuple

from llm_server.structured.compatibility.document import Node

Steps = tuple[str | int, ...]


class Pair(NamedTuple):
    """What an old schema says of a part, and what the new one says of it.

    ``name``: told, at ``steps``, instead of the changes inside, where those would mislead.
    """

    old: Any
    new: Any
    steps: Steps
    name: str = ""


def object_pairs(old: Node, new: Node) -> Iterator[Pair]:
    """Yield every pair under which a property may fall."""
    had, has = old.get("properties", {}), new.get("properties", {})
    patterns = old.get("patternProperties", {})
    others = old.get("additionalProperties", True)
    rest = new.get("additionalProperties", True)
    for name, each in has.items():
        if name in had:
            yield Pair(had[name], each, ("properties", name))
        else:
            yield Pair(_unnamed(old), each, ("properties", name), "property_added_to_open_object")
    yield from _pattern_pairs(old, new)
    for name in had.keys() - has.keys():
        yield Pair(had[name], rest, ("properties", name), "property_removed")
    for pattern in patterns.keys() - new.get("patternProperties", {}).keys():
        yield Pair(patterns[pattern], rest, ("patternProperties", pattern), "pattern_removed")
    yield Pair(others, rest, ("additionalProperties",), "object_closed" if rest is False else "")
    if "propertyNames" in new:
        yield Pair({"type": "string", **_names(old)}, new["propertyNames"], ("propertyNames",))


def _pattern_pairs(old: Node, new: Node) -> Iterator[Pair]:
    had = old.get("patternProperties", {})
    empty = _unnamed(old) is False and not old.get("properties")
    for pattern, each in new.get("patternProperties", {}).items():
        if pattern in had:
            yield Pair(had[pattern], each, ("patternProperties", pattern))
        elif not empty:
            yield Pair(True, each, ("patternProperties", pattern), "pattern_added")


def _unnamed(old: Node) -> Any:
    """Return what ``old`` demands of a property that it does not name."""
    return True if old.get("patternProperties") else old.get("additionalProperties", True)


def _names(old: Node) -> Node:
    names = old.get("propertyNames", {})
    return names if isinstance(names, dict) else {}


def array_pairs(old: Node, new: Node) -> Iterator[Pair]:
    """Yield every pair under which an item may fall."""
    first, others, _, _ = _items(old)
    now_first, now_others, before, after = _items(new)
    most = old.get("maxItems", max(len(first), len(now_first)) + 1)
    for at in range(min(max(len(first), len(now_first)), most)):
        here: Steps = (before, at) if at < len(now_first) else (after,)
        yield Pair(_at(first, at, others), _at(now_first, at, now_others), here)
    if most > max(len(first), len(now_first)):
        yield Pair(others, now_others, (after,), "items_refused" if now_others is False else "")


def _at(first: list[Any], at: int, others: Any) -> Any:
    return first[at] if at < len(first) else others


def _items(node: Node) -> tuple[list[Any], Any, str, str]:
    """Return the schemas of the first items, that of the others, and the two keywords that say so.

    Until draft 2019-09 these were ``items`` and ``additionalItems``.
    """
    items = node.get("items", True)
    if isinstance(items, list):
        return items, node.get("additionalItems", True), "items", "additionalItems"
    return node.get("prefixItems", []), items, "prefixItems", "items"
