"""What a call needs that a model lacks is named in words."""

import pytest

from llm_server.contract import (
    Call,
    ChatCall,
    CountCall,
    EmbedCall,
    ErrorKind,
    Facts,
    Image,
    Message,
    OutputFormat,
    Role,
    Sampling,
    Text,
    TextCall,
    Tool,
    ToolResult,
    missing,
)
from llm_server.contract.facts import CAPABILITIES, FIELDS, WHOLE, WORDS, needs_lacking, unsupported

USER = (Message(Role.USER, (Text("hi"),)),)
PICTURE = Image(url="https://x.test")
NOTHING = Facts(
    chat=False,
    tools=False,
    images=False,
    json_object=False,
    json_schema=False,
    logprobs=False,
    choices=False,
    reasoning=False,
    dimensions=False,
)
EVERYTHING = Facts(completions=True, embeddings=True, token_ids=True, count_tokens=True, grammar=True)


def chat(**fields: object) -> ChatCall:
    return ChatCall(model="m", **{"messages": USER, **fields})  # type: ignore[arg-type]  # fields of a table


NEEDS: dict[str, Call] = {
    "tools": chat(tools=(Tool(name="f"),)),
    "grammar": chat(output=OutputFormat(kind="grammar")),
    "images": chat(messages=(Message(Role.USER, (PICTURE,)),)),
    "json_schema": chat(output=OutputFormat(kind="json_schema")),
    "json_object": chat(output=OutputFormat(kind="json_object")),
    "logprobs": chat(sampling=Sampling(logprobs=0)),
    "choices": chat(sampling=Sampling(n=2)),
    "chat": chat(),
    "embeddings": EmbedCall(model="m", inputs=("a",)),
    "dimensions": EmbedCall(model="m", inputs=("a",), dimensions=8),
    "token_ids": EmbedCall(model="m", inputs=((1, 2),)),
    "completions": TextCall(model="m", prompts=("a",), echo=True),
    "count_tokens": CountCall(model="m", messages=USER),
}


def test_every_capability_is_asked_for() -> None:
    assert set(NEEDS) == set(WORDS)


@pytest.mark.parametrize("need", NEEDS)
def test_a_missing_capability_is_named(need: str) -> None:
    assert WORDS[need] in missing(NEEDS[need], NOTHING)


@pytest.mark.parametrize("need", NEEDS)
def test_a_model_that_can_do_everything_lacks_nothing(need: str) -> None:
    assert missing(NEEDS[need], EVERYTHING) == ""


def test_only_what_is_missing_is_named() -> None:
    call = chat(tools=(Tool(name="f"),), sampling=Sampling(n=2))
    assert missing(call, Facts(tools=False)) == "tools"
    assert missing(call, Facts(tools=False, choices=False)) == "tools, more than one choice (n)"


def test_an_image_in_a_tool_result_is_an_image() -> None:
    result = ToolResult(call_id="1", parts=(Text("see"), PICTURE))
    assert missing(chat(messages=(Message(Role.TOOL, (result,)),)), Facts(images=False)) == "images"


def test_a_plain_completion_may_become_a_chat() -> None:
    assert missing(TextCall(model="m", prompts=("a",)), Facts()) == ""
    assert missing(TextCall(model="m", prompts=((1,),)), Facts()) == WORDS["token_ids"]
    for call in (
        TextCall(model="m", prompts=("a",), suffix="z"),
        TextCall(model="m", prompts=("a",), echo=True),
        TextCall(model="m", prompts=("a",), sampling=Sampling(logprobs=1)),
    ):
        assert missing(call, Facts()) == WORDS["completions"]
        assert missing(call, Facts(completions=True)) == ""


def test_a_native_completion_needs_what_it_asks_for_beside_text() -> None:
    logprobs = TextCall(model="m", prompts=("a",), sampling=Sampling(logprobs=0))
    assert missing(logprobs, Facts(completions=True, logprobs=False)) == WORDS["logprobs"]
    several = TextCall(model="m", prompts=("a",), sampling=Sampling(n=2))
    assert missing(several, Facts(completions=True, choices=False)) == WORDS["choices"]


def refused(call: Call, facts: Facts) -> tuple[str | None, str]:
    error = unsupported(call, {"p/m": needs_lacking(call, facts)})
    assert error.kind is ErrorKind.UNSUPPORTED
    return error.param, error.message


@pytest.mark.parametrize("need", sorted(WHOLE))
def test_who_asks_for_the_whole_of_what_is_missing_needs_another_model(need: str) -> None:
    param, message = refused(NEEDS[need], NOTHING)
    assert param == "model"
    assert message.endswith(". Choose another model.")
    assert "Leave out" not in message


@pytest.mark.parametrize("need", sorted(set(FIELDS) - {"dimensions", "token_ids"}))
def test_who_asks_for_more_in_one_field_is_told_which(need: str) -> None:
    param, message = refused(NEEDS[need], Facts(**{need: False}))
    assert param == FIELDS[need][0]
    assert "Leave out " in message


@pytest.mark.parametrize(
    ("call", "param", "leave"),
    [
        (EmbedCall(model="m", inputs=("a",), dimensions=8), "dimensions", "Leave out `dimensions`,"),
        (EmbedCall(model="m", inputs=((1,),)), "input", "Leave out the token ids in `input`,"),
        (TextCall(model="m", prompts=((1,),)), "prompt", "Leave out the token ids in `prompt`,"),
        (TextCall(model="m", prompts=("a",), suffix="b", echo=True), "suffix", "`suffix` and `echo`,"),
        (chat(tools=(Tool(name="f"),), sampling=Sampling(n=2)), "tools", "Leave out `tools` and `n`,"),
        (chat(output=OutputFormat(kind="json_schema")), "response_format", "Leave out the response format,"),
    ],
)
def test_the_fields_are_those_of_the_callers_request(call: Call, param: str, leave: str) -> None:
    lacking = Facts(embeddings=True, tools=False, choices=False, json_schema=False, dimensions=False)
    told, message = refused(call, lacking)
    assert told == param
    assert leave in message


def test_advice_is_for_the_model_that_a_field_would_help() -> None:
    call = chat(tools=(Tool(name="f"),))
    error = unsupported(call, {"a/x": ("chat", "tools"), "b/y": ("tools",)})
    assert error.param == "tools"
    assert error.message.startswith(
        "a/x does not support chat, tools; b/y does not support tools. Leave out `t"
    )


def test_counting_needs_what_the_conversation_needs() -> None:
    count = CountCall(model="m", messages=(Message(Role.USER, (PICTURE,)),))
    assert missing(count, Facts(images=False, count_tokens=True)) == "images"


def test_capabilities_are_what_a_person_asks_for() -> None:
    known = Facts(embeddings=True, known=CAPABILITIES)
    assert known.capabilities == ("chat", "tools", "images", "json_schema", "reasoning")
    assert Facts(chat=False, embeddings=True, known=CAPABILITIES).capabilities == ("embeddings",)


def test_no_capability_is_a_guess() -> None:
    assert Facts().capabilities == ()
    assert Facts(images=False, known=frozenset({"tools", "images"})).capabilities == ("tools",)
