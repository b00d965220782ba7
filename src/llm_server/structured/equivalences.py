"""Rules that say a part of a schema in other words: the values that satisfy it stay the same.

Each rule changes one schema object in place, whose inner schemas were simplified before. A rule that does not
apply leaves it alone: the grammar compiler then refuses the keyword, or drops it and says so.
"""

from collections.abc import Callable
from typing import Any

from llm_server.structured.negation import negated

Node = dict[str, Any]

COMPILED_FORMATS = frozenset({
    "date", "date-time", "duration", "email", "hostname", "ipv4", "ipv6", "time", "uuid",
})  # fmt: skip
"""Formats that every llguidance since 1.0 compiles."""
ASSERTED_FORMATS = COMPILED_FORMATS | {
    "idn-email", "idn-hostname", "iri", "iri-reference", "json-pointer", "regex", "relative-json-pointer",
    "uri", "uri-reference", "uri-template",
}  # fmt: skip
"""Formats that validation asserts; any other is an annotation (JSON Schema 2020-12 validation, section 7)."""
_PATH = r"([A-Za-z0-9._~!$&'()*+,;=:@/-]|%[0-9A-Fa-f]{2})"
_FIRST = _PATH.replace("/-]", "-]")
_TAIL = rf"(\?({_PATH}|\?)*)?(#({_PATH}|\?)*)?"
_AUTHORITY = (
    r"(([A-Za-z0-9._~!$&'()*+,;=:-]|%[0-9A-Fa-f]{2})*@)?"
    r"(\[([0-9a-fA-F]{1,4}(:[0-9a-fA-F]{1,4}){7}|::1)\]|"
    r"([A-Za-z0-9._~!$&'()*+,;=-]|%[0-9A-Fa-f]{2})*)(:[0-9]*)?"
)
_FORMAT_PATTERNS = {
    "json-pointer": r"^(/([^~/]|~[01])*)*$",
    "relative-json-pointer": r"^(0|[1-9][0-9]*)(#|(/([^~/]|~[01])*)*)$",
    "uri": rf"^[A-Za-z][A-Za-z0-9+.-]*:(//{_AUTHORITY}(/{_PATH}*)?|/?({_FIRST}{_PATH}*)?){_TAIL}$",
}
"""Formats that a pattern says; RFC 6901, draft-bhutton-relative-json-pointer-00, RFC 3986 appendix A."""
MAX_EXCLUSIVE = 4
"""Most alternatives of ``oneOf`` that are told apart: each is said with the opposites of all others."""
MAX_CONDITIONS = 3
"""Most conditions of one schema that are spelled out: each doubles the alternatives."""
_IF = frozenset({"if", "then", "else"})
MAX_DEPENDENCIES = 3
"""Most property dependencies of one schema that are spelled out: each doubles the alternatives."""


def _tuples(node: Node) -> None:
    """``items`` as a list, of drafts until 2019-09, is ``prefixItems``, and ``additionalItems`` the rest."""
    rest = node.pop("additionalItems", None)
    if isinstance(node.get("items"), list):
        node["prefixItems"] = node.pop("items")
        if rest is not None:
            node["items"] = rest


def _exclusive_bounds(node: Node) -> None:
    """``exclusiveMinimum: true``, of draft 4, makes ``minimum`` exclusive."""
    for bound, exclusive in (("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")):
        if isinstance(node.get(exclusive), bool) and node.pop(exclusive) and bound in node:
            node[exclusive] = node.pop(bound)


def _formats(node: Node) -> None:
    """A format that nobody asserts says nothing; some others are patterns."""
    name = node.get("format")
    if name is not None and name not in ASSERTED_FORMATS:
        del node["format"]
    elif name in _FORMAT_PATTERNS:
        del node["format"]
        _also(node, {"pattern": _FORMAT_PATTERNS[name]})


def _vacuous(node: Node) -> None:
    """Keywords that are always satisfied."""
    if node.get("uniqueItems") is False or ("uniqueItems" in node and node.get("maxItems", 2) <= 1):
        del node["uniqueItems"]
    if node.get("minProperties", 1) <= len(set(node.get("required", ()))):
        node.pop("minProperties", None)
    if "if" not in node or not node.keys() & {"then", "else"}:
        for keyword in ("if", "then", "else"):
            node.pop(keyword, None)
    if "contains" not in node or node.get("minContains") == 0:
        node.pop("minContains", None)


