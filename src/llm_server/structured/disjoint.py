"""Whether no value can satisfy both of two schemas: then ``oneOf`` and ``anyOf`` say the same of them."""

from collections.abc import Iterator
from typing import Any

from llm_server.structured.keywords import is_schema
from llm_server.structured.references import References, references

Node = dict[str, Any]

MAX_LEVELS = 4
"""How deep properties and references are followed to find a difference."""
_KINDS = frozenset({"null", "boolean", "integer", "fraction", "string", "array", "object"})


def disjoint(one: Any, other: Any, document: References, levels: int = MAX_LEVELS) -> bool:
    """Tell whether it can be shown that no value satisfies both; ``False`` says nothing."""
    if one is False or other is False:
        return True
    if not (is_schema(one) and is_schema(other)) or levels == 0:
        return False
    left, right = list(_conjuncts(one, document, levels)), list(_conjuncts(other, document, levels))
    kinds = _KINDS.intersection(*(_kinds(each) for each in left + right))
    if not kinds or _no_value(left, right):
        return True
    if kinds == {"object"} and _no_object(left, right, document, levels):
        return True
    return _every_branch(left, other, document, levels) or _every_branch(right, one, document, levels)


def within(schema: Any, declared: Any, document: References) -> bool:
    """Tell whether every value of ``schema`` is shown to be of the types ``declared``."""
    if not is_schema(schema):
        return schema is False
    kinds = _KINDS.intersection(*(_kinds(each) for each in _conjuncts(schema, document, MAX_LEVELS)))
    return kinds <= _kinds({"type": declared})


def _conjuncts(node: Node, document: References, levels: int) -> Iterator[Node]:
    """Yield every schema object that a value of ``node`` must satisfy."""
    yield node
    if levels == 0:
        return
    inner = [*node.get("allOf", ()), *(document.target(each, node) for each in references(node))]
    for each in inner:
        if is_schema(each):
            yield from _conjuncts(each, document, levels - 1)


def _every_branch(conjuncts: list[Node], other: Node, document: References, levels: int) -> bool:
    branches = (node[key] for node in conjuncts for key in ("anyOf", "oneOf") if key in node)
    return any(all(disjoint(each, other, document, levels - 1) for each in options) for options in branches)


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


def _no_value(left: list[Node], right: list[Node]) -> bool:
    # Kinds stand beside values because true == 1 in Python.
    lists = [
        [(_kind(each), each) for each in values]
        for node in left + right
        if (values := _values(node)) is not None
    ]
    return bool(lists) and not any(all(each in other for other in lists[1:]) for each in lists[0])


def _no_object(left: list[Node], right: list[Node], document: References, levels: int) -> bool:
    needed = [{name for node in side for name in node.get("required", ())} for side in (left, right)]
    if any(_forbids(node, name) for node in right for name in needed[0]):
        return True
    if any(_forbids(node, name) for node in left for name in needed[1]):
        return True
    return any(
        disjoint(one["properties"][name], other["properties"][name], document, levels - 1)
        for name in needed[0] | needed[1]
        for one in left
        for other in right
        if name in one.get("properties", ()) and name in other.get("properties", ())
    )


def _forbids(node: Node, name: str) -> bool:
    declared = node.get("properties", {})
    if name in declared:
        return declared[name] is False
    return node.get("additionalProperties") is False and not node.get("patternProperties")
