"""What is sent obeys the rules, and what comes back is the answer that was meant."""

from collections.abc import Iterator
from typing import Any

import jsonschema_rs
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_server.contract import SchemaRules
from llm_server.providers.rows import ROWS
from llm_server.structured.keywords import subschemas
from llm_server.structured.limits import Inexpressible
from llm_server.structured.restoring import Undecided
from llm_server.structured.rewriting import Rewritten, rewrite
from llm_server.structured.schema import load

RULES = {
    name: ROWS[name].facts.schema_rules for name in ("openai", "anthropic", "gemini", "cohere", "mistral")
}
STRICT = RULES["openai"]
Schema = dict[str, Any]


def rewritten(schema: Schema, rules: SchemaRules = STRICT) -> Rewritten:
    return rewrite(load(schema), rules)


def nodes(schema: Schema) -> Iterator[Schema]:
    yield schema
    for _, inner in subschemas(schema):
        if isinstance(inner, dict):
            yield from nodes(inner)


def broken(schema: Schema, rules: SchemaRules) -> list[str]:
    """Return the rules that a sent schema breaks."""
    found = []
    if rules.root_object and (schema.get("type") != "object" or "anyOf" in schema):
        found.append("root_object")
    if rules.keywords is not None:
        found += [key for node in nodes(schema) for key in node if key not in rules.keywords]
    for node in nodes(schema):
        is_object = "object" in str(node.get("type"))
        properties = node.get("properties", {})
        if rules.closed and is_object and node.get("additionalProperties") is not False:
            found.append("closed")
        if rules.all_required and is_object and set(node.get("required", ())) != set(properties):
            found.append("all_required")
        if rules.some_required and is_object and not node.get("required"):
            found.append("some_required")
        if rules.typed and not node.keys() & {"type", "anyOf", "$ref"}:
            found.append("typed")
        if "$ref" in node and (len(node) > 1 or not node["$ref"].startswith("#/$defs/")):
            found.append("$ref")
        if rules.formats is not None and node.get("format", "date") not in rules.formats:
            found.append("format")
    return found


TEXTS = st.sampled_from(
    [
        {"type": "string"},
        {"type": "string", "minLength": 1},
        {"type": "string", "enum": ["a", "b"]},
        {"const": "fixed"},
        {"type": "string", "format": "date"},
        {"type": "string", "format": "uri-reference", "description": "Where."},
        {"type": "string", "pattern": "^[a-c]{1,3}$"},
    ]
)
LEAVES = st.one_of(
    TEXTS,
    st.sampled_from(
        [
            {"type": "integer", "minimum": 1, "maximum": 9},
            {"type": "number"},
            {"type": "boolean", "title": "Flag"},
            {"type": ["string", "null"]},
            {"enum": [1, 2, None]},
            {"$ref": "#/$defs/leaf"},
            {"anyOf": [{"type": "integer"}, {"type": "null"}]},
        ]
    ),
)


def _objects(inner: st.SearchStrategy[Schema]) -> st.SearchStrategy[Schema]:
    names = st.lists(st.sampled_from("abcde"), min_size=1, max_size=4, unique=True)

    @st.composite
    def made(draw: st.DrawFn) -> Schema:
        found = draw(names)
        schema: Schema = {"type": "object", "properties": {name: draw(inner) for name in found}}
        schema["required"] = draw(st.lists(st.sampled_from(found), unique=True))
        schema["additionalProperties"] = False
        return schema

    return made()


def _inner(inner: st.SearchStrategy[Schema]) -> st.SearchStrategy[Schema]:
    arrays = inner.map(lambda items: {"type": "array", "items": items, "maxItems": 3})
    tagged = inner.map(
        lambda other: {
            "anyOf": [
                {
                    "type": "object",
                    "properties": {"kind": {"const": kind}, kind: other},
                    "required": ["kind"],
                    "additionalProperties": False,
                }
                for kind in ("x", "y")
            ]
        }
    )
    return st.one_of(_objects(inner), arrays, tagged)


SCHEMAS = st.recursive(LEAVES, _inner, max_leaves=6).map(
    lambda schema: {**schema, "$defs": {"leaf": {"type": "string", "maxLength": 5}}}
)


