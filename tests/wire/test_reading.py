"""What is wrong with a body is said by path, with what was expected and what came."""

import contextlib
import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_server.contract import ErrorKind, ServerError
from llm_server.wire import ANTHROPIC_MESSAGES, OPENAI_CHAT, OPENAI_COMPLETIONS, OPENAI_EMBEDDINGS, Codec
from llm_server.wire.structure import MAX_DEPTH

USER = {"role": "user", "content": "hi"}
CHAT: dict[str, Any] = {"model": "m", "messages": [USER]}
MESSAGES: dict[str, Any] = {"model": "m", "messages": [USER], "max_tokens": 5}


def refusal(codec: Codec, body: bytes) -> ServerError:
    with pytest.raises(ServerError) as raised:
        codec.decode(body, {})
    assert raised.value.kind is ErrorKind.INVALID_REQUEST
    return raised.value


def said(**fields: Any) -> bytes:
    return json.dumps(CHAT | fields).encode()


@pytest.mark.parametrize(
    ("fields", "param", "message"),
    [
        ({"model": 4}, "model", "model: expected a string, got 4."),
        ({"model": ""}, "model", 'model: expected a string of length >= 1, got "".'),
        ({"messages": []}, "messages", "messages: expected an array of length >= 1, got an array of 0."),
        ({"messages": {}}, "messages", "messages: expected an array, got an object."),
        (
            {"messages": [{"role": "user", "content": 4}]},
            "messages[0].content",
            "messages[0].content: expected a string or an array, got 4.",
        ),
        (
            {"messages": [{"role": "user"}]},
            "messages[0].content",
            "messages[0].content: this field is required.",
        ),
        ({"messages": [USER, {}]}, "messages[1].role", "messages[1].role: this field is required."),
        (
            {"messages": [{"role": "me", "content": ""}]},
            "messages[0].role",
            'messages[0].role: expected one of "system", "developer", "user", "assistant", "tool", got "me".',
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "text"}]}]},
            "messages[0].content[0].text",
            "messages[0].content[0].text: this field is required.",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": 5}]}]},
            "messages[0].content[0].type",
            "messages[0].content[0].type: expected a string, got 5.",
        ),
        ({"temperature": 3}, "temperature", "temperature: expected a number <= 2.0, got 3."),
        ({"temperature": "hot"}, "temperature", 'temperature: expected a number or null, got "hot".'),
        (
            {"stream": "x" * 99},
            "stream",
            "stream: expected a boolean or null, got a string of 99 characters.",
        ),
        ({"n": 10**9}, "n", "n: expected an integer <= 16, got 1000000000."),
        ({"n": 1.5}, "n", "n: expected an integer or null, got 1.5."),
        ({"n": True}, "n", "n: expected an integer or null, got true."),
        ({"max_tokens": 0}, "max_tokens", "max_tokens: expected an integer >= 1, got 0."),
        (
            {"seed": 2**63},
            "seed",
            "seed: expected an integer <= 9223372036854775807, got 9223372036854775808.",
        ),
        ({"top_logprobs": 21}, "top_logprobs", "top_logprobs: expected an integer <= 20, got 21."),
        (
            {"top_logprobs": 2},
            "top_logprobs",
            "top_logprobs: 'logprobs' must be true to ask for alternatives.",
        ),
        (
            {"stop": ["a"] * 5},
            "stop",
            "stop: expected an array of length <= 4, got an array of 5.",
        ),
        (
            {"logit_bias": {"5": 101}},
            "logit_bias[...]",
            "logit_bias[...]: expected a number <= 100.0.",
        ),
        (
            {"tools": [{"type": "function", "function": {"name": "f"}}] * 129},
            "tools",
            "tools: expected an array of length <= 128, got an array of 129.",
        ),
        (
            {"tools": [{"type": "function", "function": {"name": "f", "parameters": 5}}]},
            "tools[0].function.parameters",
            "tools[0].function.parameters: expected a JSON Schema object.",
        ),
        (
            {"reasoning_effort": "huge"},
            "reasoning_effort",
            'reasoning_effort: expected one of "default", "high", "low", "max", "medium", "minimal", "none", '
            '"xhigh", got "huge".',
        ),
        (
            {"response_format": {"type": "xml"}},
            "response_format.type",
            'response_format.type: expected one of "text", "json_object", "json_schema", got "xml".',
        ),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": []}}},
            "response_format.json_schema.schema",
            "response_format.json_schema.schema: expected a JSON Schema object.",
        ),
        (
            {
                "messages": [
                    {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "file:///etc"}}]}
                ]
            },
            "messages[0].content[0].image_url.url",
            "messages[0].content[0].image_url.url: "
            "expected an http(s) URL or a base64 data: URL of an image.",
        ),
        (
            {"functions": [{"name": "f"}]},
            "functions",
            "functions: expected null, got an array of 1. "
            "Use 'tools' and 'tool_choice' instead of 'functions' and 'function_call'.",
        ),
    ],
)
def test_a_wrong_field_is_named(fields: dict[str, Any], param: str, message: str) -> None:
    error = refusal(OPENAI_CHAT, said(**fields))
    assert (error.param, error.message) == (param, message)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"max_tokens": None}, "max_tokens: expected an integer, got null."),
        ({"temperature": 1.5}, "temperature: expected a number <= 1.0, got 1.5."),
        (
            {"thinking": {"type": "enabled", "budget_tokens": 9}},
            "thinking.budget_tokens: expected an integer >= 1024, got 9.",
        ),
        (
            {"tools": [{"name": "f"}]},
            "tools[0].input_schema: expected a JSON Schema object; this field is required.",
        ),
        ({"tools": [{"input_schema": {}}]}, "tools[0].name: this field is required."),
        (
            {"output_config": {"effort": "none"}},
            'output_config.effort: expected one of "high", "low", "max", "medium", "xhigh", got "none".',
        ),
        (
            {"output_config": {"format": {"type": "json_schema", "schema": 1}}},
            "output_config.format.schema: expected a JSON Schema object.",
        ),
        (
            {
                "messages": [
                    {
                        "role": "user",
                        "content": [
                            {
                                "type": "image",
                                "source": {"type": "base64", "media_type": "image/bmp", "data": ""},
                            }
                        ],
                    }
                ]
            },
            "messages[0].content[0].source.media_type: "
            'expected one of "image/gif", "image/jpeg", "image/png", "image/webp", got "image/bmp".',
        ),
        (
            {
                "messages": [
                    {
                        "role": "user",
                        "content": [
                            {
                                "type": "tool_result",
                                "tool_use_id": "t",
                                "content": [{"type": "image", "source": {"type": "url", "url": "ftp://x"}}],
                            }
                        ],
                    }
                ]
            },
            "messages[0].content[0].content[0].source.url: expected an http(s) URL.",
        ),
        (
            {
                "messages": [
                    {
                        "role": "assistant",
                        "content": [{"type": "tool_use", "id": "t", "name": "f", "input": 3}],
                    }
                ]
            },
            "messages[0].content[0].input: expected an object.",
        ),
        (
            {
                "messages": [
                    {"role": "user", "content": [{"type": "new", "x": 1}, {"type": "text", "text": 1}]}
                ]
            },
            "messages[0].content[1].text: expected a string, got 1.",
        ),
        (
            {"stop_sequences": ["x"] * 65},
            "stop_sequences: expected an array of length <= 64, got an array of 65.",
        ),
        (
            {"tools": [{"name": "f", "input_schema": {}}] * 10_000},
            "tools: expected an array of length <= 1024, got an array of 10000.",
        ),
    ],
)
def test_a_wrong_field_of_anthropic_s_is_named(fields: dict[str, Any], message: str) -> None:
    error = refusal(ANTHROPIC_MESSAGES, json.dumps(MESSAGES | fields).encode())
    assert error.message == message
    assert error.param == message.partition(": ")[0]


