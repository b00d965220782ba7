"""The walk through a schema that rewrites it into the subset that a mode takes."""

from collections.abc import Mapping
from typing import Any

from llm_server.contract import SchemaRules
from llm_server.structured.limits import Inexpressible
from llm_server.structured.merging import merged
from llm_server.structured.nulls import nullable, takes_null
from llm_server.structured.references import References
from llm_server.structured.schema import Schema
from llm_server.structured.subset import CONSTRAINTS, Subset

WRAPPED = "value"
"""The property that holds an answer whose schema is no object."""
MAX_NODES = 20_000
"""Subschemas that are rewritten at most: inlining references can multiply them."""
MARK = "\0dispensable"
"""Where a rewritten object notes, until it is sent, which properties are left out when they are null."""

Node = dict[str, Any]


def is_object(root: Node) -> bool:
    """Whether a schema says that it is an object, and nothing beside."""
    return root.get("type") == "object" and "anyOf" not in root


def wrapper(inner: Node) -> Node:
    """Return the object whose one property is ``inner``."""
    return {
        "type": "object",
        "properties": {WRAPPED: inner},
        "required": [WRAPPED],
        "additionalProperties": False,
    }


class Rewriter:
    """One rewriting: what it met on its way."""

    def __init__(self, schema: Schema, rules: SchemaRules) -> None:
        self._schema = schema
        self._rules = rules
        self._subset = Subset(rules)
        self._references = References(schema.value, "id" if schema.draft == "4" else "$id")
        self._names: dict[int, str] = {}
        self._definitions: dict[str, Node] = {}
        self._open: list[int] = []
        self._made: list[Node] = []
        self._nodes = 0
        self.wrapped = False

    @property
    def dropped(self) -> tuple[str, ...]:
        """The keywords that the sent schema does not say."""
        return tuple(self._subset.dropped)

    def root(self, *, wrapping: bool) -> Node:
        """Return the whole schema as it is sent."""
        node = self._resolved(self._schema.value) if wrapping else self._schema.value
        if wrapping and is_object(node):
            wrapping = False
        inner = self._node(node)
        if self._rules.root_object and inner.get("type") != "object":
            wrapping = True
        self.wrapped = wrapping
        sent = wrapper(inner) if wrapping else inner
        if not self._rules.closed and "additionalProperties" not in self._subset.keywords:
            sent.pop("additionalProperties", None)
        if self._definitions:
            sent["$defs"] = self._definitions
        return sent

    def _resolved(self, node: Node) -> Node:
        """Follow a root that is nothing but a reference: modes that want an object there want none."""
        target = self._references.target(node["$ref"], node) if "$ref" in node else None
        alone = not any(key in CONSTRAINTS | {"type", "properties"} for key in node)
        return target if isinstance(target, dict) and alone and "$ref" not in target else node

    def _node(self, node: Any) -> Node:
        self._nodes += 1
        if self._nodes > MAX_NODES:
            raise Inexpressible("it is too large once its references are followed")
        if not isinstance(node, dict):
            if node is False or self._rules.typed:
                raise Inexpressible("a value may be anything, or nothing")
            return {}
        if node.get("$dynamicRef") or node.get("$recursiveRef"):
            raise Inexpressible("a dynamic reference")
        if isinstance(node.get("$ref"), str):
            return self._reference(node)
        if "allOf" in node and "allOf" not in self._subset.keywords:
            return self._node(self._keep(merged(node, self._target)))
        return self._union(node) if self._branches(node) else self._plain(node)

    def _keep(self, node: Node) -> Node:
        """Hold on to a node that is made here: the others are known by their identity."""
        self._made.append(node)
        return node

    def _target(self, node: Node) -> Any:
        return self._references.target(node["$ref"], node)

    def _reference(self, node: Node) -> Node:
        target = self._target(node)
        beside = any(
            key in CONSTRAINTS | {"type", "properties", "required", "anyOf", "items"} for key in node
        )
        if beside and self._schema.draft in {"2019-09", "2020-12"}:
            return self._node(self._keep(merged(node, self._target)))
        if not isinstance(target, dict):
            return self._node(target if isinstance(target, bool) else False)
        if id(target) in self._open and not (self._rules.recursion and self._rules.refs):
            raise Inexpressible("it refers to itself")
        return (
            {"$ref": f"#/$defs/{self._defined(node, target)}"} if self._rules.refs else self._inlined(target)
        )

    def _inlined(self, target: Node) -> Node:
        self._open.append(id(target))
        inlined = self._node(target)
        self._open.pop()
        return inlined

    def _defined(self, node: Node, target: Node) -> str:
        """Return the name under which ``target`` is sent, defining it when it is met first."""
        if id(target) not in self._names:
            wanted = (
                str(node["$ref"]).rsplit("/", 1)[-1].replace("~1", "/").replace("~0", "~").strip("#%")
                or "root"
            )
            taken = set(self._names.values())
            number = next(n for n in range(len(taken) + 1) if f"{wanted}{n or ''}" not in taken)
            name = self._names[id(target)] = f"{wanted}{number or ''}"
            self._definitions[name] = {}
            self._definitions[name] = self._inlined(target)
        return self._names[id(target)]

    def _branches(self, node: Node) -> list[Any]:
        """Return the alternatives of a node that is nothing else."""
        own = node.keys() & {"type", "properties", "required", "enum", "const", "items"}
        found = [key for key in ("anyOf", "oneOf") if isinstance(node.get(key), list)]
        if own or len(found) != 1:
            return []
        branches: list[Any] = node[found[0]]
        return branches

    def _union(self, node: Node) -> Node:
        if "oneOf" in node and len(node["oneOf"]) > 1:
            self._subset.dropped["oneOf"] = None
        sent = [self._node(branch) for branch in self._branches(node)]
        nulls = [branch for branch in sent if branch.get("type") == "null"]
        others = [branch for branch in sent if branch.get("type") != "null"]
        about = self._subset.annotated(node, {})
        if (
            len(others) == 1
            and len(nulls) <= 1
            and (not nulls or "anyOf" not in self._subset.keywords or self._rules.nullable)
        ):
            alone = nullable(others[0], self._rules) if nulls else others[0]
            return {**alone, **about} if "$ref" not in alone else alone
        if "anyOf" not in self._subset.keywords:
            raise Inexpressible("alternatives")
        return {"anyOf": sent, **about}

    def _plain(self, node: Node) -> Node:
        kinds = self._subset.kinds(node)
        sent: Node = {}
        if kinds:
            sent |= self._subset.typed(kinds)
        sent |= self._subset.values(node)
        lost: Node = {key: node[key] for key in ("anyOf", "oneOf") if key in node}
        if "object" in kinds:
            sent |= self._object(node)
        if "array" in kinds:
            sent |= self._array(node, lost)
        sent = self._subset.annotated(node, sent, lost)
        if "object" in kinds and self._rules.all_required:
            self._require_all(node, sent)
        return sent

    def _object(self, node: Node) -> Node:
        properties: Mapping[str, Any] = node.get("properties", {})
        required = [name for name in properties if name in node.get("required", ())]
        missing = [name for name in node.get("required", ()) if name not in properties]
        others = node.get("additionalProperties", True)
        if self._rules.closed:
            free = (
                isinstance(others, dict)
                or "patternProperties" in node
                or (not properties and others is not False)
            )
            if free or missing:
                raise Inexpressible("an object with keys of any name")
        if self._rules.some_required and not required:
            raise Inexpressible("an object without a required property")
        sent: Node = {"properties": {name: self._node(each) for name, each in properties.items()}}
        if not properties:
            sent = {} if "properties" not in node else sent
        if required or missing or "required" in node:
            sent["required"] = [*required, *missing]
        if self._rules.closed:
            sent["additionalProperties"] = False
        elif "additionalProperties" in node and "additionalProperties" in self._subset.keywords:
            sent["additionalProperties"] = others if isinstance(others, bool) else self._node(others)
        return sent

    def _require_all(self, node: Node, sent: Node) -> None:
        """Make every property required; one that may be absent may be null instead."""
        properties = sent.get("properties", {})
        optional = [name for name in properties if name not in sent.get("required", ())]
        filled = []
        for name in optional:
            if not takes_null(node["properties"][name], self._target):
                properties[name] = nullable(properties[name], self._rules)
                filled.append(name)
        if properties:
            sent["required"] = list(properties)
        if filled:
            sent[MARK] = frozenset(filled)

    def _array(self, node: Node, lost: Node) -> Node:
        """Return the items; a tuple becomes items of any of its kinds where it cannot be said."""
        first = node.get("prefixItems") or (node["items"] if isinstance(node.get("items"), list) else None)
        rest = node.get("items") if not isinstance(node.get("items"), list) else node.get("additionalItems")
        if first:
            if "prefixItems" in self._subset.keywords:
                sent: Node = {"prefixItems": [self._node(each) for each in first]}
                return {**sent, "items": self._node(rest)} if isinstance(rest, dict) else sent
            lost["prefixItems"] = first
            kinds = [*first, *([rest] if isinstance(rest, dict) else [])]
            sent_kinds = [self._node(each) for each in kinds]
            alike = all(each == sent_kinds[0] for each in sent_kinds)
            return {"items": sent_kinds[0] if alike else self._any_of(sent_kinds)}
        if isinstance(rest, dict):
            return {"items": self._node(rest)}
        if self._rules.typed:
            raise Inexpressible("an array of anything")
        return {}

    def _any_of(self, branches: list[Node]) -> Node:
        if "anyOf" not in self._subset.keywords:
            raise Inexpressible("alternatives")
        return {"anyOf": branches}
