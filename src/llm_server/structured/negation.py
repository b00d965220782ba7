"""The opposite of a schema, where a schema without ``not`` can say it."""

from typing import Any

from llm_server.structured.keywords import is_schema

Node = dict[str, Any]

TYPES = ("null", "boolean", "integer", "number", "string", "array", "object")
_SAYABLE = frozenset({"allOf", "anyOf", "const", "enum", "not", "properties", "required", "type"})


def negated(schema: Any, siblings: Node, own: Any = None) -> Any:
    """Return a schema of all values that ``schema`` refuses, or ``None`` when that cannot be said.

    ``siblings`` are the properties declared around ``schema`` and ``own`` what is declared for the value
    itself: the opposite of an ``enum`` is the rest of a declared one.
    """
    if isinstance(schema, bool) or not schema:
        return schema is False
    if not is_schema(schema) or schema.keys() - _SAYABLE:
        return None
    opposites = [each for keyword in schema for each in _opposites(schema, keyword, siblings, own)]
    if any(each is None for each in opposites):
        return None
    if not opposites:
        return False  # keywords that nothing can break, such as an empty list of required properties
    return opposites[0] if len(opposites) == 1 else {"anyOf": opposites}


def _opposites(schema: Node, keyword: str, siblings: Node, own: Any) -> list[Any]:
    """Return the ways to break one keyword, ``None`` for one that cannot be said."""
    value = schema[keyword]
    if keyword == "required":
        return [{"type": "object", "properties": {name: False}} for name in value]
    if keyword == "properties":
        return [_broken(name, negated(each, {}, siblings.get(name))) for name, each in value.items()]
    if keyword == "allOf":
        return [negated(each, siblings, own) for each in value]
    if keyword == "anyOf":
        all_of = [negated(each, siblings, own) for each in value]
        return [None if any(each is None for each in all_of) else {"allOf": all_of}]
    if keyword == "not":
        return [value]
    if keyword == "type":
        return [_other_types(value)]
    return [_other_values(value if keyword == "enum" else [value], own)]


def _broken(name: str, opposite: Any) -> Node | None:
    if opposite is None:
        return None
    return {"type": "object", "required": [name], "properties": {name: opposite}}


def _other_types(value: str | list[str]) -> Node | None:
    named = {value} if isinstance(value, str) else set(value)
    if "integer" in named and "number" not in named:
        return None  # numbers that are no integers have no name
    return {"type": [each for each in TYPES if each not in named | {"integer"}]}


def _other_values(values: list[Any], own: Any) -> Any:
    declared = own.get("enum") if is_schema(own) else None
    if not isinstance(declared, list):
        return None
    rest = [each for each in declared if each not in values]
    return {"enum": rest} if rest else False
