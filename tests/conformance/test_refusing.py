"""What is not supported is refused in words, and nothing is sent."""

from typing import Any

import msgspec
import pytest

from llm_server.contract import (
    Call,
    ChatCall,
    Context,
    CountCall,
    EmbedCall,
    ErrorKind,
    Facts,
    Image,
    Message,
    Opaque,
    OutputFormat,
    Role,
    Sampling,
    ServerError,
    Text,
    TextCall,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
)
from llm_server.contract.facts import WORDS, needs_lacking
from llm_server.pipeline.routed import Routed
from llm_server.routing import FixedOrder, RoutingConfig
from llm_server.testing import collect, outcome
from tests.conformance.enrolled import ENROLLED, HELLO, Enrolled, provider, rows
from tests.upstreams.server import vendor
from tests.upstreams.upstream import Upstream

CHAT = ChatCall(model="m", messages=HELLO)
SCHEMA = msgspec.Raw(b'{"type":"object"}')
PICTURE = Image(url="https://example.com/a.png")

NEEDS: dict[str, Call] = {
    "chat": CHAT,
    "completions": TextCall(model="m", prompts=("a",), suffix="b"),
    "embeddings": EmbedCall(model="m", inputs=("a",)),
    "tools": msgspec.structs.replace(CHAT, tools=(Tool(name="f"),)),
    "images": msgspec.structs.replace(CHAT, messages=(Message(Role.USER, (PICTURE,)),)),
    "json_object": msgspec.structs.replace(CHAT, output=OutputFormat(kind="json_object")),
    "json_schema": msgspec.structs.replace(CHAT, output=OutputFormat(kind="json_schema", schema=SCHEMA)),
    "grammar": msgspec.structs.replace(CHAT, output=OutputFormat(kind="grammar", grammar='start: "a"')),
    "logprobs": msgspec.structs.replace(CHAT, sampling=Sampling(logprobs=0)),
    "choices": msgspec.structs.replace(CHAT, sampling=Sampling(n=2)),
    "token_ids": EmbedCall(model="m", inputs=((1, 2),)),
    "dimensions": EmbedCall(model="m", inputs=("a",), dimensions=8),
    "count_tokens": CountCall(model="m", messages=HELLO),
}
"""For each capability a call that needs it, and nothing else that is rare."""

SOFT = {"reasoning"}
"""Capabilities without which a call is answered all the same, and what was lost is named."""

INSTEAD = {"forced_tools": "tools", "guided": "grammar"}
"""Capabilities that nothing needs: they stand in for another one that is lacking."""

PROMISED = {"grammar_exact"}
"""What says how well a model keeps to a form: nothing needs it."""

HOSTED = {"grammar": "guided"}
"""Capabilities that hosted models have only by another one: none decodes by the grammars compiled here."""


async def refusal(who: Enrolled, call: Call, up: Upstream, **config: Any) -> ServerError:
    """Return the error of a call that goes the whole way: through routing to the row's provider."""
    async with provider(who, up, **config) as given:
        routed = Routed(FixedOrder(RoutingConfig(), {given.name}, {}), {given.name: given})
        answers, error = await outcome(routed(call.addressed(f"{given.name}/m"), Context(request_id="r")))
    assert answers == []
    assert error is not None
    return error


def test_every_capability_is_examined() -> None:
    flags = {
        name
        for name, default in zip(Facts.__struct_fields__, Facts.__struct_defaults__, strict=True)
        if isinstance(default, bool)
    }
    assert set(NEEDS) | SOFT | INSTEAD.keys() | PROMISED == flags
    assert set(NEEDS) == set(WORDS)


@pytest.mark.parametrize(("instead", "flag"), INSTEAD.items())
def test_what_stands_in_for_a_capability_is_enough(instead: str, flag: str) -> None:
    forced = {"tool_choice": ToolChoice("tool", "f")} if flag == "tools" else {}
    call = msgspec.structs.replace(NEEDS[flag], **forced)
    lacking = msgspec.structs.replace(Facts(), **{flag: False})
    assert needs_lacking(call, lacking) == (flag,)
    assert needs_lacking(call, msgspec.structs.replace(lacking, **{instead: True})) == ()


@pytest.mark.parametrize("flag", NEEDS)
@rows()
async def test_a_model_that_lacks_something_refuses_it_and_sends_nothing(who: Enrolled, flag: str) -> None:
    facts = {"embeddings": True, "token_ids": True, "completions": flag == "token_ids"}
    facts[HOSTED.get(flag, flag)] = False
    async with vendor(who.vendor) as up:
        error = await refusal(who, NEEDS[flag], up, facts={"*": facts})
        assert up.requests == []
    assert error.kind is ErrorKind.UNSUPPORTED
    assert WORDS[flag] in error.message


