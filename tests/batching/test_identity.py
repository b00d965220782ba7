"""Which calls are shared, and which are the same."""

from typing import Any

import pytest

from llm_server.batching import Shared, SingleFlightConfig
from llm_server.batching.sharing import is_repeatable, key_of
from llm_server.contract import (
    Call,
    ChatCall,
    CountCall,
    EmbedCall,
    Message,
    OutputFormat,
    Role,
    Sampling,
    Text,
    TextCall,
    Tool,
    ToolChoice,
)
from llm_server.testing import FakeProvider
from tests.batching.upstream import Heard, ask, context


def chat(text: str = "hi", **fields: Any) -> ChatCall:
    fields = {"sampling": Sampling(temperature=0.0), "stream": True, **fields}
    return ChatCall(model="m", messages=(Message(Role.USER, (Text(text),)),), **fields)


FORM = OutputFormat(kind="json_object")
TOOL = Tool(name="t")
CHAT_0 = Sampling(temperature=0.0)


@pytest.mark.parametrize(
    ("call", "repeatable"),
    [
        (chat(), True),
        (chat(sampling=Sampling(seed=0)), True),
        (chat(sampling=Sampling(temperature=1.0, seed=7)), True),
        (chat(tools=(TOOL,)), True),
        (chat(tools=(TOOL,), tool_choice=ToolChoice("auto")), True),
        (chat(sampling=Sampling()), False),
        (chat(sampling=Sampling(temperature=0.1)), False),
        (chat(output=FORM), False),
        (chat(tools=(TOOL,), tool_choice=ToolChoice("required")), False),
        (chat(tools=(TOOL,), tool_choice=ToolChoice("tool", "t")), False),
        (chat(tools=(Tool(name="t", strict=True),)), False),
        (chat(tools=(Tool(name="t", type="web_search"),)), False),
        (CountCall(model="m", messages=(), sampling=CHAT_0), False),
        (TextCall(model="m", prompts=("a",), sampling=CHAT_0), True),
        (TextCall(model="m", prompts=("a",), sampling=Sampling(seed=1)), True),
        (TextCall(model="m", prompts=("a",)), False),
        (EmbedCall(model="m", inputs=("a",)), True),
    ],
)
def test_what_is_shared(call: Call, repeatable: bool) -> None:
    assert is_repeatable(call) is repeatable
    answers = Shared(FakeProvider(), SingleFlightConfig(), Heard())(call, context())
    inners_own = getattr(answers, "ag_code", None) is FakeProvider.__call__.__code__
    assert inners_own is not repeatable


BODY = b'{"model": "m", "temperature": 0, "seed": 1, "messages": [{"role": "user", "content": "hi"}]}'
SAME = b'{"seed":1,"temperature":0,"messages":[{"role":"user","content":"hi"}],"model":"alias"}'


@pytest.mark.parametrize(
    "other",
    [
        {"model": "other"},
        {"stream": False},
        {"dialect": "another"},
        {"headers": (("x-beta", "1"),)},
        {"raw": BODY.replace(b'"hi"', b'"ho"')},
        {"raw": BODY.replace(b'"seed": 1', b'"seed": 2')},
        {"raw": BODY.replace(b"{", b'{"unknown": 1, ', 1)},
        {"raw": b""},
        {"amended": frozenset({"user"}), "user": "u"},
    ],
)
def test_what_differs_is_not_shared(other: dict[str, Any]) -> None:
    fields: dict[str, Any] = {"model": "m", "stream": True, "dialect": "d", "headers": (), "raw": BODY}
    one = ChatCall(messages=(), **fields)
    two = ChatCall(messages=(), **{**fields, **other})
    assert key_of(one, "") != key_of(two, "")


def test_tenants_share_nothing() -> None:
    assert key_of(chat(), "one") != key_of(chat(), "two")


def test_order_white_space_and_the_models_other_name_are_no_difference() -> None:
    one, two = (ChatCall(model="m", messages=(), raw=raw) for raw in (BODY, SAME))
    assert key_of(one, "") == key_of(two, "")


def test_calls_without_bytes_are_told_by_their_meaning() -> None:
    assert key_of(chat("a"), "") == key_of(chat("a"), "")
    assert key_of(chat("a"), "") != key_of(chat("b"), "")
    assert key_of(chat(sampling=Sampling(seed=1)), "") != key_of(chat(sampling=Sampling(seed=2)), "")
    biases = [
        Sampling(seed=1, logit_bias=dict(each))
        for each in ([("1", 1.0), ("2", 2.0)], [("2", 2.0), ("1", 1.0)])
    ]
    assert key_of(chat(sampling=biases[0]), "") == key_of(chat(sampling=biases[1]), "")
    embed, text = ask("a"), TextCall(model="m", prompts=("a",))
    assert key_of(embed, "") != key_of(text, "")
