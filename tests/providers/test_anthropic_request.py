"""What Anthropic is sent: the caller's own bytes, little changed, or a translation."""

from typing import Any

import pytest
from msgspec import Raw, json

from llm_server.contract import (
    JSON_BODY,
    ChatCall,
    CountCall,
    EmbedCall,
    ErrorKind,
    Facts,
    HttpRequest,
    Image,
    Message,
    Opaque,
    OutputFormat,
    Reasoning,
    Refusal,
    Role,
    Sampling,
    ServerError,
    Text,
    TextCall,
    Thinking,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
)
from llm_server.providers.dialects.anthropic import Anthropic
from tests.providers.calls import assistant, chat, system, tool, user

SCHEMA = Raw(b'{"type":"object"}')
OLD, NEW = "claude-sonnet-4-5-20250929", "claude-opus-4-6"


def encode(call: Any, facts: Facts | None = None) -> HttpRequest:
    return Anthropic().encode(call, facts or Facts())


def sent(call: Any, facts: Facts | None = None) -> dict[str, Any]:
    return json.decode(encode(call, facts).body)  # type: ignore[no-any-return]  # a JSON object


def own(body: bytes, kind: type[ChatCall] = ChatCall, **fields: Any) -> ChatCall:
    return kind(model="claude", dialect="anthropic", raw=body, messages=(), **fields)


# --- the caller's own fields -------------------------------------------------------------------------------


def test_callers_fields_go_on_unchanged_but_for_the_model() -> None:
    raw = b'{"model":"p","max_tokens":5,"system":[{"text":"x-anthropic-billing-header: a"}],"new":1.0}'
    request = encode(own(raw))
    assert request.path == "v1/messages"
    assert request.body == raw.replace(b'"p"', b'"claude"')
    assert request.dropped == ()


def test_callers_own_headers_go_on_byte_for_byte_and_no_others() -> None:
    headers = (("anthropic-version", "2026-10-21"), ("anthropic-beta", "a-1,b-2"), ("x-api-key", "theirs"))
    version = ("anthropic-version", "2023-06-01")
    assert encode(own(b"{}", headers=headers)).headers == (*JSON_BODY, *headers[:2])
    assert encode(own(b"{}")).headers == (*JSON_BODY, version)
    assert encode(own(b"{}", headers=headers[1:2])).headers == (
        *JSON_BODY,
        version,
        ("anthropic-beta", "a-1,b-2"),
    )
    assert encode(chat(headers=headers)).headers == (*JSON_BODY, version)


def test_refused_sampling_parameters_are_left_out_and_named() -> None:
    facts = Facts(refuses=frozenset({"temperature", "top_k"}))
    request = encode(own(b'{"model":"p","temperature":0.5,"top_p":0.5}'), facts)
    assert json.decode(request.body) == {"model": "claude", "top_p": 0.5}
    assert request.dropped == ("temperature",)
    assert encode(chat(sampling=Sampling(temperature=0.5)), facts).dropped == ("temperature",)


def test_counting_goes_to_its_own_path_without_a_limit() -> None:
    request = encode(own(b'{"model":"p","messages":[]}', CountCall))
    assert (request.path, request.body) == ("v1/messages/count_tokens", b'{"model":"claude","messages":[]}')
    translated = CountCall(model="claude", messages=(system("s"), user()), tools=(Tool(name="f"),))
    assert set(sent(translated)) == {"model", "messages", "system", "tools"}


# --- conversations -----------------------------------------------------------------------------------------


def turns(*messages: Message, dialect: str = "") -> list[tuple[str, list[dict[str, Any]]]]:
    body = sent(chat(*messages, dialect=dialect))
    return [(turn["role"], turn["content"]) for turn in body["messages"]]


def text(said: str) -> dict[str, Any]:
    return {"type": "text", "text": said}


def test_system_turns_move_to_the_head_wherever_they_stood() -> None:
    body = sent(chat(system("a"), system("b"), user(Text("1")), system("c"), user(Text("2"))))
    assert body["system"] == "a\nb\nc"
    assert body["messages"] == [{"role": "user", "content": [text("1"), text("2")]}]
    assert "system" not in sent(chat(user()))


