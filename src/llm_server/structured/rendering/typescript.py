"""Write types as TypeScript declarations."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from llm_server.structured.rendering.types import (
    Alias,
    Anything,
    Choice,
    Field,
    Items,
    Module,
    Named,
    Nothing,
    Record,
    Row,
    Scalar,
    Table,
    Type,
    Values,
)

_SCALARS = {"string": "string", "integer": "number", "number": "number", "boolean": "boolean", "null": "null"}


def typescript_source(module: Module) -> str:
    """Return TypeScript source that declares ``module``; the type is called ``module.root``."""
    notes = [f"// Not expressed: {each.encode('unicode_escape').decode()}." for each in module.unexpressed]
    head = "\n".join([f"// {module.root}: made from a JSON Schema.", *notes])
    return "\n\n".join([head, *("\n".join(_declaration(each)) for each in module.declarations)]) + "\n"


def _declaration(declared: Record | Alias) -> Iterator[str]:
    yield from _comment(declared.description, {}, "")
    if isinstance(declared, Alias):
        yield f"export type {declared.name} = {source(declared.type)};"
        return
    yield f"export interface {declared.name} {{"
    for field in declared.fields:
        yield from _comment(field.description, _limits(field), "  ")
        yield f"  {_key(field.name)}{'' if field.required else '?'}: {source(field.type)};"
    if declared.others is not None:
        yield "  [name: string]: unknown;"
    yield "}"


def source(shown: Type) -> str:
    """Return the type expression for ``shown``."""
    match shown:
        case Anything():
            return "unknown"
        case Nothing():
            return "never"
        case Values(values):
            return " | ".join(map(_literal, values))
        case Named(name):
            return name
        case Row(items):
            return f"[{', '.join(map(source, items))}]"
        case Choice(members):
            return " | ".join(map(source, members))
        case Scalar(kind):
            return _SCALARS[kind]
        case Items(item):
            return f"Array<{source(item)}>"
        case Table(value):
            return f"{{ [name: string]: {source(value)} }}"


def _limits(field: Field) -> Mapping[str, Any]:
    match field.type:
        case Scalar("integer", limits):
            return {"integer": None, **limits}
        case Scalar(_, limits) | Items(_, limits) | Table(_, limits):
            return limits
        case _:
            return {}


def _comment(description: str, limits: Mapping[str, Any], indent: str) -> Iterator[str]:
    """Yield a documentation comment: what the types cannot say stands in tags."""
    tags = [f"@{key}" + ("" if value is None else f" {_literal(value)}") for key, value in limits.items()]
    lines = [*re.split(r"[\r\n\u2028\u2029]+", description.strip()), *tags] if description else tags
    safe = [line.replace("*/", "*\\/") for line in lines]
    if len(safe) == 1:
        yield f"{indent}/** {safe[0]} */"
    elif safe:
        yield f"{indent}/**"
        yield from (f"{indent} * {line}" for line in safe)
        yield f"{indent} */"


def _key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z_$][A-Za-z0-9_$]*", name) else _literal(name)


def _literal(value: Any) -> str:
    """Return a JSON value as JavaScript has it: line separators may not stand in older strings."""
    text = msgspec.json.encode(value).decode()
    return text.replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