def test_a_missing_field_is_named() -> None:
    error = refusal(OPENAI_CHAT, b'{"messages": []}')
    assert error.param == "messages"
    assert refusal(OPENAI_CHAT, b"{}").message == "model: this field is required."


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "The body is not valid JSON: malformed or cut off at line 1, column 1 (byte 0)."),
        (b"[\n 1,]", "The body is not valid JSON: trailing comma in array at line 2, column 4 (byte 5)."),
        (b'{"model": NaN}', "The body is not valid JSON: invalid character at line 1, column 11 (byte 10)."),
        (b'{"a": Infinity}', "The body is not valid JSON: invalid character at line 1, column 7 (byte 6)."),
        (b"[]", "The body: expected an object, got an array of 0."),
        (b"null", "The body: expected an object, got null."),
        (b'"text"', 'The body: expected an object, got "text".'),
        (b'{"model": "\xff"}', "The body is not valid JSON: not UTF-8 at line 1, column 12 (byte 11)."),
        (b'\xef\xbb\xbf{}', "The body is not valid JSON: invalid character at line 1, column 1 (byte 0)."),
    ],
)  # fmt: skip
def test_a_malformed_body_says_where(body: bytes, message: str) -> None:
    error = refusal(OPENAI_CHAT, body)
    assert (error.message, error.param) == (message, None)