def test_turns_of_one_speaker_are_merged_and_empty_ones_left_out() -> None:
    assert turns(user(Text("a")), user(Text("")), user(Text("b")), assistant(Text("c")), user(Text("d"))) == [
        ("user", [text("a"), text("b")]),
        ("assistant", [text("c")]),
        ("user", [text("d")]),
    ]


def test_tool_round_trip_has_results_first_in_one_turn() -> None:
    assert turns(
        user(),
        assistant(Text("ok"), ToolCall("t1", "f", '{"a": 1}'), ToolCall("t2", "g", "")),
        tool(ToolResult(call_id="t1", parts=(Text("one"),))),
        user(Text("and")),
        tool(ToolResult(call_id="t2", parts=(), is_error=True)),
    )[1:] == [
        (
            "assistant",
            [
                text("ok"),
                {"type": "tool_use", "id": "t1", "name": "f", "input": {"a": 1}},
                {"type": "tool_use", "id": "t2", "name": "g", "input": {}},
            ],
        ),
        (
            "user",
            [
                {"type": "tool_result", "tool_use_id": "t1", "content": [text("one")]},
                {"type": "tool_result", "tool_use_id": "t2", "is_error": True},
                text("and"),
            ],
        ),
    ]


@pytest.mark.parametrize("arguments", ["not json", "[1]", '"x"'])
def test_arguments_that_are_no_object_are_kept_inside_one(arguments: str) -> None:
    ((_, content),) = turns(assistant(ToolCall("t", "f", arguments)))
    assert content[0]["input"] == {"arguments": arguments}


def test_odd_tool_ids_are_fitted_alike() -> None:
    odd = "functions.f:0"
    (_, call), (_, result) = turns(
        assistant(ToolCall(odd, "f", "{}")), tool(ToolResult(call_id=odd, parts=()))
    )
    assert call[0]["id"] == result[0]["tool_use_id"]
    assert call[0]["id"].isalnum()


def test_images_by_url_and_inline_in_turns_and_results() -> None:
    inline, by_url = Image(data="QUJD", media_type="image/png"), Image(url="https://x/y.png", detail="auto")
    base64 = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "QUJD"}}
    url = {"type": "image", "source": {"type": "url", "url": "https://x/y.png"}}
    assert turns(user(inline, by_url, ToolResult(call_id="t", parts=(inline,)))) == [
        ("user", [{"type": "tool_result", "tool_use_id": "t", "content": [base64]}, base64, url])
    ]
    assert encode(chat(user(by_url))).dropped == ()
    assert encode(chat(user(Image(url="https://x", detail="low")))).dropped == ("image_url.detail",)


def test_thinking_goes_back_only_to_where_it_was_signed() -> None:
    thoughts = (
        Thinking(text="hm", signature="s"),
        Thinking(signature="c", redacted=True),
        Thinking(text="?"),
    )
    history = (user(), assistant(*thoughts, Text("a")), user())
    assert turns(*history, dialect="anthropic")[1][1] == [
        {"type": "thinking", "thinking": "hm", "signature": "s"},
        {"type": "redacted_thinking", "data": "c"},
        text("a"),
    ]
    assert turns(*history)[1][1] == [text("a")]
    assert encode(chat(*history)).dropped == ("thinking",)


def test_started_answer_ends_without_white_space() -> None:
    assert turns(user(), assistant(Text("The answer is: \n")))[-1] == ("assistant", [text("The answer is:")])
    assert [role for role, _ in turns(user(), assistant(Text(" \n")))] == ["user"]


def test_refusals_are_text_and_names_are_lost() -> None:
    request = encode(chat(Message(Role.USER, (Text("a"),), "ada"), assistant(Refusal("no")), user()))
    assert json.decode(request.body)["messages"][1] == {"role": "assistant", "content": [text("no")]}
    assert request.dropped == ("messages.name",)


