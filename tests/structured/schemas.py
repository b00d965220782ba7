"""Small schemas of every kind, and values that tell them apart, for property tests."""

from typing import Any

from hypothesis import strategies as st

NAMES = ("a", "b", "c")

values: st.SearchStrategy[Any] = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-3, 6),
        st.sampled_from([0.5, -1.5, 2.5]),
        st.sampled_from(["", "a", "b", "ab", "aaaa", "7", "é"]),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(("a", "b", "c", "d")), inner, max_size=3)
    ),
    max_leaves=6,
)

_scalars = st.one_of(
    st.fixed_dictionaries(
        {"type": st.just("string")},
        optional={
            "minLength": st.integers(0, 2),
            "maxLength": st.integers(1, 4),
            "pattern": st.sampled_from(["^a", "b$", "^a*$", r"^\d$"]),
        },
    ),
    st.fixed_dictionaries(
        {"type": st.sampled_from(["integer", "number"])},
        optional={
            "minimum": st.integers(-2, 2),
            "exclusiveMinimum": st.integers(-2, 2),
            "maximum": st.integers(0, 5),
            "exclusiveMaximum": st.sampled_from([1, 2.5, 4]),
            "multipleOf": st.sampled_from([1, 2, 0.5, 1.5]),
        },
    ),
    st.sampled_from([{"type": "boolean"}, {"type": "null"}, {}, True, {"type": ["string", "null"]}]),
    st.lists(st.sampled_from(["a", "b", 1, 2, None, True]), min_size=1, max_size=3, unique_by=repr).map(
        lambda listed: {"enum": listed}
    ),
    st.sampled_from(["a", 1, None]).map(lambda value: {"const": value}),
    st.sampled_from([{"$ref": "#/$defs/node"}, {"$ref": "#/$defs/text"}]),
)


def _plain(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """What a type of every language can say."""
    required = st.lists(st.sampled_from(NAMES), max_size=2, unique=True)
    objects = st.fixed_dictionaries(
        {
            "type": st.just("object"),
            "properties": st.dictionaries(st.sampled_from(NAMES), inner, max_size=3),
            "additionalProperties": st.one_of(st.just(False), inner),
        },
        optional={"required": required},
    )
    arrays = st.fixed_dictionaries(
        {"type": st.just("array"), "items": inner}, optional={"minItems": st.integers(0, 2)}
    )
    unions = st.lists(inner, min_size=1, max_size=3).map(lambda branches: {"anyOf": branches})
    return st.one_of(objects, arrays, unions)


def _composed(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    properties = st.dictionaries(st.sampled_from(NAMES), inner, max_size=3)
    objects = st.fixed_dictionaries(
        {"type": st.just("object"), "properties": properties},
        optional={
            "required": st.lists(st.sampled_from(NAMES), max_size=2, unique=True),
            "additionalProperties": st.one_of(st.booleans(), inner),
            "patternProperties": st.dictionaries(st.sampled_from(["^a", "b"]), inner, max_size=1),
            "maxProperties": st.integers(1, 3),
            "minProperties": st.integers(0, 2),
            "propertyNames": st.just({"maxLength": 1}),
        },
    )
    arrays = st.fixed_dictionaries(
        {"type": st.just("array")},
        optional={
            "items": inner,
            "prefixItems": st.lists(inner, min_size=1, max_size=2),
            "minItems": st.integers(0, 2),
            "maxItems": st.integers(1, 3),
            "uniqueItems": st.booleans(),
            "contains": inner,
        },
    )
    several = st.lists(inner, min_size=1, max_size=3)
    combined = st.one_of(
        several.map(lambda branches: {"anyOf": branches}),
        several.map(lambda branches: {"oneOf": branches}),
        several.map(lambda branches: {"allOf": branches}),
        inner.map(lambda branch: {"not": branch}),
        st.tuples(inner, inner).map(lambda both: {"if": both[0], "then": both[1]}),
    )
    mixed = st.tuples(objects, combined).map(lambda both: {**both[0], **both[1]})
    return st.one_of(objects, arrays, combined, mixed)


_any = st.recursive(_scalars, _composed, max_leaves=8)

_NODE = {
    "type": "object",
    "properties": {"a": {"type": "integer"}, "b": {"$ref": "#/$defs/node"}},
    "required": ["a"],
}


_simple = st.recursive(_scalars, _plain, max_leaves=8)


@st.composite
def schemas(draw: st.DrawFn, *, plain: bool = False) -> dict[str, Any]:
    """Draw a schema, with definitions that it may refer to; ``plain`` is what types can say."""
    root = draw(_simple if plain else _any)
    node = draw(st.sampled_from([_NODE, {**_NODE, "additionalProperties": False}]))
    text = draw(st.sampled_from([{"type": "string"}, {"type": "string", "maxLength": 2}]))
    body = root if isinstance(root, dict) else {}
    return {**body, "$defs": {"node": node, "text": text}}


@st.composite
def changed(draw: st.DrawFn, schema: dict[str, Any]) -> dict[str, Any]:
    """Draw a schema that differs from ``schema`` in a place or two, or altogether."""
    if draw(st.integers(0, 5)) == 0:
        return draw(schemas())
    made: dict[str, Any] = schema
    for _ in range(draw(st.integers(1, 2))):
        made = draw(_altered(made))
    return made


@st.composite
def _altered(draw: st.DrawFn, node: Any) -> Any:
    inside = _places(node)
    if not isinstance(node, dict) or not inside or draw(st.integers(0, 2)) == 0:
        return draw(_different(node))
    key = draw(st.sampled_from(inside))
    return {**node, key: draw(_inside(node[key]))}


def _places(node: Any) -> list[str]:
    return (
        [key for key, each in node.items() if isinstance(each, dict | list) and each]
        if isinstance(node, dict)
        else []
    )


@st.composite
def _inside(draw: st.DrawFn, value: Any) -> Any:
    if isinstance(value, dict):
        key = draw(st.sampled_from(sorted(value)))
        if isinstance(value[key], dict | bool):
            return {**value, key: draw(_altered(value[key]))}
        return value
    at = draw(st.integers(0, len(value) - 1))
    if isinstance(value[at], dict | bool):
        return [*value[:at], draw(_altered(value[at])), *value[at + 1 :]]
    return value


@st.composite
def _different(draw: st.DrawFn, node: Any) -> Any:
    """Draw a schema that says one thing more, less or otherwise."""
    if not isinstance(node, dict):
        return draw(_scalars)
    lost = [key for key in node if key not in {"$defs", "$ref"}]
    if lost and draw(st.booleans()):
        gone = draw(st.sampled_from(lost))
        return {key: each for key, each in node.items() if key != gone}
    more = draw(_any)
    return {**node, **more} if isinstance(more, dict) else node