def instances(schema: Schema, root: Schema) -> st.SearchStrategy[Any]:
    """Values of a schema of :data:`SCHEMAS`; without those that no answer to a closed schema could have."""
    if "$ref" in schema:
        return instances(root["$defs"]["leaf"], root)
    if "anyOf" in schema:
        return st.one_of([instances(each, root) for each in schema["anyOf"]])
    if "const" in schema:
        return st.just(schema["const"])
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    if schema["type"] == "object":
        required = schema["required"]
        made = {name: instances(each, root) for name, each in schema["properties"].items()}
        return st.fixed_dictionaries(
            {name: each for name, each in made.items() if name in required},
            optional={name: each for name, each in made.items() if name not in required},
        )
    if schema["type"] == "array":
        return st.lists(instances(schema["items"], root), max_size=3)
    return _scalars(schema)


def _scalars(schema: Schema) -> st.SearchStrategy[Any]:
    if schema.get("format") == "date":
        return st.just("2026-01-31")
    made: dict[str, st.SearchStrategy[Any]] = {
        "integer": st.integers(1, 9),
        "number": st.integers(-5, 5),
        "boolean": st.booleans(),
        "null": st.none(),
        "string": st.sampled_from(["a", "abc", "cb"]),
        "['string', 'null']": st.sampled_from(["abc", None]),
    }
    return made[str(schema["type"])]


def answered(value: Any, sent: Schema, root: Schema) -> Any:
    """Return ``value`` as a model answers it to the ``sent`` schema: what it leaves out is null."""
    if "$ref" in sent:
        return answered(value, root["$defs"][sent["$ref"].removeprefix("#/$defs/")], root)
    if "anyOf" in sent and isinstance(value, dict | list):
        kinds = {dict: "object", list: "array"}
        fitting = [
            branch
            for branch in sent["anyOf"]
            if kinds[type(value)] in str(branch.get("type"))
            and (isinstance(value, list) or _is_kind(branch, value))
        ]
        return answered(value, fitting[0], root) if fitting else value
    if isinstance(value, list) and "items" in sent:
        return [answered(each, sent["items"], root) for each in value]
    if isinstance(value, dict):
        return {
            name: answered(value[name], each, root) if name in value else None
            for name, each in sent["properties"].items()
            if name in value or name in sent.get("required", ())
        }
    return value


def _is_kind(branch: Schema, value: dict[str, Any]) -> bool:
    kind = branch["properties"].get("kind", {})
    return "kind" not in value or value["kind"] in (kind.get("const"), *kind.get("enum", ()))


@pytest.mark.parametrize("rules", RULES.values(), ids=RULES)
@given(data=st.data())
def test_what_is_sent_obeys_and_what_comes_back_is_what_was_meant(
    rules: SchemaRules, data: st.DataObject
) -> None:
    schema = data.draw(SCHEMAS)
    try:
        made = rewritten(schema, rules)
    except Inexpressible:
        return
    as_it_is = rules == SchemaRules(root_object=True)
    assert as_it_is or broken(made.schema, rules) == []
    value = data.draw(instances(schema, schema))
    jsonschema_rs.validate(schema, value)
    wrapped = made.schema.get("properties", {}).keys() == {"value"} and not made.direct
    inner = made.schema["properties"]["value"] if wrapped else made.schema
    told = value if as_it_is else answered(value, inner, made.schema)
    told = {"value": told} if wrapped else told
    jsonschema_rs.validate(made.schema, told)
    back = made.unwrap(told)
    if made.direct:
        assert back is told
    jsonschema_rs.validate(schema, back)
    assert _without_nulls(back) == _without_nulls(value)


def _without_nulls(value: Any) -> Any:
    """Where null is allowed and a property may be left out, both mean the same to a strict mode."""
    if isinstance(value, list):
        return [_without_nulls(each) for each in value]
    if isinstance(value, dict):
        return {name: _without_nulls(each) for name, each in value.items() if each is not None}
    return value


