"""A schema whose objects have the properties that it names, and no others.

JSON Schema leaves an object open unless it says otherwise, and hardly anybody means it: a small model held
to nothing but such a schema goes on inventing properties until its tokens are spent. What is generated is
therefore held to the closed form, as most providers hold it. Answers are judged by the schema as written.
"""

from typing import Any

import msgspec
from msgspec import Raw

from llm_server.contract import OutputFormat
from llm_server.structured.keywords import mapped, subschemas
from llm_server.structured.schema import load
from llm_server.structured.simplifying import simplified

Node = dict[str, Any]

_ELSEWHERE = frozenset({
    "allOf", "dependentRequired", "dependentSchemas", "else", "if", "not", "oneOf", "then",
    "unevaluatedProperties",
})  # fmt: skip
"""Keywords by which another schema may ask for a property that this one does not name, or forbid one."""
_MEANT = frozenset({"additionalProperties", "const", "enum", "minProperties", "patternProperties"})
"""Keywords of an object whose properties are not those that it names."""


def closed(output: OutputFormat) -> OutputFormat:
    """Return ``output`` with every object closed that names its properties and says nothing of others.

    Whatever satisfies the closed schema satisfies that of ``output`` too. One in which schemas are combined
    so that this is not plain is returned as it is. Takes the time of a small compilation: not for an event
    loop.

    Raises:
        ServerError: ``INVALID_REQUEST``, for a schema that is none.
    """
    if output.kind != "json_schema" or not bytes(output.schema):
        return output
    node = simplified(load(bytes(output.schema)))
    if not _plain(node):
        return output
    shut = _closed(node)
    return output if shut == node else msgspec.structs.replace(output, schema=Raw(msgspec.json.encode(shut)))


def _plain(node: Any) -> bool:
    """Tell whether every object in ``node`` is described in one place."""
    if not isinstance(node, dict):
        return True
    alone = len(node.keys() - {"$defs"}) == 1 or not node.keys() & {"$ref", "anyOf"}
    return alone and _ELSEWHERE.isdisjoint(node) and all(_plain(each) for _, each in subschemas(node))


def _closed(node: Any) -> Any:
    if not isinstance(node, dict):
        return node
    copy = mapped(node, _closed)
    named = node.get("properties", {})
    if named and _MEANT.isdisjoint(node) and named.keys() >= set(node.get("required", ())):
        copy["additionalProperties"] = False
    return copy
