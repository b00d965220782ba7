"""The JSON Schema of the configuration file, for editors.

Written by ``python -m llm_server.settings.schema > config.schema.json``.
"""

import json
import sys
from typing import Any

from pydantic.json_schema import GenerateJsonSchema

from llm_server.settings.model import Settings

ID = "https://json-schema.org/draft/2020-12/schema"
_VARIABLE = {
    "type": "string",
    "pattern": r"\$\{",
    "description": "A variable: `${NAME}` or `${NAME:-default}`.",
}
_CHECKED = {"enum", "const", "pattern", "format", "minLength", "maxLength"}
"""What a text may have to be; ``${NAME}`` need not be it."""


class _Untitled(GenerateJsonSchema):
    """Leaves out the titles that Pydantic makes of the names."""

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ARG002 - Pydantic's signature
        return False


def schema() -> dict[str, Any]:
    """Return the schema. Variables are allowed wherever a value is more than free text."""
    made = _with_variables(Settings.model_json_schema(schema_generator=_Untitled))
    return {"$schema": ID, **made}


def text() -> str:
    """Return the schema as it is committed."""
    return json.dumps(schema(), indent=2) + "\n"


def _with_variables(node: Any) -> Any:
    if isinstance(node, list):
        return [_with_variables(each) for each in node]
    if not isinstance(node, dict):
        return node
    if not _is_leaf(node):
        return {name: _with_variables(each) for name, each in node.items()}
    about = {name: node[name] for name in ("title", "description", "default", "examples") if name in node}
    rule = {name: each for name, each in node.items() if name not in about}
    return {**about, "anyOf": [rule, _VARIABLE]}


def _is_leaf(node: dict[str, Any]) -> bool:
    kind = node.get("type")
    return kind in ("integer", "number", "boolean") or (kind == "string" and not _CHECKED.isdisjoint(node))


if __name__ == "__main__":
    sys.stdout.write(text())
