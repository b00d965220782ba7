"""A schema said again in the words that grammar compilers know best, with the same meaning."""

from itertools import combinations
from typing import Any

import msgspec

from llm_server.structured.disjoint import Comparison
from llm_server.structured.drafts import Draft
from llm_server.structured.equivalences import Node, ruled
from llm_server.structured.keywords import CHECKS, REFERENCES, STRUCTURE, is_schema, mapped
from llm_server.structured.references import references
from llm_server.structured.schema import Schema

_DRAFTS: tuple[Draft, ...] = ("4", "6", "7", "2019-09", "2020-12")
_SINCE: dict[str, Draft] = {
    "const": "6", "contains": "6", "propertyNames": "6", "if": "7", "then": "7", "else": "7",
    "dependentRequired": "2019-09", "dependentSchemas": "2019-09", "maxContains": "2019-09",
    "minContains": "2019-09", "unevaluatedItems": "2019-09", "unevaluatedProperties": "2019-09",
    "prefixItems": "2020-12",
}  # fmt: skip
"""The draft that brought a keyword: older ones do not look at it."""
_HEARD = (CHECKS | STRUCTURE) - {"$defs", "contentSchema", "definitions", *REFERENCES}
"""Keywords that decide about a value. References are followed, and anything else says nothing: beside a
reference it would still make a compiler merge the two."""
MAX_COMPARED = 32
"""Most alternatives of one ``oneOf`` that are compared, each with each."""


def simplified(schema: Schema) -> Node:
    """Return ``schema`` without annotations and identifiers, in the forms of draft 2020-12.

    Whatever is referred to stands in ``$defs`` once, under a short name. The order of properties stays: it is
    the order in which a grammar lets them be written.
    """
    return _Simplifier(schema).document()


class _Simplifier:
    """Works through one schema; the targets of references are queued, so that recursion ends."""

    def __init__(self, schema: Schema) -> None:
        self._root = schema.value
        self._document = schema.document
        # Until draft 7 a reference stands alone: its siblings are not looked at (draft 7 core, section 8.3).
        self._ref_alone = schema.draft in {"4", "6", "7"}
        age = _DRAFTS.index(schema.draft)
        self._heard = _HEARD - {key for key, draft in _SINCE.items() if _DRAFTS.index(draft) > age}
        self._comparison = Comparison(schema.document)
        self._names: dict[int, str] = {}
        self._compared: dict[bytes, bool] = {}
        self._queue: list[tuple[str, Any]] = []

    def document(self) -> Node:
        """Return the whole; every name that a reference got is defined in it."""
        body: Node = self._node(self._root)
        definitions: Node = {}
        while self._queue:
            name, target = self._queue.pop()
            definitions[name] = self._node(target)
        return body | {"$defs": definitions} if definitions else body

    def _node(self, node: Any) -> Any:
        if not is_schema(node):
            return node
        copy = {key: each for key, each in node.items() if key in self._heard}
        if not STRUCTURE.isdisjoint(node):
            targets = [self._document.target(each, node) for each in references(node)]
            if targets and self._ref_alone:
                return {"$ref": self._named(targets[0])}
            copy = self._composed(mapped(copy, self._node), node, targets)
        else:
            ruled(copy)
        return copy

    def _composed(self, copy: Node, node: Node, targets: list[Any]) -> Node:
        """Return ``copy``, whose parts are simplified, as one of the forms that compilers know best."""
        if self._type_is_implied(copy, node, targets):
            del copy["type"]
        if "oneOf" in copy and self._all_disjoint(node["oneOf"]):
            options = {"anyOf": copy.pop("oneOf")}
            copy |= {"allOf": [*copy.get("allOf", ()), options]} if "anyOf" in copy else options
        ruled(copy)
        return _referring(copy, [self._named(each) for each in targets]) if targets else copy

    def _type_is_implied(self, copy: Node, node: Node, targets: list[Any]) -> bool:
        """Tell whether ``type`` only repeats what others say: merging it in costs much, or does not end."""
        if "type" not in copy or len(copy) > 2:
            return False
        if len(copy) == 1:
            return any(self._comparison.within(each, copy["type"]) for each in targets)
        options: list[Any] = node.get("anyOf") or node.get("oneOf") or []
        return bool(options) and all(self._comparison.within(each, copy["type"]) for each in options)

    def _all_disjoint(self, options: list[Any]) -> bool:
        if len(options) > MAX_COMPARED:
            return False
        text = msgspec.json.encode(options)
        if text not in self._compared:  # the same alternatives stand in many places of large schemas
            pairs = combinations(options, 2)
            self._compared[text] = all(self._comparison.disjoint(one, other) for one, other in pairs)
        return self._compared[text]

    def _named(self, target: Any) -> str:
        if target is self._root:
            return "#"
        if id(target) not in self._names:
            self._names[id(target)] = str(len(self._names))
            self._queue.append((self._names[id(target)], target))
        return f"#/$defs/{self._names[id(target)]}"


def _referring(node: Node, names: list[str]) -> Node:
    first, *others = names
    node = {"$ref": first, **node}
    if others:
        node["allOf"] = [*node.get("allOf", ()), *({"$ref": name} for name in others)]
    return node