# --- everything else ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "word"),
    [
        (EmbedCall(model="m", inputs=("a",)), "embeddings"),
        (TextCall(model="m", prompts=("a",)), "text completions"),
        (chat(user(Opaque("input_audio"))), "'input_audio'"),
        (chat(sampling=Sampling(n=2)), "choice"),
        (chat(sampling=Sampling(logprobs=0)), "log probabilities"),
        (chat(output=OutputFormat(kind="json_object")), "JSON"),
    ],
)
def test_what_cannot_be_said_is_refused(call: Any, word: str) -> None:
    with pytest.raises(ServerError) as caught:
        encode(call)
    assert caught.value.kind is ErrorKind.UNSUPPORTED
    assert word in caught.value.message


@pytest.mark.parametrize(
    ("asked", "limit", "expected"),
    [(None, None, 4096), (None, 8192, 8192), (None, 64000, 16384), (50, None, 50), (50, 8192, 50)],
)
def test_limit_is_always_sent(asked: int | None, limit: int | None, expected: int) -> None:
    request = encode(chat(sampling=Sampling(max_tokens=asked)), Facts(max_output_tokens=limit))
    assert json.decode(request.body)["max_tokens"] == expected
    assert request.dropped == ()


def test_sampling_is_translated_and_what_has_no_place_is_named() -> None:
    sampling = Sampling(
        temperature=1.7,
        top_p=0.5,
        top_k=40,
        seed=0,
        stop=("a", "\n\n", "b"),
        frequency_penalty=0.0,
        presence_penalty=0.1,
        logit_bias={"5": 1},
    )
    request = encode(chat(sampling=sampling, user="u", stream=True))
    body = json.decode(request.body)
    assert {name: body[name] for name in body.keys() - {"messages", "model", "max_tokens"}} == {
        "temperature": 1,
        "top_k": 40,
        "stop_sequences": ["a", "b"],
        "stream": True,
        "metadata": {"user_id": "u"},
    }
    assert request.dropped == (
        "top_p",
        "temperature:clamped",
        "stop",
        "seed",
        "frequency_penalty",
        "presence_penalty",
        "logit_bias",
    )


def test_top_p_alone_is_sent() -> None:
    request = encode(chat(sampling=Sampling(top_p=0.5)))
    assert json.decode(request.body)["top_p"] == 0.5
    assert request.dropped == ()


@pytest.mark.parametrize(
    ("parameters", "schema"),
    [
        (Raw(b"{}"), {"type": "object"}),
        (Raw(b'{"properties":{"a":{}}}'), {"type": "object", "properties": {"a": {}}}),
        (Raw(b'{"type":"object","x":1}'), {"type": "object", "x": 1}),
    ],
)
def test_schema_of_a_tool_always_says_that_it_is_an_object(parameters: Raw, schema: dict[str, Any]) -> None:
    assert sent(chat(tools=(Tool(name="f", parameters=parameters),)))["tools"][0]["input_schema"] == schema


def test_tools_are_translated() -> None:
    tools = (
        Tool(name="f", description="d", parameters=SCHEMA, strict=True),
        Tool(name="g", strict=False),
        Tool(name="custom", type="custom"),
    )
    request = encode(chat(tools=tools))
    assert json.decode(request.body)["tools"] == [
        {"name": "f", "description": "d", "input_schema": {"type": "object"}, "strict": True},
        {"name": "g", "input_schema": {"type": "object", "properties": {}}},
    ]
    assert request.dropped == ("tools[custom]",)


@pytest.mark.parametrize(
    ("choice", "parallel", "expected"),
    [
        (None, None, None),
        (None, True, None),
        (None, False, {"type": "auto", "disable_parallel_tool_use": True}),
        (ToolChoice("auto"), None, {"type": "auto"}),
        (ToolChoice("none"), False, {"type": "none"}),
        (ToolChoice("required"), False, {"type": "any", "disable_parallel_tool_use": True}),
        (ToolChoice("tool", "f"), None, {"type": "tool", "name": "f"}),
    ],
)
def test_tool_choice(
    choice: ToolChoice | None, parallel: bool | None, expected: dict[str, Any] | None
) -> None:
    call = chat(tools=(Tool(name="f"),), tool_choice=choice, parallel_tools=parallel)
    assert sent(call).get("tool_choice") == expected
    assert "tool_choice" not in sent(chat(tool_choice=choice, parallel_tools=parallel))


