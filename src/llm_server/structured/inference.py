"""Propose a schema: from examples of the answers wanted, or from a description in plain words."""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from typing import Any

import msgspec
from msgspec import Raw

from llm_server.contract import (
    ChatCall,
    Completion,
    Context,
    ErrorKind,
    Handler,
    Message,
    OutputFormat,
    Role,
    ServerError,
    Text,
)
from llm_server.structured.drafts import METASCHEMAS
from llm_server.structured.schema import load

MAX_EXAMPLES = 1000
DEPTH = 3
"""How many objects a described schema nests: any provider takes the outline, small models finish it."""

_ASK = (
    "List the fields of the JSON object that this description asks for. Use a short snake_case name for "
    "each field, say in one sentence what it holds, and mark it required unless it may be missing. Use kind "
    "'choice' with its values where only a few texts are possible, 'list' where there are several values, "
    "and 'object' for nested ones.\n\n"
)


async def from_examples(examples: Sequence[Any], *, closed: bool = True) -> bytes:
    """Return a schema, as JSON, that every example follows.

    A property is required when every example has it. ``closed``: whether other properties are refused.

    Raises:
        ServerError: ``INVALID_REQUEST`` for no or too many examples, or a schema that would pass the limits.
    """
    if not 0 < len(examples) <= MAX_EXAMPLES:
        message = f"Give between 1 and {MAX_EXAMPLES} examples."
        raise ServerError(ErrorKind.INVALID_REQUEST, message, param="examples")
    return await asyncio.to_thread(_inferred, examples, closed)


def _inferred(examples: Sequence[Any], closed: bool) -> bytes:
    from genson import SchemaBuilder

    builder = SchemaBuilder(schema_uri=METASCHEMAS["2020-12"])
    for example in examples:
        builder.add_object(example)
    schema = builder.to_schema()
    return _checked(_closed(schema) if closed else schema)


async def from_description(handler: Handler, model: str, description: str, ctx: Context) -> bytes:
    """Return the schema that ``model`` makes of ``description``: it fills in an outline, a structured answer.

    Raises:
        ServerError: what ``handler`` raises; ``OUTPUT_INVALID`` when the outline makes no schema.
    """
    call = ChatCall(
        model=model,
        messages=(Message(Role.USER, (Text(_ASK + description),)),),
        output=OutputFormat(kind="json_schema", schema=Raw(OUTLINE), name="outline", strict=True),
    )
    async with aclosing(handler(call, ctx)) as answers:
        text = "".join([each.choices[0].text async for each in answers if isinstance(each, Completion)])
    try:
        return _checked(schema_of(msgspec.json.decode(text)))
    except (ServerError, msgspec.DecodeError, LookupError, TypeError) as error:
        message = "The model's outline makes no schema; describe it otherwise, or ask a larger model."
        raise ServerError(ErrorKind.OUTPUT_INVALID, message, detail=str(error)).because((), text) from error


def _checked(schema: Mapping[str, Any]) -> bytes:
    return msgspec.json.encode(load(schema).value)


def schema_of(outline: Mapping[str, Any]) -> dict[str, Any]:
    """Return the schema that an outline (see :data:`OUTLINE`) stands for."""
    return {"$schema": METASCHEMAS["2020-12"], "title": outline["title"], **_object(outline["fields"])}


def _object(fields: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {field["name"]: _field(field) for field in fields},
        "required": list(dict.fromkeys(field["name"] for field in fields if field["required"])),
        "additionalProperties": False,
    }


def _field(field: Mapping[str, Any]) -> dict[str, Any]:
    about = {"description": field["description"]}
    match field["kind"]:
        case "choice" if field["values"]:
            made: dict[str, Any] = {"type": "string", "enum": list(dict.fromkeys(field["values"]))}
        case "choice":
            made = {"type": "string"}
        case "list":
            item = field["item"]
            made = {
                "type": "array",
                "items": _object(field["fields"]) if item == "object" else {"type": item},
            }
        case "object":
            made = _object(field["fields"])
        case kind:
            made = {"type": kind}
    return {**made, **about}


def _outline(depth: int) -> dict[str, Any]:
    """Return the schema of a list of fields: such as every provider's own schema mode takes."""
    scalars = ["string", "integer", "number", "boolean"]
    properties: dict[str, Any] = {
        "name": {"type": "string"},
        "description": {"type": "string"},
        "required": {"type": "boolean"},
        "kind": {"type": "string", "enum": [*scalars, "choice", "list", *(["object"] if depth else [])]},
        "values": {"type": "array", "items": {"type": "string"}, "description": "Only of a choice."},
        "item": {"type": "string", "enum": [*scalars, *(["object"] if depth else [])]},
    }
    if depth:
        properties["fields"] = _outline(depth - 1)
    item = {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }
    return {"type": "array", "items": item}


def _closed(schema: Any) -> Any:
    """Return what genson made with every object closed."""
    if isinstance(schema, list):
        return [_closed(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {
        name: {key: _closed(each) for key, each in value.items()} if name == "properties" else _closed(value)
        for name, value in schema.items()
    }
    return closed | {"additionalProperties": False} if _is_object(schema) else closed


def _is_object(schema: Mapping[str, Any]) -> bool:
    said = schema.get("type")
    return said == "object" or (isinstance(said, list) and "object" in said)


OUTLINE = msgspec.json.encode(
    {
        "type": "object",
        "properties": {"title": {"type": "string"}, "fields": _outline(DEPTH - 1)},
        "required": ["title", "fields"],
        "additionalProperties": False,
    }
)
"""The form of an outline: a title and a list of fields, which may have fields of their own."""
