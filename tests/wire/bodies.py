"""Hypothesis strategies: request bodies that are right, and bodies with one thing changed."""

from copy import deepcopy
from typing import Any

from hypothesis import strategies as st

TEXT = st.text(max_size=8)
NAME = st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1, max_size=6)
SCHEMA = st.sampled_from(
    [{}, {"type": "object", "properties": {"a": {"type": "string"}}}, {"type": "object"}]
)
URL = st.sampled_from(["https://x.test/a.png", "http://x.test", "HTTPS://X", "data:image/png;base64,AAAA"])
VERSION = st.one_of(st.integers(1, 9), st.just("latest"))
NULL: st.SearchStrategy[None] = st.none()

Body = dict[str, Any]


def maybe(**fields: st.SearchStrategy[Any]) -> Any:
    """Fields that may be missing or null."""
    return {name: st.one_of(NULL, value) for name, value in fields.items()}


def body(required: dict[str, Any], optional: dict[str, Any] | None = None) -> st.SearchStrategy[Body]:
    return st.fixed_dictionaries(required, optional=optional or {})


def tagged(tag: str, **fields: st.SearchStrategy[Any]) -> st.SearchStrategy[Body]:
    return body({"type": st.just(tag), **fields})


def _possible(made: Body) -> Body:
    """``made`` without a tool choice when there are no tools to choose from."""
    return made if made.get("tools") else {key: value for key, value in made.items() if key != "tool_choice"}


OPAQUE = st.sampled_from(
    ["input_audio", "file", "document", "server_tool_use", "custom", "brand_new"]
).flatmap(lambda tag: body({"type": st.just(tag)}, {"anything": TEXT, "content": st.lists(TEXT, max_size=1)}))
SAMPLED = maybe(
    stream=st.booleans(),
    stream_options=body({}, maybe(include_usage=st.booleans())),
    temperature=st.floats(0, 2),
    top_p=st.floats(0, 1),
    top_k=st.integers(-1, 100),
    n=st.integers(1, 16),
    seed=st.integers(-(2**63), 2**63 - 1),
    stop=st.one_of(TEXT, st.lists(TEXT, max_size=4)),
    frequency_penalty=st.floats(-2, 2),
    presence_penalty=st.integers(-2, 2),
    logit_bias=st.dictionaries(NAME, st.integers(-100, 100), max_size=2),
    user=TEXT,
)

# OpenAI
_TEXT = tagged("text", text=TEXT)
_IMAGE = tagged(
    "image_url",
    image_url=body({"url": URL}, maybe(detail=st.sampled_from(["auto", "low", "high", "original"]))),
)


