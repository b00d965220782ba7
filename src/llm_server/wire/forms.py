"""What both dialects share about the form of an answer."""

from collections.abc import Mapping
from typing import Literal

from msgspec import Raw

from llm_server.contract import OutputFormat
from llm_server.wire.reading import invalid, object_or_empty

STREAM_HEADER = "x-llm-server-stream-structured"
"""How to stream an answer that must have a form, for clients that cannot add a field to the body."""

StreamStructured = Literal["partial", "validated"]
SchemaVersion = int | Literal["latest"] | None


def stream_structured(own: StreamStructured | None, headers: Mapping[str, str]) -> StreamStructured | None:
    """Return how to stream: as the body's field says, else as the header does."""
    wanted = own or headers.get(STREAM_HEADER)
    if wanted is None:
        return None
    match wanted:
        case "partial":
            return "partial"
        case "validated":
            return "validated"
    raise invalid(STREAM_HEADER, 'expected "partial" or "validated".')


def registered(schema_id: str, version: SchemaVersion, schema: Raw, path: str) -> OutputFormat:
    """Return the form that is a registered schema; refuse a schema beside it, which may be another."""
    if object_or_empty(schema) != Raw(b""):
        raise invalid(path, "give either 'schema' or 'schema_id'.")
    number = None if version == "latest" else version
    return OutputFormat(kind="json_schema", schema_id=schema_id, schema_version=number)
