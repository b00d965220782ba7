"""The part of JSON Schema that a mode takes: one schema's own words, without what stands inside it."""

from typing import Any

from llm_server.contract import SchemaRules
from llm_server.structured.hints import hinted
from llm_server.structured.limits import Inexpressible

Node = dict[str, Any]

_LOGIC = frozenset({"allOf", "not", "if", "then", "else", "dependentSchemas", "dependencies", "contains"})
_STRUCTURE = frozenset({"type", "properties", "required", "items", "anyOf", "$ref", "$defs"})
_SCALARS = frozenset({
    "additionalProperties", "const", "dependentRequired", "enum", "exclusiveMaximum", "exclusiveMinimum",
    "format", "maxContains", "maxItems", "maxLength", "maxProperties", "maximum", "minContains", "minItems",
    "minLength", "minProperties", "minimum", "multipleOf", "pattern", "uniqueItems",
})  # fmt: skip
"""Keywords that have no schemas in them, or none that matter."""
_SCHEMAS = frozenset({
    "additionalItems", "oneOf", "patternProperties", "prefixItems", "propertyNames", "unevaluatedItems",
    "unevaluatedProperties",
})  # fmt: skip
CONSTRAINTS = _SCALARS | _SCHEMAS | _LOGIC
"""Keywords that a value can break; any other is a note, whose loss changes nothing."""
_VALUES = {"const", "enum"}
_NOTES = frozenset({"title", "description"})
_HANDLED = _STRUCTURE | {
    "additionalProperties",
    "allOf",
    "oneOf",
    "const",
    "enum",
    "prefixItems",
    "definitions",
}
_IMPLIED: tuple[tuple[str, frozenset[str]], ...] = (
    ("object", frozenset({"properties", "required", "additionalProperties", "patternProperties"})),
    ("array", frozenset({"items", "prefixItems", "minItems", "maxItems", "uniqueItems", "contains"})),
    ("string", frozenset({"pattern", "format", "minLength", "maxLength"})),
    ("number", frozenset({"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"})),
)
"""The type that a schema without one must mean, by the keywords that it has."""
_TYPES: dict[type, str] = {
    str: "string",
    bool: "boolean",
    int: "integer",
    float: "number",
    type(None): "null",
}
_LOOKAROUND = ("(?=", "(?!", "(?<=", "(?<!")


class Subset:
    """What ``rules`` take of a schema.

    Attributes:
        keywords: the keywords that are taken.
        dropped: the keywords that were not, so far; a constraint that is dropped is told in a description.
    """

    def __init__(self, rules: SchemaRules) -> None:
        self._rules = rules
        self.keywords = rules.keywords if rules.keywords is not None else _STRUCTURE | _SCALARS | _NOTES
        self.dropped: dict[str, None] = {}

    def kinds(self, node: Node) -> list[str]:
        """Return the types of ``node``, said or implied; none if it may be anything."""
        said = node.get("type")
        if said is not None:
            return [said] if isinstance(said, str) else list(said)
        values = node["enum"] if "enum" in node else [node["const"]] if "const" in node else ()
        if values and all(type(value) in _TYPES for value in values):
            return list(dict.fromkeys(_TYPES[type(value)] for value in values))
        implied = next((kind for kind, words in _IMPLIED if words & node.keys()), None)
        if implied is None and self._rules.typed:
            raise Inexpressible("a value may be of any type")
        return [implied] if implied else []

    def typed(self, kinds: list[str]) -> Node:
        """Return the words for these types."""
        null, others = "null" in kinds, [kind for kind in kinds if kind != "null"]
        if null and others and self._rules.nullable:
            if len(others) > 1:
                raise Inexpressible("several types")
            return {"type": others[0], "nullable": True}
        return {"type": kinds[0] if len(kinds) == 1 else kinds}

    def values(self, node: Node) -> Node:
        """Return ``const`` and ``enum`` in the form that is taken."""
        if "const" in node and "const" in self.keywords:
            return {"const": node["const"]}
        values = [node["const"]] if "const" in node else node.get("enum")
        if values is None:
            return {}
        strings = all(isinstance(value, str) for value in values)
        return (
            {"enum": values} if "enum" in self.keywords and (strings or not self._rules.string_enums) else {}
        )

    def annotated(self, node: Node, sent: Node, lost: Node | None = None) -> Node:
        """Return ``sent`` with what else is taken of ``node``, and a hint of what is not."""
        lost = dict(lost or {})
        for key, value in node.items():
            if key in _HANDLED:
                if (key in {"const", "enum"} and not sent.keys() & {"const", "enum"}) or (
                    key == "additionalProperties" and key not in sent and value is not True
                ):
                    lost[key] = value
            elif self._takes(key, value):
                sent[key] = value
            elif key in CONSTRAINTS:
                lost[key] = value
        self.dropped |= dict.fromkeys(lost)
        told = lost | ({"default": node["default"]} if "default" in node and "default" not in sent else {})
        if told and "description" in self.keywords:
            sent["description"] = hinted(str(sent.get("description", "")), told)
        return sent

    def _takes(self, key: str, value: Any) -> bool:
        if key not in self.keywords:
            return False
        if key == "format":
            return self._rules.formats is None or value in self._rules.formats
        if key == "pattern":
            return not any(mark in str(value) for mark in _LOOKAROUND)
        return True