@given(data=st.data())
def test_a_growing_answer_is_never_taken_back(data: st.DataObject) -> None:
    from llm_server.structured.growing import _certain

    schema = data.draw(SCHEMAS)
    try:
        made = rewritten(schema)
    except Inexpressible:
        return
    value = data.draw(instances(schema, schema))
    wrapped = made.schema["properties"].keys() == {"value"} and not made.direct
    inner = made.schema["properties"]["value"] if wrapped else made.schema
    told = answered(value, inner, made.schema)
    text = msgspec.json.encode({"value": told} if wrapped else told).decode()
    whole = msgspec.json.encode(made.unwrap(msgspec.json.decode(text))).decode()
    import jiter

    said = ""
    for end in range(1, len(text) + 1):
        try:
            part = jiter.from_json(text[:end].encode(), partial_mode="trailing-strings")
            certain = _certain(made.restorer.partial(part))
        except (ValueError, Undecided):
            continue
        assert certain.startswith(said)
        said = certain
    assert whole.startswith(said)


def test_a_schema_of_the_providers_own_making_is_left_alone() -> None:
    own = {
        "type": "object",
        "title": "Step",
        "properties": {"a": {"type": "string"}, "next": {"anyOf": [{"$ref": "#/$defs/N"}, {"type": "null"}]}},
        "required": ["a", "next"],
        "additionalProperties": False,
        "$defs": {
            "N": {"type": "object", "properties": {}, "required": [], "additionalProperties": False},
        },
    }
    made = rewritten(own)
    assert made.unchanged
    assert made.direct
    assert made.dropped == ()
    assert made.schema == own


def test_what_cannot_be_said_is_hinted() -> None:
    made = rewritten(
        {"type": "object", "properties": {"a": {"type": "string", "minLength": 3, "default": "xyz"}}}
    )
    assert made.schema["properties"]["a"] == {
        "type": ["string", "null"],
        "description": '(minLength: 3; default: "xyz")',
    }
    assert made.dropped == ("minLength",)


@pytest.mark.parametrize(
    ("schema", "sent"),
    [
        (
            {"oneOf": [{"type": "string"}, {"type": "integer"}]},
            {"anyOf": [{"type": "string"}, {"type": "integer"}]},
        ),
        ({"allOf": [{"$ref": "#/$defs/a"}], "$defs": {"a": {"type": "string"}}}, {"type": "string"}),
        ({"const": 1}, {"type": "integer", "const": 1}),
        (
            {"type": "array", "prefixItems": [{"type": "string"}, {"type": "integer"}]},
            {
                "type": "array",
                "items": {"anyOf": [{"type": "string"}, {"type": "integer"}]},
                "description": '(prefixItems: [{"type":"string"},{"type":"integer"}])',
            },
        ),
        ({"items": {"type": "boolean"}}, {"type": "array", "items": {"type": "boolean"}}),
    ],
)
def test_other_roots_are_wrapped_and_other_words_found(schema: Schema, sent: Schema) -> None:
    made = rewritten(schema)
    assert made.schema["properties"]["value"] == sent
    assert made.unwrap({"value": "x"}) == "x"
    assert made.unwrap({"x": "y"}) == {"x": "y"}


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object"},
        {"type": "object", "additionalProperties": {"type": "string"}},
        {"type": "object", "patternProperties": {"^a": {"type": "string"}}},
        {"type": "object", "properties": {"a": {}}},
        {"type": "object", "properties": {"a": False}},
        {"type": "object", "properties": {"a": {"type": "array"}}},
        {"type": "object", "properties": {}, "required": ["b"]},
        {"type": "string", "allOf": [{"type": "integer"}]},
        {"type": "object", "properties": {"a": {"$dynamicRef": "#x"}}, "$dynamicAnchor": "x"},
    ],
)
def test_what_a_closed_mode_cannot_say_is_left_to_another_method(schema: Schema) -> None:
    with pytest.raises(Inexpressible):
        rewritten(schema)


