"""How large a schema may be that a model's own schema mode takes."""

from collections.abc import Iterator
from typing import Any

from llm_server.contract import SchemaRules
from llm_server.structured.keywords import subschemas


class Inexpressible(Exception):  # noqa: N818 - it is no error: another method is used
    """A schema that a mode cannot be given; the message says what it is that cannot be said."""


def check_limits(root: dict[str, Any], rules: SchemaRules) -> None:
    """Raise :class:`Inexpressible` where ``root``, as it would be sent, passes a limit of ``rules``.

    Objects and arrays count as depth; a property whose type is a list, and every ``anyOf``, counts as a
    union.
    """
    nodes = list(_nodes(root, 0))
    properties = [node.get("properties", {}) for node, _ in nodes]
    counts = {
        "levels": (max(depth for _, depth in nodes), rules.max_depth),
        "properties": (sum(map(len, properties)), rules.max_properties),
        "optional properties": (sum(map(_optional, (node for node, _ in nodes))), rules.max_optional),
        "unions": (sum(_is_union(node) for node, _ in nodes), rules.max_unions),
    }
    for name, (count, limit) in counts.items():
        if limit is not None and count > limit:
            raise Inexpressible(f"{count} {name}, at most {limit} are taken")


def _nodes(node: dict[str, Any], depth: int) -> Iterator[tuple[dict[str, Any], int]]:
    depth += bool(node.keys() & {"properties", "items"})
    yield node, depth
    for _, inner in subschemas(node):
        if isinstance(inner, dict):
            yield from _nodes(inner, depth)


def _optional(node: dict[str, Any]) -> int:
    return len(node.get("properties", {}).keys() - set(node.get("required", ())))


def _is_union(node: dict[str, Any]) -> bool:
    return "anyOf" in node or isinstance(node.get("type"), list)