def _content(*parts: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(TEXT, st.lists(st.one_of(*parts), max_size=2))


_CALL = tagged("function", id=NAME, function=body({"name": NAME, "arguments": TEXT}))
OPENAI_MESSAGES = st.one_of(
    body(
        {"role": st.sampled_from(["system", "developer"]), "content": _content(_TEXT, OPAQUE)},
        maybe(name=NAME),
    ),
    body({"role": st.just("user"), "content": _content(_TEXT, _IMAGE, OPAQUE)}, maybe(name=NAME)),
    body(
        {"role": st.just("assistant")},
        maybe(
            content=_content(_TEXT, tagged("refusal", refusal=TEXT), OPAQUE),
            refusal=TEXT,
            reasoning_content=TEXT,
            reasoning=TEXT,
            tool_calls=st.lists(st.one_of(_CALL, OPAQUE), max_size=2),
            function_call=NULL,
            name=NAME,
        ),
    ),
    body({"role": st.just("tool"), "content": _content(_TEXT, _IMAGE, OPAQUE), "tool_call_id": NAME}),
)
_FUNCTION = body({"name": NAME}, maybe(description=TEXT, parameters=SCHEMA, strict=st.booleans()))
_NAMED = tagged("function", function=body({"name": NAME}))
_RESPONSE_FORMAT = st.one_of(
    tagged("text"),
    tagged("json_object"),
    tagged(
        "json_schema",
        json_schema=body({"name": NAME}, maybe(description=TEXT, schema=SCHEMA, strict=st.booleans())),
    ),
    tagged("json_schema", json_schema=body({"schema_id": NAME}, maybe(schema_version=VERSION))),
)
_GUIDED: dict[str, st.SearchStrategy[Any]] = {
    "json": SCHEMA,
    "regex": st.just("a+"),
    "choice": st.lists(TEXT, min_size=1, max_size=3),
    "grammar": TEXT,
}
_FORMS = st.one_of(
    st.just({}),
    body({"response_format": st.one_of(NULL, _RESPONSE_FORMAT)}),
    *(body({f"guided_{name}": value}) for name, value in _GUIDED.items()),
    *(body({"structured_outputs": body({name: value})}) for name, value in _GUIDED.items()),
)
_CHAT = body(
    {"model": NAME, "messages": st.lists(OPENAI_MESSAGES, min_size=1, max_size=3)},
    SAMPLED
    | maybe(
        max_tokens=st.integers(1, 64000),
        max_completion_tokens=st.integers(1, 64000),
        logprobs=st.just(True),
        tools=st.lists(st.one_of(tagged("function", function=_FUNCTION), OPAQUE), max_size=2),
        tool_choice=st.one_of(
            st.sampled_from(["none", "auto", "required"]),
            _NAMED,
            tagged(
                "allowed_tools",
                allowed_tools=body(
                    {
                        "mode": st.sampled_from(["auto", "required"]),
                        "tools": st.lists(_NAMED, min_size=1, max_size=2),
                    }
                ),
            ),
            OPAQUE,
        ),
        parallel_tool_calls=st.booleans(),
        stream_structured=st.sampled_from(["partial", "validated"]),
        reasoning_effort=st.sampled_from(
            ["none", "minimal", "low", "medium", "high", "xhigh", "max", "default"]
        ),
        functions=NULL,
        function_call=NULL,
    ),
).map(_possible)
CHAT = st.tuples(_CHAT, _FORMS).map(lambda pair: {**pair[0], **pair[1]})
_IDS = st.lists(st.integers(0, 200_000), min_size=1, max_size=3)
INPUTS = st.one_of(TEXT, st.lists(TEXT, min_size=1, max_size=3), _IDS, st.lists(_IDS, min_size=1, max_size=2))
COMPLETIONS = body(
    {"model": NAME, "prompt": INPUTS},
    SAMPLED
    | maybe(suffix=TEXT, max_tokens=st.integers(0, 99), logprobs=st.integers(0, 5), echo=st.booleans()),
)
EMBEDDINGS = body(
    {"model": NAME, "input": INPUTS},
    maybe(dimensions=st.integers(1, 4096), encoding_format=st.sampled_from(["float", "base64"]), user=TEXT),
)

# Anthropic
_SOURCE = st.one_of(
    tagged("base64", media_type=st.sampled_from(["image/png", "image/webp"]), data=st.just("AAAA")),
    tagged("url", url=URL),
    tagged("file", file_id=NAME),
)
_PICTURE = tagged("image", source=_SOURCE)
_BLOCKS = (
    _TEXT,
    _PICTURE,
    tagged("thinking", thinking=TEXT, signature=NAME),
    tagged("redacted_thinking", data=NAME),
    tagged("tool_use", id=NAME, name=NAME, input=st.dictionaries(NAME, TEXT, max_size=2)),
    body(
        {"type": st.just("tool_result"), "tool_use_id": NAME},
        maybe(content=_content(_TEXT, _PICTURE, OPAQUE), is_error=st.booleans()),
    ),
    OPAQUE,
)
_PARALLEL = maybe(disable_parallel_tool_use=st.booleans())
_FORMAT = st.one_of(
    tagged("json_schema", schema=SCHEMA),
    st.fixed_dictionaries(
        {"type": st.just("json_schema"), "schema_id": NAME}, optional={"schema_version": VERSION}
    ),
)
_COUNTED = {
    "model": NAME,
    "messages": st.lists(
        body({"role": st.sampled_from(["user", "assistant", "system"]), "content": _content(*_BLOCKS)}),
        min_size=1,
        max_size=3,
    ),
}
_COUNTED_MAYBE = maybe(
    system=st.one_of(TEXT, st.lists(_TEXT, max_size=2)),
    tools=st.lists(
        st.one_of(
            body(
                {"name": NAME, "input_schema": SCHEMA},
                maybe(type=st.just("custom"), description=TEXT, strict=st.booleans()),
            ),
            body(
                {"type": st.just("web_search_20250305"), "name": st.just("web_search")},
                {"max_uses": st.just(3)},
            ),
            body({"type": st.just("computer_toolset_20260801")}),
        ),
        max_size=2,
    ),
    tool_choice=st.one_of(
        body({"type": st.sampled_from(["auto", "any"])}, _PARALLEL),
        body({"type": st.just("tool"), "name": NAME}, _PARALLEL),
        tagged("none"),
    ),
    thinking=st.one_of(
        tagged("enabled", budget_tokens=st.integers(1024, 64000)),
        body({"type": st.sampled_from(["adaptive", "between_tools", "disabled"])}),
    ),
    output_config=body(
        {}, maybe(effort=st.sampled_from(["low", "medium", "high", "xhigh", "max"]), format=_FORMAT)
    ),
    output_format=_FORMAT,
)
COUNT = body(_COUNTED, _COUNTED_MAYBE).map(_possible)
MESSAGES = body(
    {**_COUNTED, "max_tokens": st.integers(0, 64000)},
    _COUNTED_MAYBE
    | maybe(
        stream=st.booleans(),
        stop_sequences=st.lists(TEXT, max_size=5),
        temperature=st.floats(0, 1),
        top_p=st.floats(0, 1),
        top_k=st.integers(0, 500),
        metadata=body({}, maybe(user_id=TEXT)),
    ),
).map(_possible)

_ANYTHING = st.sampled_from(
    [
        None,
        True,
        False,
        0,
        -1,
        1,
        3,
        17,
        2.5,
        1e300,
        10**30,
        "",
        "x",
        "auto",
        "text",
        [],
        [1],
        [None],
        {},
        {"type": "x"},
    ]
)


@st.composite
def mutated(draw: st.DrawFn, bodies: st.SearchStrategy[Body]) -> Body:
    """A body of ``bodies`` with one place changed: removed, replaced by anything, or a field more."""
    made = deepcopy(draw(bodies))
    parent, key = draw(st.sampled_from(list(_places(made))))
    change = draw(st.sampled_from(["remove", "replace", "add"]))
    if change == "remove":
        del parent[key]
    elif change == "replace":
        parent[key] = draw(_ANYTHING)
    elif isinstance(parent, dict):
        parent["an_extra_field"] = draw(_ANYTHING)
    return made


def _places(value: Any) -> Any:
    """Every (parent, key) of a JSON value."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in list(inner):
        yield value, key
        yield from _places(child)