def test_recursion_is_sent_where_it_is_taken() -> None:
    tree = {
        "type": "object",
        "properties": {"value": {"type": "integer"}, "children": {"type": "array", "items": {"$ref": "#"}}},
        "required": ["value"],
    }
    made = rewritten(tree)
    assert broken(made.schema, STRICT) == []
    told = {"value": 1, "children": [{"value": 2, "children": None}]}
    assert made.unwrap(told) == {"value": 1, "children": [{"value": 2}]}
    with pytest.raises(Inexpressible, match="itself"):
        rewritten(tree, RULES["anthropic"])


def test_references_are_inlined_where_they_are_not_taken() -> None:
    rules = SchemaRules(refs=False, keywords=STRICT.keywords)
    schema = {
        "type": "object",
        "properties": {"a": {"$ref": "#/$defs/s"}},
        "$defs": {"s": {"type": "string"}},
    }
    assert rewritten(schema, rules).schema == {"type": "object", "properties": {"a": {"type": "string"}}}
    explosive: Schema = {"$ref": "#/$defs/d0", "$defs": {f"d{n}": _twice(n + 1) for n in range(20)}}
    explosive["$defs"]["d20"] = {"type": "string"}
    with pytest.raises(Inexpressible, match="large"):
        rewritten(explosive, rules)


def _twice(number: int) -> Schema:
    both = {"$ref": f"#/$defs/d{number}"}
    return {"type": "object", "properties": {"a": both, "b": both}}


@pytest.mark.parametrize(
    ("limit", "schema"),
    [
        ("max_optional", {"type": "object", "properties": {str(n): {"type": "string"} for n in range(3)}}),
        ("max_properties", {"type": "object", "properties": {str(n): {"type": "string"} for n in range(3)}}),
        (
            "max_unions",
            {"type": "object", "properties": {str(n): {"type": ["string", "null"]} for n in range(3)}},
        ),
        ("max_depth", {"type": "array", "items": {"type": "array", "items": {"type": "array", "items": {}}}}),
    ],
)
def test_a_schema_above_a_limit_is_left_to_another_method(limit: str, schema: Schema) -> None:
    keywords = frozenset({"type", "properties", "required", "items", "anyOf"})
    assert rewritten(schema, SchemaRules(keywords=keywords, **{limit: 3})).schema
    with pytest.raises(Inexpressible):
        rewritten(schema, SchemaRules(keywords=keywords, **{limit: 2}))


def test_nulls_are_said_in_the_words_of_openapi() -> None:
    rules = SchemaRules(
        nullable=True, keywords=frozenset({"type", "properties", "required", "enum", "anyOf"})
    )
    schema = {
        "type": "object",
        "properties": {
            "a": {"type": ["string", "null"]},
            "b": {"anyOf": [{"type": "integer"}, {"type": "null"}]},
        },
    }
    sent = rewritten(schema, rules).schema["properties"]
    assert sent == {"a": {"type": "string", "nullable": True}, "b": {"type": "integer", "nullable": True}}


def test_only_texts_are_enumerated_where_rules_say_so() -> None:
    rules = SchemaRules(
        string_enums=True, keywords=frozenset({"type", "properties", "required", "enum", "description"})
    )
    schema = {"type": "object", "properties": {"a": {"enum": ["x"]}, "b": {"enum": [1, 2]}}}
    made = rewritten(schema, rules)
    assert made.schema["properties"] == {
        "a": {"type": "string", "enum": ["x"]},
        "b": {"type": "integer", "description": "(enum: [1,2])"},
    }
    assert made.dropped == ("enum",)


def test_lookaround_is_not_sent() -> None:
    made = rewritten({"type": "object", "properties": {"a": {"type": "string", "pattern": "^(?!x)a"}}})
    assert "pattern" not in made.schema["properties"]["a"]
    assert made.dropped == ("pattern",)


def test_references_start_one_floor_lower_in_a_wrapping() -> None:
    schema = {"type": "array", "items": {"anyOf": [{"type": "string"}, {"$ref": "#"}]}}
    made = rewritten(schema, SchemaRules(root_object=True))
    jsonschema_rs.validate(made.schema, {"value": ["a", ["b", []]]})
    assert not jsonschema_rs.is_valid(made.schema, {"value": [["a", 1]]})