def _property_names(node: Node) -> None:
    """Names that match a pattern, where no others are declared, are the keys of ``patternProperties``."""
    names = node.get("propertyNames")
    if not isinstance(names, dict) or node.keys() & {"properties", "patternProperties"}:
        return
    if names.keys() | {"type"} == {"pattern", "type"} and names.get("type", "string") == "string":
        del node["propertyNames"]
        node["patternProperties"] = {names["pattern"]: node.pop("additionalProperties", True)}
        node["additionalProperties"] = False


def _dependencies(node: Node) -> None:
    """A property that asks for more is absent, or what it asks for holds."""
    asked = [
        (name, {"required": wanted} if isinstance(wanted, list) else wanted)
        for keyword in ("dependencies", "dependentRequired", "dependentSchemas")
        for name, wanted in node.get(keyword, {}).items()
    ]
    if len(asked) > MAX_DEPENDENCIES:
        return
    for keyword in ("dependencies", "dependentRequired", "dependentSchemas"):
        node.pop(keyword, None)
    for name, wanted in asked:
        _also(node, {"anyOf": [{"properties": {name: False}}, wanted]})


def _not(node: Node) -> None:
    """What is forbidden, said as what is allowed."""
    if "not" not in node:
        return
    opposite = negated(node["not"], node.get("properties", {}), node)
    if opposite is not None:
        del node["not"]
        _also(node, opposite)


def _exclusive(node: Node) -> None:
    """Alternatives of which only one may hold, each with the opposites of the others: then any one may."""
    options = node.get("oneOf", ())
    if not 1 < len(options) <= MAX_EXCLUSIVE:
        return
    opposites = [negated(each, node.get("properties", {})) for each in options]
    if all(each is not None for each in opposites):
        del node["oneOf"]
        _also(node, {"anyOf": [_alone(at, options, opposites) for at in range(len(options))]})


def _alone(at: int, options: list[Any], opposites: list[Any]) -> Node:
    return {"allOf": [options[at], *opposites[:at], *opposites[at + 1 :]]}


def _conditions(node: Node) -> None:
    """Either the condition and its consequence hold, or its opposite and the other consequence."""
    own: Node = {key: node.pop(key) for key in ("if", "then", "else") if key in node}
    parts = [own] if own else []
    parts += [
        each for each in node.get("allOf", ()) if isinstance(each, dict) and each.keys() <= _IF and each
    ]
    said = [_either(each, node.get("properties", {})) for each in parts]
    if not parts or len(parts) > MAX_CONDITIONS or any(each is None for each in said):
        node |= own
        return
    node["allOf"] = [each for each in node.get("allOf", ()) if each not in parts] + said


def _either(condition: Node, siblings: Node) -> Node | None:
    opposite = negated(condition.get("if", True), siblings)
    if opposite is None:
        return None
    met = {"allOf": [condition["if"], condition.get("then", True)]}
    return {"anyOf": [met, {"allOf": [opposite, condition.get("else", True)]}]}


def _also(node: Node, schema: Node) -> None:
    node["allOf"] = [*node.get("allOf", ()), schema]


_RULES: tuple[tuple[frozenset[str], Callable[[Node], None]], ...] = (
    (frozenset({"items", "additionalItems"}), _tuples),
    (frozenset({"exclusiveMinimum", "exclusiveMaximum"}), _exclusive_bounds),
    (frozenset({"format"}), _formats),
    (_IF | {"uniqueItems", "minProperties", "minContains"}, _vacuous),
    (frozenset({"propertyNames"}), _property_names),
    (frozenset({"dependencies", "dependentRequired", "dependentSchemas"}), _dependencies),
    (frozenset({"not"}), _not),
    (frozenset({"oneOf"}), _exclusive),
    (_IF | {"allOf"}, _conditions),
)
"""Each with the keywords of which it needs one. In order: later rules see what earlier ones made."""


def ruled(node: Node) -> None:
    """Apply every rule to ``node``."""
    for keywords, rule in _RULES:
        if not keywords.isdisjoint(node):
            rule(node)
