"""From an answer to the schema that was sent back to an answer to the schema that was asked for."""

from collections.abc import Mapping
from typing import Any

Node = dict[str, Any]

_TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "boolean": (bool,),
    "integer": (int, float),
    "number": (int, float),
    "null": (type(None),),
}


class Undecided(Exception):  # noqa: N818 - it is no error: more will tell
    """Of a value that still grows it cannot be told yet which alternative it is."""


class Restorer:
    """Takes off the wrapping, and takes out the nulls that stand for what was left out.

    Args:
        sent: the schema as it was sent.
        dispensable: properties that are left out when null, by the identity of the sent object.
        wrapped: the property that holds the answer; empty when it is not wrapped.
    """

    def __init__(self, sent: Node, dispensable: Mapping[int, frozenset[str]], wrapped: str) -> None:
        self._sent = sent
        self._dispensable = dispensable
        self._wrapped = wrapped
        self._partial = False

    def whole(self, value: Any) -> Any:
        """Return the answer in ``value``; whatever does not look like an answer comes back as it is."""
        return self._restored(value, partial=False)

    def partial(self, value: Any) -> Any:
        """Return as much of the answer as a growing ``value`` has; raises :class:`Undecided`."""
        return self._restored(value, partial=True)

    def _restored(self, value: Any, *, partial: bool) -> Any:
        node = self._sent
        if self._wrapped:
            if not isinstance(value, dict) or value.keys() != {self._wrapped}:
                if partial:
                    raise Undecided
                return value
            value, node = value[self._wrapped], self._sent["properties"][self._wrapped]
        return self._inside(node, value, partial=partial) if self._dispensable else value

    def _inside(self, node: Node, value: Any, *, partial: bool) -> Any:
        if not isinstance(value, dict | list):
            return value
        node = self._alternative(self._followed(node), value, partial=partial)
        if isinstance(value, list):
            items = node.get("items", {})
            return [self._inside(items, each, partial=partial) for each in value]
        properties, out = node.get("properties", {}), self._dispensable.get(id(node), frozenset())
        return {
            name: self._inside(properties.get(name, {}), each, partial=partial)
            for name, each in value.items()
            if each is not None or name not in out
        }

    def _followed(self, node: Node) -> Node:
        while "$ref" in node:
            node = self._sent["$defs"][node["$ref"].removeprefix("#/$defs/")]
        return node

    def _alternative(self, node: Node, value: Any, *, partial: bool) -> Node:
        """Return the branch of ``node`` that ``value`` is: sent objects are closed, so their keys tell."""
        while "anyOf" in node:
            branches = [self._followed(branch) for branch in node["anyOf"]]
            found = [branch for branch in branches if self._fits(branch, value, partial=False)]
            if not found and partial:
                found = [branch for branch in branches if self._fits(branch, value, partial=True)]
                if len(found) != 1:
                    raise Undecided
            if not found:
                return {}
            node = found[0]
        return node

    def _fits(self, node: Node, value: Any, *, partial: bool) -> bool:
        node = self._followed(node)
        if "anyOf" in node:
            return any(self._fits(branch, value, partial=partial) for branch in node["anyOf"])
        if not _has_type(node, value):
            return False
        if isinstance(value, list):
            return all(self._fits(node.get("items", {}), each, partial=partial) for each in value)
        if isinstance(value, dict):
            return self._has_shape(node, value, partial=partial)
        grows = partial and isinstance(value, str)
        return grows or _is_among(node, value)

    def _has_shape(self, node: Node, value: Node, *, partial: bool) -> bool:
        properties = node.get("properties", {})
        if not partial and not set(node.get("required", ())) <= value.keys():
            return False
        return all(name in properties for name in value) and all(
            self._fits(properties[name], each, partial=partial) for name, each in value.items()
        )


def _has_type(node: Node, value: Any) -> bool:
    said = node.get("type")
    if said is None or (value is None and node.get("nullable")):
        return True
    kinds = [said] if isinstance(said, str) else said
    return any(
        isinstance(value, _TYPES[kind]) and (type(value) is bool) <= (kind == "boolean") for kind in kinds
    )


def _is_among(node: Node, value: Any) -> bool:
    if "const" in node:
        return bool(value == node["const"])
    return "enum" not in node or value in node["enum"]