@pytest.mark.parametrize("codec", [OPENAI_CHAT, OPENAI_COMPLETIONS, OPENAI_EMBEDDINGS, ANTHROPIC_MESSAGES])
@given(junk=st.binary(max_size=40))
def test_garbage_is_refused_and_nothing_else(codec: Codec, junk: bytes) -> None:
    refusal(codec, junk)


def test_data_after_the_body_is_refused() -> None:
    assert "line 1" in refusal(OPENAI_CHAT, said() + b" {}").message


@pytest.mark.parametrize("extra", [b'"later": "\xff"', b'"tools": [{"type": "x", "y": "\xc3"}]'])
def test_fields_that_nobody_reads_must_be_utf8_too(extra: bytes) -> None:
    assert "not UTF-8" in refusal(OPENAI_CHAT, said()[:-1] + b"," + extra + b"}").message


@pytest.mark.parametrize(
    ("extra", "name"),
    [
        ('"model": "other"', "model"),
        ('"mod\\u0065l": "other"', "model"),
        ('"\\u006dodel": "other", "text": "\\u0041"', "model"),
        ('"made_up": 1, "made_up": 1', "made_up"),
        ('"deep": [{"a": [{"b": 1, "c": 2, "b": 3}]}]', "b"),
        ('"deep": ' + "[" * 62 + '{"":1,"":2}' + "]" * 62, ""),
        ('"' + "x" * 200 + '": 1, "' + "x" * 200 + '": 1', "x" * 64),
    ],
)
def test_a_name_given_twice_is_refused_at_every_level(extra: str, name: str) -> None:
    body = said()[:-1] + b"," + extra.encode() + b"}"
    error = refusal(OPENAI_CHAT, body)
    found = re.fullmatch(
        rf"{name}: this field is given more than once at line 1, column (\d+)\.", error.message
    )
    assert found, error.message
    assert len(body) - len(extra) <= int(found[1]) <= len(body)
    assert error.param == name


@given(st.recursive(st.integers(), lambda inner: st.dictionaries(st.text(max_size=3), inner, max_size=3)))
def test_equal_names_in_different_objects_are_no_fault(value: Any) -> None:
    body = said(metadata_={"a": [value, value, {"b": value}]}, other=[value])
    assert OPENAI_CHAT.decode(body, {}).raw == body


@pytest.mark.parametrize("number", ["9" * 5000, "-" + "9" * 5000])
def test_a_number_that_hides_what_follows_is_refused(number: str) -> None:
    """jiter stops there, msgspec would not: a second model behind it must not pass."""
    body = said()[:-1] + f', "x": {number}, "model": "other"}}'.encode()
    assert refusal(OPENAI_CHAT, body).kind is ErrorKind.INVALID_REQUEST


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity", "nan"])
@pytest.mark.parametrize("where", ['"temperature": {}', '"made_up": [{{"a": {}}}]'])
def test_numbers_that_json_lacks_are_refused(value: str, where: str) -> None:
    body = said()[:-1] + b", " + where.format(value).encode() + b"}"
    assert re.search(r"not valid JSON: .* at line 1, column \d+", refusal(OPENAI_CHAT, body).message)


