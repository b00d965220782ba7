"""A schema said again in the words that grammar compilers know best, with the same meaning."""

from itertools import combinations
from typing import Any

import msgspec

from llm_server.structured.disjoint import disjoint, within
from llm_server.structured.drafts import Draft
from llm_server.structured.equivalences import RULED, RULES, Node
from llm_server.structured.keywords import REFERENCES, is_schema, mapped
from llm_server.structured.references import references
from llm_server.structured.schema import ANNOTATIONS, Schema

_SILENT = ANNOTATIONS | {
    "$anchor", "$defs", "$dynamicAnchor", "$id", "$recursiveAnchor", "$schema", "$vocabulary", "definitions",
    "contentSchema", "deprecated", "id", "readOnly", "writeOnly",
}  # fmt: skip
"""Keywords that say nothing about a value by themselves; references are followed first."""
_DRAFTS: tuple[Draft, ...] = ("4", "6", "7", "2019-09", "2020-12")
_SINCE: dict[str, Draft] = {
    "const": "6", "contains": "6", "propertyNames": "6", "if": "7", "then": "7", "else": "7",
    "dependentRequired": "2019-09", "dependentSchemas": "2019-09", "maxContains": "2019-09",
    "minContains": "2019-09", "unevaluatedItems": "2019-09", "unevaluatedProperties": "2019-09",
    "prefixItems": "2020-12",
}  # fmt: skip
"""The draft that brought a keyword: older ones do not look at it."""


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
        self._silent = _SILENT.union(REFERENCES) | {
            key for key, draft in _SINCE.items() if _DRAFTS.index(draft) > age
        }
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
        names = [self._named(each, node) for each in references(node)]
        if names and self._ref_alone:
            return {"$ref": names[0]}
        copy = mapped({key: each for key, each in node.items() if key not in self._silent}, self._node)
        if self._type_is_implied(node, copy):
            del copy["type"]
        if "oneOf" in copy and self._all_disjoint(node["oneOf"]):
            options = {"anyOf": copy.pop("oneOf")}
            copy = copy | ({"allOf": [*copy.get("allOf", ()), options]} if "anyOf" in copy else options)
        if not copy.keys().isdisjoint(RULED):
            for rule in RULES:
                rule(copy)
        return _referring(copy, names) if names else copy

    def _type_is_implied(self, node: Node, copy: Node) -> bool:
        """Tell whether ``type`` only repeats what every alternative says: merging it in would not end."""
        keyword = next((key for key in ("anyOf", "oneOf") if key in copy), "")
        if copy.keys() != {"type", keyword}:
            return False
        return all(within(each, copy["type"], self._document) for each in node[keyword])

    def _all_disjoint(self, options: list[Any]) -> bool:
        if len(options) > MAX_COMPARED:
            return False
        text = msgspec.json.encode(options)
        if text not in self._compared:  # the same alternatives stand in many places of large schemas
            pairs = combinations(options, 2)
            self._compared[text] = all(disjoint(one, other, self._document) for one, other in pairs)
        return self._compared[text]

    def _named(self, reference: str, node: Node) -> str:
        target = self._document.target(reference, node)
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
