"""Null as the word for "left out", where every property must be there."""

from collections.abc import Callable
from typing import Any

from llm_server.contract import SchemaRules
from llm_server.structured.limits import Inexpressible

Node = dict[str, Any]

MAX_DEPTH = 8
"""References and alternatives that are followed to see whether null is among them."""


def nullable(node: Node, rules: SchemaRules) -> Node:
    """Return the rewritten schema ``node`` with null allowed too; raises :class:`Inexpressible`."""
    kind = node.get("type")
    if kind == "null" or (isinstance(kind, list) and "null" in kind) or node.get("nullable"):
        return node
    if rules.nullable and isinstance(kind, str) and "const" not in node:
        return {**node, "nullable": True, **_with_null(node)}
    if kind is not None and "const" not in node and "anyOf" not in node and not rules.nullable:
        kinds = [kind] if isinstance(kind, str) else kind
        return {**node, "type": [*kinds, "null"], **_with_null(node)}
    if rules.nullable or (rules.keywords is not None and "anyOf" not in rules.keywords):
        raise Inexpressible("alternatives")
    if "anyOf" in node:
        return {**node, "anyOf": [*node["anyOf"], {"type": "null"}]}
    return {"anyOf": [node, {"type": "null"}]}


def _with_null(node: Node) -> Node:
    return {"enum": [*node["enum"], None]} if "enum" in node and None not in node["enum"] else {}


def takes_null(node: Any, target: Callable[[Node], Any], depth: int = 0) -> bool:
    """Whether the original schema ``node`` takes null, as far as it can be seen without validating.

    A wrong "no" lets null be left out, which is valid for an optional property; a wrong "yes" makes one
    required that could have been left out, which is valid too.
    """
    if not isinstance(node, dict) or depth > MAX_DEPTH:
        return node is True
    if "type" in node and "null" not in ([node["type"]] if isinstance(node["type"], str) else node["type"]):
        return False
    if "enum" in node and None not in node["enum"]:
        return False
    if "const" in node and node["const"] is not None:
        return False
    if isinstance(node.get("$ref"), str) and not takes_null(target(node), target, depth + 1):
        return False
    if not all(takes_null(each, target, depth + 1) for each in node.get("allOf", ())):
        return False
    unions = [node[key] for key in ("anyOf", "oneOf") if key in node]
    return all(any(takes_null(each, target, depth + 1) for each in union) for union in unions)