CROWDS = {
    "arrays": "[" + "[]," * 300_000 + "[]]",
    "members": "{" + ",".join(f'"{at}":1' for at in range(300_000)) + "}",
    "values": "[" + "1," * 1_100_000 + "1]",
}


@pytest.mark.parametrize("name", CROWDS)
def test_millions_of_small_values_are_refused_unread(name: str) -> None:
    body = said()[:-1] + b', "x": ' + CROWDS[name].encode() + b"}"
    assert "250000 arrays" in refusal(OPENAI_CHAT, body).message
    text = said(user=CROWDS[name])
    assert OPENAI_CHAT.decode(text, {}).raw == text


def test_the_word_model_elsewhere_is_not_a_second_model() -> None:
    call = OPENAI_CHAT.decode(
        said(metadata={"model": "x"}, messages=[USER | {"content": '"model" \u0041'}]), {}
    )
    assert call.model == "m"


def nested(depth: int, opening: str = "[", closing: str = "]") -> bytes:
    """A body that is ``depth`` levels deep, itself the first of them."""
    deep = opening * (depth - 1) + "1" + closing * (depth - 1)
    return said()[:-1] + b', "deep": ' + deep.encode() + b"}"


@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}"), ('[[],{"a":', '},"]"]')])
def test_depth_has_a_bound(opening: str, closing: str) -> None:
    levels = opening.count("[") + opening.count("{") - opening.count("[]")
    fits = (MAX_DEPTH - 1) // levels
    OPENAI_CHAT.decode(nested(fits + 1, opening, closing), {})
    for depth in (fits + 2, 20_000):
        error = refusal(OPENAI_CHAT, nested(depth, opening, closing))
        assert error.message == "The body is nested more than 64 levels deep."


@pytest.mark.parametrize("opening", ["[", '{"a":'])
def test_unclosed_depth_is_refused_without_recursion(opening: str) -> None:
    refusal(OPENAI_CHAT, b'{"model": ' + (opening * 200_000).encode())


@given(st.lists(st.sampled_from(['"', "\\", "[", "]", "{", "}", "x", "\\\\", '\\"']), max_size=30))
def test_brackets_in_text_are_not_depth(pieces: list[str]) -> None:
    """Text full of brackets, quotes and backslashes, beside real nesting at the bound."""
    text = "".join(pieces) + "[" * 70
    body = nested(MAX_DEPTH)[:-1] + b"," + json.dumps({"user": text})[1:].encode()
    assert OPENAI_CHAT.decode(body, {}).raw == body
    deeper = nested(MAX_DEPTH + 1)[:-1] + b"," + json.dumps({"user": text})[1:].encode()
    assert "levels deep" in refusal(OPENAI_CHAT, deeper).message


@pytest.mark.parametrize(
    ("prompt", "ok"),
    [
        ("a", True),
        (["a", "b"], True),
        ([1, 2], True),
        ([[1], [2, 3]], True),
        (["a"] * 2048, True),
        (["a"] * 2049, False),
        ([1] * 5000, True),
        ([], False),
        ([[]], False),
        (["a", 1], False),
        ([[1], 2], False),
        ([-1], False),
        ([[2**40]], False),
        (None, False),
        ({}, False),
    ],
)
def test_inputs_are_of_one_kind(prompt: object, ok: bool) -> None:
    for codec, field in ((OPENAI_COMPLETIONS, "prompt"), (OPENAI_EMBEDDINGS, "input")):
        body = json.dumps({"model": "m", field: prompt}).encode()
        if ok:
            codec.decode(body, {})
        else:
            assert str(refusal(codec, body).param).startswith(field)


