"""Where schemas stand inside schemas: the one walk that every reader of a schema uses.

Source: JSON Schema core and validation, drafts 4 to 2020-12 (https://json-schema.org/specification-links).
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeGuard

Step = str | int
Path = tuple[Step, ...]

SINGLE = frozenset({
    "additionalItems", "additionalProperties", "contains", "contentSchema", "else", "if", "items", "not",
    "propertyNames", "then", "unevaluatedItems", "unevaluatedProperties",
})  # fmt: skip
"""Keywords whose value is a schema."""
LISTED = frozenset({"allOf", "anyOf", "items", "oneOf", "prefixItems"})
"""Keywords whose value is a list of schemas (``items`` until draft 2019-09)."""
NAMED = frozenset({
    "$defs", "definitions", "dependencies", "dependentSchemas", "patternProperties", "properties",
})  # fmt: skip
"""Keywords whose value is an object of schemas."""
IN_PLACE = frozenset({
    "allOf", "anyOf", "dependencies", "dependentSchemas", "else", "if", "not", "oneOf", "then",
})  # fmt: skip
"""Keywords whose schemas are applied to the same value as the schema that they stand in."""
REFERENCES = ("$ref", "$dynamicRef", "$recursiveRef")
STRUCTURE = SINGLE | LISTED | NAMED | frozenset(REFERENCES)
"""Keywords that hold or name other schemas: a schema without them is a leaf."""
CHECKS = frozenset({
    "const", "dependentRequired", "enum", "exclusiveMaximum", "exclusiveMinimum", "format", "maxContains",
    "maximum", "maxItems", "maxLength", "maxProperties", "minContains", "minimum", "minItems", "minLength",
    "minProperties", "multipleOf", "pattern", "required", "type", "uniqueItems",
})  # fmt: skip
"""Keywords that check a value without the help of other schemas."""


def is_schema(value: object) -> TypeGuard[dict[str, Any]]:
    """Tell whether ``value`` is a schema object; the booleans are schemas too, without anything inside."""
    return isinstance(value, dict)


def subschemas(schema: Mapping[str, Any]) -> Iterator[tuple[Path, Any]]:
    """Yield each direct subschema (an object or a boolean) with the steps that lead to it."""
    for keyword, value in schema.items():
        if isinstance(value, dict):
            if keyword in SINGLE:
                yield (keyword,), value
            elif keyword in NAMED:
                yield from (((keyword, name), each) for name, each in value.items() if _schema(each))
        elif isinstance(value, list) and keyword in LISTED:
            yield from (((keyword, at), each) for at, each in enumerate(value) if _schema(each))
        elif isinstance(value, bool) and keyword in SINGLE:
            yield (keyword,), value


def mapped(schema: Mapping[str, Any], change: Callable[[Any], Any]) -> dict[str, Any]:
    """Return a copy of ``schema`` in which ``change`` was applied to each direct subschema; order is kept."""
    copy = dict(schema)
    for keyword, value in schema.items():
        if isinstance(value, dict) and keyword in NAMED:
            copy[keyword] = {name: change(each) if _schema(each) else each for name, each in value.items()}
        elif isinstance(value, list) and keyword in LISTED:
            copy[keyword] = [change(each) if _schema(each) else each for each in value]
        elif keyword in SINGLE and _schema(value):
            copy[keyword] = change(value)
    return copy


def _schema(value: object) -> bool:
    return isinstance(value, dict | bool)