def test_schema_of_an_answer() -> None:
    output = OutputFormat(kind="json_schema", schema=SCHEMA, name="n", strict=True)
    body = sent(chat(output=output, reasoning=Reasoning(effort="low"), model=NEW))
    assert body["output_config"] == {
        "format": {"type": "json_schema", "schema": {"type": "object"}},
        "effort": "low",
    }


@pytest.mark.parametrize(
    ("model", "reasoning", "expected"),
    [
        (OLD, Reasoning(effort="low"), {"thinking": {"type": "enabled", "budget_tokens": 2048}}),
        (OLD, Reasoning(effort="high"), {"thinking": {"type": "enabled", "budget_tokens": 15360}}),
        (OLD, Reasoning(budget_tokens=3000), {"thinking": {"type": "enabled", "budget_tokens": 3000}}),
        ("claude-3-7-sonnet-latest", Reasoning(budget_tokens=100), {}),
        (
            "claude-opus-4-20250514",
            Reasoning(effort="minimal"),
            {"thinking": {"type": "enabled", "budget_tokens": 1024}},
        ),
        (OLD, Reasoning(), {}),
        (OLD, Reasoning(effort="default"), {}),
        (OLD, Reasoning(enabled=False), {"thinking": {"type": "disabled"}}),
        (OLD, Reasoning(effort="none", enabled=False), {"thinking": {"type": "disabled"}}),
        (
            NEW,
            Reasoning(effort="high"),
            {"thinking": {"type": "adaptive"}, "output_config": {"effort": "high"}},
        ),
        (
            NEW,
            Reasoning(effort="minimal"),
            {"thinking": {"type": "adaptive"}, "output_config": {"effort": "low"}},
        ),
        (NEW, Reasoning(budget_tokens=9000), {"thinking": {"type": "adaptive"}}),
        (
            "claude-sonnet-5",
            Reasoning(effort="max"),
            {"thinking": {"type": "adaptive"}, "output_config": {"effort": "max"}},
        ),
    ],
)
def test_how_much_to_think_is_said_in_the_way_of_the_models_generation(
    model: str, reasoning: Reasoning, expected: dict[str, Any]
) -> None:
    body = sent(chat(model=model, reasoning=reasoning), Facts(max_output_tokens=64000))
    assert {name: body[name] for name in ("thinking", "output_config") if name in body} == expected


def test_sampling_is_left_out_beside_thinking() -> None:
    request = encode(
        chat(model=NEW, reasoning=Reasoning(effort="low"), sampling=Sampling(temperature=0.1, top_k=5))
    )
    assert not json.decode(request.body).keys() & {"temperature", "top_k"}
    assert request.dropped == ("temperature", "top_k")


@pytest.mark.parametrize(
    ("call", "facts"),
    [
        (chat(model=NEW, reasoning=Reasoning(effort="low")), Facts(reasoning=False)),
        (
            chat(
                model=NEW,
                reasoning=Reasoning(effort="low"),
                tools=(Tool(name="f"),),
                tool_choice=ToolChoice("required"),
            ),
            Facts(),
        ),
        (
            chat(
                user(),
                assistant(ToolCall("t", "f", "{}")),
                tool(ToolResult(call_id="t", parts=())),
                model=OLD,
                reasoning=Reasoning(budget_tokens=2000),
            ),
            Facts(),
        ),
    ],
    ids=["model does not think", "a tool is forced", "a budget amid tools without the thinking before"],
)
def test_thinking_is_left_out_where_it_would_be_refused(call: ChatCall, facts: Facts) -> None:
    request = encode(call, facts)
    assert "thinking" not in json.decode(request.body)
    assert request.dropped == ("reasoning",)


def test_models_are_listed_in_one_page() -> None:
    request = Anthropic().models_request()
    assert (request.method, request.path) == ("GET", "v1/models?limit=1000")