NUMBERS = st.sampled_from(["1", "1e999", "-1e400", "9" * 400, "1.5e309"])
JUNK = st.recursive(
    NUMBERS | st.sampled_from(['"a"', "null", "[ ]", "{ }", '"\\ud800"', '"type"']),
    lambda inner: (
        st.lists(inner, max_size=3).map(lambda items: f"[{','.join(items)}]")
        | st.lists(
            st.tuples(st.sampled_from(["a", "type", "content", "source", "text", "\\ud83d\\ude00"]), inner),
            max_size=3,
        ).map(lambda members: "{" + ",".join(f'"{key}": {value}' for key, value in members) + "}")
    ),
    max_leaves=8,
)


@pytest.mark.parametrize("codec", [OPENAI_CHAT, ANTHROPIC_MESSAGES])
@given(
    field=st.sampled_from(["x", "metadata", "tools", "tool_choice", "system", "stop", "thinking"]), value=JUNK
)
def test_what_is_read_has_a_list_of_what_is_not_modelled(codec: Codec, field: str, value: str) -> None:
    body = f'{json.dumps(MESSAGES)[:-1]}, "{field}": {value}}}'.encode()
    with contextlib.suppress(ServerError):
        codec.decode(body, {})
        assert all(name.startswith((field, "max_tokens")) for name in codec.unmodelled(body))


@pytest.mark.parametrize("codec", [OPENAI_CHAT, ANTHROPIC_MESSAGES])
def test_a_number_out_of_range_passes_where_nothing_reads_it(codec: Codec) -> None:
    body = json.dumps(MESSAGES).encode()[:-1] + b', "foo": 1e999}'
    assert codec.decode(body, {}).raw == body
    assert "foo" in codec.unmodelled(body)


@pytest.mark.parametrize("codec", [OPENAI_CHAT, ANTHROPIC_MESSAGES])
def test_a_number_out_of_range_is_named_where_it_is_read(codec: Codec) -> None:
    error = refusal(codec, json.dumps(MESSAGES).encode()[:-1] + b', "temperature": 1e999}')
    assert (error.param, error.message) == (
        "temperature",
        "temperature: the number is out of range, got 1e999.",
    )


@pytest.mark.parametrize(("count", "last"), [(50, "x49"), (51, "…+1 more"), (80, "…+30 more")])
def test_names_beyond_the_bound_are_counted(count: int, last: str) -> None:
    names = OPENAI_CHAT.unmodelled(said(**{f"x{at}": 1 for at in range(count)}))
    assert (names[:50], names[-1]) == (tuple(f"x{at}" for at in range(50)), last)


@pytest.mark.parametrize("codec", [OPENAI_CHAT, ANTHROPIC_MESSAGES])
def test_messages_and_parts_have_bounds(codec: Codec) -> None:
    many = json.dumps(MESSAGES | {"messages": [USER] * 10_001}).encode()
    assert refusal(codec, many).message == (
        "messages: expected an array of length <= 10000, got an array of 10001."
    )
    parts = [{"role": "user", "content": [{"type": "text", "text": ""}] * 10_001}] * 2
    assert refusal(codec, json.dumps(MESSAGES | {"messages": parts}).encode()).message == (
        "messages: expected at most 20000 content parts in all messages, got 20002."
    )
    unknown = [{"role": "user", "content": [{"type": "new"}] * 50_000}]
    assert refusal(codec, json.dumps(MESSAGES | {"messages": unknown}).encode()).message == (
        "The body has more than 40000 messages, content parts and tools."
    )


@given(st.recursive(st.just(""), lambda inner: st.lists(inner, max_size=4).map(lambda i: f"[{','.join(i)}]")))
def test_depth_beside_other_arrays_is_found(beside: str) -> None:
    beside = beside.replace("[,", "[[],").replace(",]", ",[]]").replace(",,", ",[],").replace(",,", ",[],")
    deep = "[" * 63 + "]" * 63
    for level, fits in ((deep, True), (f"[{deep}]", False)):
        body = said()[:-1] + f', "x": {beside or 1}, "y": {level}, "z": {beside or 1}}}'.encode()
        if fits:
            assert OPENAI_CHAT.decode(body, {}).raw == body
        else:
            assert "levels deep" in refusal(OPENAI_CHAT, body).message
