"""What each vendor takes, as its documentation says: written apart from the rules by which we rewrite.

Bodies are held to the types of the vendors' own SDKs, schemas to what their pages on structured output say.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from tests.conformance import test_golden_valid as golden
from tests.upstreams.upstream import Request

Node = dict[str, Any]


class Says(NamedTuple):
    """What a vendor's documentation says of the schemas in its schema mode."""

    never: frozenset[str]
    formats: frozenset[str] | None = None
    closed: bool = False
    all_required: bool = False
    some_required: bool = False
    recursion: bool = True


SAYS: dict[str, Says] = {
    # https://platform.openai.com/docs/guides/structured-outputs#supported-schemas
    "openai": Says(
        never=frozenset({
            "$anchor", "$id", "allOf", "contains", "default", "definitions", "dependentRequired",
            "dependentSchemas", "else", "if", "maxContains", "maxLength", "maxProperties", "minContains",
            "minLength", "minProperties", "not", "oneOf", "patternProperties", "prefixItems", "propertyNames",
            "then", "unevaluatedItems", "unevaluatedProperties", "uniqueItems",
        }),
        formats=frozenset({
            "date", "date-time", "duration", "email", "hostname", "ipv4", "ipv6", "time", "uuid",
        }),
        closed=True,
        all_required=True,
    ),
    # https://platform.claude.com/docs/en/build-with-claude/structured-outputs#json-schema-limitations
    "anthropic": Says(
        never=frozenset({
            "contains", "dependentSchemas", "else", "exclusiveMaximum", "exclusiveMinimum", "if", "maxItems",
            "maxLength", "maximum", "minLength", "minimum", "multipleOf", "not", "oneOf", "patternProperties",
            "propertyNames", "then", "uniqueItems",
        }),
        formats=frozenset({
            "date", "date-time", "duration", "email", "hostname", "ipv4", "ipv6", "time", "uri", "uuid",
        }),
        closed=True,
        recursion=False,
    ),
    # https://ai.google.dev/api/generate-content#FIELDS.response_json_schema
    "gemini": Says(
        never=frozenset({
            "allOf", "const", "else", "exclusiveMaximum", "exclusiveMinimum", "if", "not", "pattern", "then",
        })
    ),
    # https://docs.cohere.com/docs/structured-outputs#unsupported-schema-features
    "cohere": Says(
        never=frozenset({
            "additionalProperties", "allOf", "anyOf", "exclusiveMaximum", "exclusiveMinimum", "maxItems",
            "maxLength", "maximum", "minItems", "minLength", "minimum", "multipleOf", "not", "oneOf",
            "patternProperties", "prefixItems", "uniqueItems",
        }),
        formats=frozenset({"date", "date-time", "time", "uuid"}),
        some_required=True,
    ),
}  # fmt: skip
"""Mistral, Groq and Ollama document no keywords that they refuse."""

BODIES: dict[str, Callable[[str, Any], None]] = {
    "anthropic": golden.test_anthropic,
    "cohere": golden.test_cohere,
    "gemini": golden.test_gemini,
    "groq": golden.test_groq,
    "mistral": golden.test_mistral,
}


def sent_format(body: Node) -> Node | None:
    """Return the schema that an upstream was given, in whichever place its API has for it."""
    form = body.get("response_format", {})
    sent: Node | None = (
        form.get("json_schema", {}).get("schema")
        or form.get("json_schema")
        or body.get("output_config", {}).get("format", {}).get("schema")
        or body.get("generationConfig", {}).get("responseJsonSchema")
    )
    return sent


def check(vendor: str, request: Request) -> None:
    """Raise ``AssertionError``, or an SDK's own error, if ``vendor`` would refuse ``request``."""
    body = request.json()
    schema = sent_format(body)
    BODIES.get(vendor, golden.test_openai)(request.path, dict(body))
    if schema is not None:
        assert schema.get("type") == "object" or vendor in {"groq", "ollama"}, "the root must be an object"
        if vendor in SAYS:
            check_schema(schema, SAYS[vendor])


def check_schema(root: Node, says: Says) -> None:
    """Raise ``AssertionError`` where a schema is none that a vendor ``says`` it takes."""
    assert "anyOf" not in root
    for node in _schemas(root):
        assert not node.keys() & says.never, node
        if says.formats is not None:
            assert node.get("format") in {*says.formats, None}
        names, required = set(node.get("properties", ())), set(node.get("required", ()))
        if node.get("type") == "object" or names:
            assert not says.closed or node.get("additionalProperties") is False, node
            assert not says.all_required or names == required, node
            assert not says.some_required or required, node
        if "$ref" in node:
            target = _target(root, node["$ref"])
            assert says.recursion or node not in _schemas(target), "recursion"


def _target(root: Node, reference: str) -> Node:
    if reference == "#":
        return root
    assert reference.startswith("#/$defs/"), reference
    found: Node = root["$defs"][reference.removeprefix("#/$defs/")]
    return found


def _schemas(node: Any) -> Iterator[Node]:
    """Yield every schema in ``node``; the values of ``enum``, ``const`` and ``default`` are none."""
    if not isinstance(node, dict):
        return
    yield node
    for key, value in node.items():
        if key in {"properties", "$defs", "patternProperties"}:
            for each in value.values():
                yield from _schemas(each)
        elif key in {"items", "additionalProperties"}:
            yield from _schemas(value)
        elif key in {"anyOf", "oneOf", "allOf", "prefixItems"}:
            for each in value:
                yield from _schemas(each)
