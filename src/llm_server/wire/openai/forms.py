"""The form that a caller demands of an answer, in whichever of the words for it."""

from collections.abc import Iterator

import msgspec
from msgspec import Raw

from llm_server.contract import OutputFormat
from llm_server.wire.forms import registered
from llm_server.wire.openai import types as wire
from llm_server.wire.reading import invalid, object_or_empty

_FORMAT = "response_format"
_NOTHING = (Raw(b""), Raw(b"null"))


def output_format(request: wire.ChatRequest) -> OutputFormat | None:
    """Return the one form that ``request`` demands, if any.

    Raises:
        ServerError: ``INVALID_REQUEST`` for what is no schema, and for more than one form.
    """
    if (
        request.response_format is None
        and request.guided_regex is None
        and request.guided_choice is None
        and request.guided_grammar is None
        and request.structured_outputs is None
        and not memoryview(request.guided_json)
    ):
        return None
    found = list(_forms(request))
    if len(found) > 1:
        names = ", ".join(f"'{name}'" for name, _ in found)
        raise invalid(found[1][0], f"the answer can have one form only; given are {names}.")
    return found[0][1] if found else None


def _forms(request: wire.ChatRequest) -> Iterator[tuple[str, OutputFormat]]:
    match request.response_format:
        case wire.JsonObjectFormat():
            yield _FORMAT, OutputFormat(kind="json_object")
        case wire.JsonSchemaFormat(json_schema=wanted):
            yield _FORMAT, _json_schema(wanted)
    yield from _guided("guided_", *_guides(request))
    if own := request.structured_outputs:
        yield from _guided("structured_outputs.", own.json, own.regex, own.choice, own.grammar)
        if own.json_object:
            yield "structured_outputs.json_object", OutputFormat(kind="json_object")
        if own.structural_tag not in _NOTHING:
            raise invalid("structured_outputs.structural_tag", "structural tags are not supported here.")


def _guides(request: wire.ChatRequest) -> tuple[Raw, str | None, list[str] | None, str | None]:
    return request.guided_json, request.guided_regex, request.guided_choice, request.guided_grammar


def _json_schema(wanted: wire.JsonSchema) -> OutputFormat:
    path = "response_format.json_schema"
    if wanted.schema_id is not None:
        form = registered(wanted.schema_id, wanted.schema_version, wanted.schema, f"{path}.schema")
        return msgspec.structs.replace(form, name=wanted.name or "", strict=wanted.strict)
    if wanted.name is None:
        raise invalid(f"{path}.name", "this field is required.")
    return OutputFormat(
        kind="json_schema",
        schema=_schema(wanted.schema, f"{path}.schema"),
        name=wanted.name,
        description=wanted.description or "",
        strict=wanted.strict,
    )


def _guided(
    prefix: str, schema: Raw, regex: str | None, choice: list[str] | None, grammar: str | None
) -> Iterator[tuple[str, OutputFormat]]:
    """Yield the forms in vLLM's words (https://docs.vllm.ai/en/latest/features/structured_outputs.html).

    A schema may be given as its text, too.
    """
    if schema not in _NOTHING:
        path = f"{prefix}json"
        yield path, OutputFormat(kind="json_schema", schema=_schema(_untexted(schema), path), strict=True)
    if regex is not None:
        yield f"{prefix}regex", OutputFormat(kind="regex", pattern=regex)
    if choice is not None:
        yield f"{prefix}choice", OutputFormat(kind="choice", choices=tuple(choice))
    if grammar is not None:
        yield f"{prefix}grammar", OutputFormat(kind="grammar", grammar=grammar)


def _untexted(raw: Raw) -> Raw:
    """Return what stands in the text that ``raw`` is; ``raw`` itself if that is no object."""
    inside = msgspec.json.decode(raw, type=str).strip().encode() if bytes(raw)[:1] == b'"' else b""
    return Raw(inside) if inside[:1] == b"{" else raw


def _schema(raw: Raw, path: str) -> Raw:
    schema = object_or_empty(raw)
    if schema is None:
        raise invalid(path, "expected a JSON Schema object.")
    return schema
