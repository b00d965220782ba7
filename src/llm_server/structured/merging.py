"""One schema instead of several that must all hold: ``allOf``, and what stands beside a reference."""

from collections.abc import Callable
from typing import Any

from llm_server.structured.limits import Inexpressible

Node = dict[str, Any]

MAX_DEPTH = 16
"""References inside conjunctions that are followed: more is a circle."""
_NOTES = frozenset(
    {"title", "description", "default", "examples", "$comment", "$schema", "$id", "id", "$anchor"}
)
_UNITED = ("properties", "$defs", "definitions")


def merged(node: Node, target: Callable[[Node], Any]) -> Node:
    """Return the schema that says at once what ``node``, its ``allOf`` and its reference say.

    Args:
        node: a schema with ``allOf`` or with keywords beside ``$ref``.
        target: finds what a node's reference points at.

    Raises:
        Inexpressible: two of them say different things with the same keyword.
    """
    return _flat(node, target, 0)


def _flat(node: Any, target: Callable[[Node], Any], depth: int) -> Node:
    if depth > MAX_DEPTH:
        raise Inexpressible("conjunctions without end")
    if node is True:
        return {}
    if not isinstance(node, dict):
        raise Inexpressible("no value at all")
    parts = [_flat(each, target, depth + 1) for each in node.get("allOf", ())]
    if "$ref" in node:
        parts.append(_flat(target(node), target, depth + 1))
    own = {key: value for key, value in node.items() if key not in {"allOf", "$ref"}}
    for part in parts:
        own = _both(own, part)
    return own


def _both(one: Node, other: Node) -> Node:
    """Return a schema that says what both say; where both have a note, that of ``one`` stays."""
    both = {**other, **one}
    for key in one.keys() & other.keys():
        mine, theirs = one[key], other[key]
        if key in _NOTES or mine == theirs:
            continue
        if key == "required":
            both[key] = [*theirs, *(name for name in mine if name not in theirs)]
        elif key in _UNITED:
            both[key] = {**theirs, **mine}
            if any(mine[name] != theirs[name] for name in mine.keys() & theirs.keys()):
                raise Inexpressible("a property that is said twice")
        else:
            raise Inexpressible(f"'{key}' said twice")
    return both