@pytest.mark.parametrize(
    ("who", "flag"),
    [
        pytest.param(who, flag, id=f"{who.id}-{flag}")
        for who in ENROLLED
        for flag in NEEDS
        if needs_lacking(NEEDS[flag], who.row.facts)
        and flag not in {"token_ids", "completions", "dimensions"}
    ],
)
async def test_what_a_row_says_it_lacks_is_refused_and_nothing_is_sent(who: Enrolled, flag: str) -> None:
    async with vendor(who.vendor) as up:
        error = await refusal(who, NEEDS[flag], up)
        assert up.requests == []
    assert error.kind is ErrorKind.UNSUPPORTED
    assert WORDS[flag] in error.message


def _holding(*parts: Any) -> ChatCall:
    return msgspec.structs.replace(CHAT, messages=(Message(Role.USER, parts),))


UNSAYABLE: dict[str, tuple[Call, set[str]]] = {
    "opaque part": (_holding(Text("a"), Opaque("input_audio")), {"openai", "anthropic", "gemini", "cohere"}),
    "image by http": (_holding(Image(url="http://example.com/a.png")), {"gemini"}),
    "image in a result": (
        msgspec.structs.replace(
            CHAT,
            messages=(
                *HELLO,
                Message(Role.ASSISTANT, (ToolCall("c", "f", "{}"),)),
                Message(Role.USER, (ToolResult(call_id="c", parts=(PICTURE,)),)),
            ),
        ),
        {"cohere"},
    ),
    "token ids": (EmbedCall(model="m", inputs=((1,),)), {"gemini", "cohere", "anthropic"}),
    "embeddings": (EmbedCall(model="m", inputs=("a",)), {"anthropic"}),
    "count": (CountCall(model="m", messages=HELLO), {"openai", "cohere"}),
    "text": (TextCall(model="m", prompts=("a",)), {"anthropic", "gemini", "cohere"}),
    "choices": (NEEDS["choices"], {"anthropic"}),
    "logprobs": (NEEDS["logprobs"], {"anthropic"}),
    "json without a schema": (NEEDS["json_object"], {"anthropic"}),
}
"""Calls that a dialect has no words for, even if somebody claims in a configuration that a model can."""

EVERYTHING = dict.fromkeys([HOSTED.get(flag, flag) for flag in NEEDS], True)


@pytest.mark.parametrize(
    ("who", "call"),
    [
        pytest.param(who, call, id=f"{who.id}-{what}")
        for who in ENROLLED
        for what, (call, refusing) in UNSAYABLE.items()
        if who.row.dialect in refusing
    ],
)
async def test_what_a_dialect_cannot_say_is_refused_and_nothing_is_sent(who: Enrolled, call: Call) -> None:
    async with vendor(who.vendor) as up:
        error = await refusal(who, call, up, facts={"*": EVERYTHING})
        assert up.requests == []
    assert error.kind is ErrorKind.UNSUPPORTED
    assert error.message


@rows("openai", "anthropic")
async def test_a_caller_of_the_dialect_may_say_what_nothing_here_models(who: Enrolled) -> None:
    """The caller's own bytes go on, so a part that is opaque to this server is none to the upstream."""
    body = (
        b'{"model":"x","max_tokens":5,"messages":[{"role":"user","content":[{"type":"brand_new","x":1.50}]}]}'
    )
    call = ChatCall(
        model="m", dialect=who.row.dialect, raw=body, messages=(Message(Role.USER, (Opaque("brand_new"),)),)
    )
    async with vendor(who.vendor) as up, provider(who, up) as given:
        assert len(await collect(given(call, Context(request_id="r")))) == 1
        assert b'{"type":"brand_new","x":1.50}' in up.requests[0].body


@pytest.mark.parametrize("model", ["../x", "a\nb", "", "x" * 300, "a\\b"])
@rows()
async def test_a_name_that_is_no_models_name_is_refused_and_nothing_is_sent(
    who: Enrolled, model: str
) -> None:
    async with vendor(who.vendor) as up, provider(who, up) as given:
        _, error = await outcome(given(CHAT.addressed(model), Context(request_id="r")))
        assert up.requests == []
    assert error is not None
    assert error.kind is ErrorKind.INVALID_REQUEST


@pytest.mark.parametrize("model", ["a/../../v1/files", "a?key=b", "a#b", "a%2e%2e/b", "ü/ö:x"])
@rows()
async def test_a_models_name_never_leaves_its_place_in_a_path(who: Enrolled, model: str) -> None:
    async with vendor(who.vendor) as up, provider(who, up) as given:
        await outcome(given(CHAT.addressed(model), Context(request_id="r")))
        plain = who.dialect.encode(CHAT.addressed("m"), Facts())
        for request in up.requests:
            assert request.target.count("?") == plain.path.count("?")
            assert request.path.count("/") == f"{who.prefix}/{plain.path}".partition("?")[0].count("/")
