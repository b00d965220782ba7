"""Make values the types that they should have, where nothing is lost by it."""

from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from llm_server.structured.places import NotConvertibleError, Path
from llm_server.structured.references import References

Kind = Literal["string", "integer", "number", "boolean", "null", "array"]


def towards(value: Any, schema: Any, references: References, path: Path = ()) -> Any:
    """Return ``value`` coerced to the types that ``schema`` says; where it says none or several, it stays."""
    for _ in range(64):  # a chain of references is shorter: the schema was loaded
        if isinstance(schema, dict) and "$ref" in schema:
            schema = references.target(schema["$ref"], schema)
    if not isinstance(schema, dict):
        return value
    kind = schema.get("type")
    if isinstance(kind, str) and kind != "object":
        value = coerced(kind, value, path)
    if isinstance(value, dict):
        inside = schema.get("properties", {})
        return {
            name: towards(each, inside.get(name, True), references, (*path, name))
            for name, each in value.items()
        }
    if isinstance(value, list):
        items = schema.get("items", True)
        return [towards(each, items, references, (*path, at)) for at, each in enumerate(value)]
    return value


def coerced(kind: str, value: Any, path: Path) -> Any:
    """Return ``value`` as a ``kind``; raises :class:`NotConvertibleError` if that would lose something."""
    if _is(value, kind):
        return value
    if kind == "array":
        return [value]
    if kind == "string" and not isinstance(value, dict | list):
        return msgspec.json.encode(value).decode()
    if isinstance(value, str):
        value = _spelled(value)
    if kind == "integer" and isinstance(value, float) and value.is_integer():
        value = int(value)
    if not _is(value, kind):
        raise NotConvertibleError(path, f"something of the type {kind}", value)
    return value


def _spelled(text: str) -> Any:
    """Return the scalar that ``text`` spells as JSON does, in any case; else the text."""
    try:
        found = msgspec.json.decode(text.strip().lower())
    except msgspec.DecodeError:
        return text
    return text if isinstance(found, dict | list | str) else found


def _is(value: Any, kind: str) -> bool:
    if isinstance(value, bool):
        return kind == "boolean"
    return isinstance(value, _PYTHON[kind])


_PYTHON: Mapping[str, Any] = {
    "string": str,
    "integer": int,
    "number": int | float,
    "boolean": bool,
    "null": type(None),
    "array": list,
}
