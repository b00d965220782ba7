"""What a call needs that a model lacks is named in words."""

import pytest

from llm_server.contract import (
    Call,
    ChatCall,
    CountCall,
    EmbedCall,
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
from llm_server.contract.facts import WORDS

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
EVERYTHING = Facts(completions=True, embeddings=True, token_ids=True, count_tokens=True)


def chat(**fields: object) -> ChatCall:
    return ChatCall(model="m", **{"messages": USER, **fields})  # type: ignore[arg-type]  # fields of a table


NEEDS: dict[str, Call] = {
    "tools": chat(tools=(Tool(name="f"),)),
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


def test_counting_needs_what_the_conversation_needs() -> None:
    count = CountCall(model="m", messages=(Message(Role.USER, (PICTURE,)),))
    assert missing(count, Facts(images=False, count_tokens=True)) == "images"


def test_capabilities_are_what_a_person_asks_for() -> None:
    assert Facts(embeddings=True).capabilities == ("chat", "tools", "images", "json_schema", "reasoning")
    assert Facts(chat=False, embeddings=True).capabilities == ("embeddings",)
