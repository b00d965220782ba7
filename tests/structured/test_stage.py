"""What the stage passes on, how it asks again, and where it stops."""

import asyncio
import json
import threading
import time
from typing import Any

import msgspec
import pytest
from msgspec import Raw

from llm_server.contract import (
    ChatCall,
    Completion,
    Context,
    CountCall,
    EmbedCall,
    ErrorKind,
    Facts,
    FinishReason,
    Message,
    Opaque,
    OutputFormat,
    Problem,
    Refusal,
    Role,
    Sampling,
    ServerError,
    State,
    Text,
    Tool,
    ToolChoice,
    ToolResult,
    Usage,
    missing,
)
from llm_server.structured import parsing
from llm_server.structured.config import StructuredConfig
from llm_server.structured.parsing import MAX_READ
from llm_server.structured.stage import Structured
from llm_server.structured.trial import LONG
from llm_server.testing import FakeProvider, collect
from tests.structured.answering import (
    CALLING,
    ENFORCED,
    GOOD,
    HELLO,
    PERSON,
    PLAIN,
    Model,
    ask,
    call,
    calling,
    choice,
    forcing,
    schema,
)

BAD = '{"name":"Ada","age":-1}'
WEATHER = Tool(name="weather", parameters=Raw(b'{"type":"object"}'))


@pytest.mark.parametrize(
    "free",
    [
        call(),
        call(tools=(WEATHER,)),
        call(tools=(WEATHER, WEATHER), tool_choice=ToolChoice("auto")),
        call(tools=(WEATHER,), tool_choice=ToolChoice("none")),
        EmbedCall(model="m", inputs=("a",)),
        CountCall(model="m", messages=HELLO, output=schema(PERSON)),
    ],
)
async def test_calls_without_a_demand_pass_through_untouched(free: ChatCall) -> None:
    provider = FakeProvider()
    stage = Structured(provider)
    ctx = Context(request_id="r")
    answers = await collect(stage(free, ctx))
    assert provider.calls == [free]
    assert provider.calls[0] is free
    assert len(answers) == 1
    assert ctx.structured is None


async def test_it_is_a_provider_like_the_one_inside() -> None:
    provider = FakeProvider(name="acme", facts=PLAIN)
    stage = Structured(provider)
    await stage.start()
    assert (stage.name, stage.state(), await stage.models()) == (
        "acme",
        (State.READY, ""),
        await provider.models(),
    )
    facts = stage.facts("m")
    assert stage.facts("m") is facts
    assert facts.json_schema
    assert facts.json_object
    assert not facts.tools
    assert missing(forcing(PERSON), facts) == ""
    assert missing(call(tools=(WEATHER,)), facts) == "tools"
    assert missing(call(OutputFormat(kind="grammar", grammar="x")), facts) != ""
    assert Structured(FakeProvider(facts=Facts(chat=False))).facts("m") == Facts(chat=False)
    await stage.close()


async def test_a_request_that_the_upstream_takes_is_passed_on_byte_for_byte() -> None:
    own = {**PERSON, "required": list(PERSON["properties"])}
    own["properties"] = {"name": {"type": "string"}, "age": {"type": "integer"}}
    own["required"] = ["name", "age"]
    asked = call(schema(own, strict=True), raw=b"{...}", dialect="openai")
    raw = b"the upstream's own words"
    whole = Completion(choices=(choice(Text(GOOD)),), raw=raw)
    provider = FakeProvider(script=lambda _: (whole,), facts=ENFORCED)
    (answer,) = await collect(Structured(provider)(asked, Context(request_id="r")))
    assert provider.calls[0] is asked
    assert answer is whole


async def test_what_is_amended_is_named_and_the_rest_stays() -> None:
    _, provider = await ask(call(schema(PERSON), raw=b"{...}", dialect="openai"), GOOD)
    (asked,) = provider.calls
    assert asked.raw == b"{...}"
    assert asked.amended == {"output"}
    assert isinstance(asked, ChatCall)
    assert asked.output is not None
    assert asked.output.strict is True
    sent = json.loads(bytes(asked.output.schema))
    assert sent["required"] == ["name", "age", "mood", "born"]


async def test_a_caller_may_ask_loosely() -> None:
    told, provider = await ask(call(schema(PERSON, strict=False)), GOOD)
    assert told.ctx.structured is not None
    assert told.ctx.structured.guarantee == "validated"
    (asked,) = provider.calls
    assert isinstance(asked, ChatCall)
    assert asked.output is not None
    assert asked.output.strict is False


async def test_nulls_that_stand_for_nothing_are_left_out() -> None:
    told, _ = await ask(call(schema(PERSON)), '{"name":"Ada","age":36,"mood":null,"born":null}')
    assert told.text == GOOD
    assert told.note == "native valid 1"
    assert told.ctx.structured is not None
    assert told.ctx.structured.raw_text.endswith('"born":null}')
    assert told.ctx.structured.dropped == ("minimum", "format")
    assert told.ctx.structured.guarantee == "relaxed"


async def test_the_model_is_told_what_is_wrong() -> None:
    _, provider = await ask(call(schema(PERSON)), BAD, GOOD)
    again = provider.calls[1]
    assert isinstance(again, ChatCall)
    *before, said, complaint = again.messages
    assert tuple(before) == HELLO
    assert (said.role, said.text) == (Role.ASSISTANT, BAD)
    assert complaint.role is Role.USER
    assert "/age" in complaint.text
    assert "-1" in complaint.text


async def test_what_is_wrong_with_a_call_is_its_tools_answer() -> None:
    _, provider = await ask(forcing(PERSON), BAD, GOOD)
    again = provider.calls[1]
    assert isinstance(again, ChatCall)
    said, complaint = again.messages[-2:]
    assert said.parts == calling(BAD, "person").parts
    (result,) = complaint.parts
    assert isinstance(result, ToolResult)
    assert result.call_id == "call_1"


async def test_an_empty_answer_is_not_said_again() -> None:
    _, provider = await ask(call(schema(PERSON)), "", GOOD)
    again = provider.calls[1]
    assert isinstance(again, ChatCall)
    assert len(again.messages) == 2


async def test_a_conversation_of_another_dialect_is_asked_again_as_it_was() -> None:
    opaque = (*HELLO, Message(Role.USER, (Opaque("input_audio"),)))
    told, provider = await ask(call(schema(PERSON), messages=opaque, raw=b"{}"), BAD, GOOD)
    assert told.text == GOOD
    assert provider.calls[0] == provider.calls[1]


async def test_the_next_method_is_tried_where_the_provider_refuses_one() -> None:
    refusal = ServerError(ErrorKind.INVALID_REQUEST, "compiled grammar is too large")
    told, provider = await ask(call(schema(PERSON)), refusal, GOOD)
    assert told.note == "tool valid 1"
    assert told.text == GOOD
    assert len(provider.calls) == 2


async def test_what_every_method_is_refused_is_the_callers_fault() -> None:
    first = ServerError(ErrorKind.INVALID_REQUEST, "no such image")
    told, provider = await ask(call(schema(PERSON)), first, ServerError(ErrorKind.INVALID_REQUEST, "other"))
    assert told.error is first
    assert len(provider.calls) == 3


async def test_a_failure_is_a_failure() -> None:
    told, provider = await ask(call(schema(PERSON)), ServerError(ErrorKind.UPSTREAM_OVERLOADED, "busy"))
    assert told.error is not None
    assert told.error.kind is ErrorKind.UPSTREAM_OVERLOADED
    assert len(provider.calls) == 1


async def test_a_provider_that_judges_its_model_itself_is_asked_again() -> None:
    broken = ServerError(ErrorKind.UPSTREAM_INVALID, "json_validate_failed")
    told, provider = await ask(call(schema(PERSON)), broken, GOOD)
    assert told.note == "native valid 2"
    told, provider = await ask(call(schema(PERSON)), broken)
    assert told.error is broken
    assert len(provider.calls) == 3
    told, provider = await ask(call(schema(PERSON)), BAD, broken, GOOD)
    assert told.note == "native valid 3"


async def test_a_repair_that_is_refused_is_no_fault_of_the_caller() -> None:
    overflow = ServerError(ErrorKind.CONTEXT_OVERFLOW, "too long")
    told, _ = await ask(call(schema(PERSON)), BAD, overflow)
    assert told.error is not None
    assert told.error.kind is ErrorKind.OUTPUT_INVALID
    busy = ServerError(ErrorKind.UPSTREAM_RATE_LIMITED, "later")
    told, _ = await ask(call(schema(PERSON)), BAD, busy)
    assert told.error is busy
    assert told.ctx.wasted == Usage(input_tokens=10, output_tokens=5)


async def test_every_choice_is_held_to_the_form() -> None:
    good, bad = choice(Text(GOOD)), choice(Text(BAD))
    both = Completion(
        choices=(good, msgspec.structs.replace(bad, index=1)), usage=Usage(input_tokens=10, output_tokens=8)
    )
    answers = [both, Completion(choices=(good,), usage=Usage(input_tokens=20, output_tokens=4))]
    provider = FakeProvider(script=lambda _: (answers.pop(0),), facts=ENFORCED)
    asked = call(schema(PERSON), sampling=Sampling(n=2))
    (answer,) = await collect(Structured(provider)(asked, Context(request_id="r")))
    assert isinstance(answer, Completion)
    assert [(one.index, one.text) for one in answer.choices] == [(0, GOOD), (1, GOOD)]
    assert answer.usage == Usage(input_tokens=30, output_tokens=12)
    again = provider.calls[1]
    assert isinstance(again, ChatCall)
    assert again.sampling.n == 1
    assert "sampling" in again.amended


@pytest.mark.parametrize(
    ("config", "asked"),
    [
        (StructuredConfig(max_attempts=1), 1),
        (StructuredConfig(max_attempts=5), 5),
        (StructuredConfig(max_tokens=20), 2),
    ],
)
async def test_attempts_and_tokens_are_bounded(config: StructuredConfig, asked: int) -> None:
    told, provider = await ask(call(schema(PERSON)), BAD, config=config)
    assert told.error is not None
    assert len(provider.calls) == asked


async def test_no_attempt_is_begun_that_cannot_end_in_time() -> None:
    provider = FakeProvider(script=Model(BAD), facts=ENFORCED)
    ctx = Context(request_id="r", deadline_s=time.perf_counter() - 1)
    with pytest.raises(ServerError) as raised:
        await collect(Structured(provider)(call(schema(PERSON)), ctx))
    assert raised.value.kind is ErrorKind.OUTPUT_INVALID
    assert len(provider.calls) == 1


async def test_an_abandoned_attempt_is_accounted() -> None:
    provider = FakeProvider(script=Model(BAD), facts=ENFORCED)
    ctx = Context(request_id="r")
    task = asyncio.ensure_future(collect(Structured(provider)(call(schema(PERSON)), ctx)))
    await provider.asked.wait()
    with pytest.raises(ServerError):
        await task
    assert ctx.wasted == Usage(input_tokens=30, output_tokens=15)
    assert provider.open == 0


async def test_a_schema_that_is_none_is_the_callers_fault() -> None:
    told, provider = await ask(call(schema({"type": "nonsense"})), GOOD)
    assert told.error is not None
    assert told.error.kind is ErrorKind.INVALID_REQUEST
    assert provider.calls == []


async def test_tools_of_the_caller_are_left_alone() -> None:
    asked = call(schema(PERSON), tools=(WEATHER,))
    told, provider = await ask(asked, calling("{}", "weather"))
    assert told.note == "native pending 1"
    assert told.choice.parts == calling("{}", "weather").parts
    told, provider = await ask(asked, GOOD, facts=CALLING)
    assert told.note == "prompt valid 1"
    (sent,) = provider.calls
    assert isinstance(sent, ChatCall)
    assert sent.tools == (WEATHER,)


async def test_a_call_of_another_tool_is_no_answer() -> None:
    told, _ = await ask(forcing(PERSON), calling(GOOD, "other"), calling(GOOD, "person"))
    assert told.note == "tool valid 2"


async def test_the_prompt_names_the_schema_after_the_system_turns() -> None:
    system = Message(Role.SYSTEM, (Text("Be brief."),))
    _, provider = await ask(call(schema(PERSON), messages=(system, *HELLO)), GOOD, facts=PLAIN)
    (asked,) = provider.calls
    assert isinstance(asked, ChatCall)
    assert [message.role for message in asked.messages] == [Role.SYSTEM, Role.SYSTEM, Role.USER]
    assert '"minimum":0' in asked.messages[1].text
    assert asked.output is None


async def test_rules_are_checked_after_the_schema() -> None:
    config = StructuredConfig.model_validate(
        {"rules": [{"schemas": "per*", "at": "/age", "check": "value < 100", "message": "a living person"}]}
    )
    told, _ = await ask(call(schema(PERSON)), '{"name":"Ada","age":210}', config=config)
    assert told.error is not None
    assert told.error.problems == (Problem("/age", "check", "a living person", "210"),)
    other = msgspec.structs.replace(schema(PERSON), name="other")
    told, _ = await ask(call(other), '{"name":"Ada","age":210}', config=config)
    assert told.note == "native valid 1"


async def test_the_next_model_is_asked_when_one_cannot() -> None:
    from llm_server.contract import Target
    from llm_server.pipeline import Routed
    from llm_server.routing import FixedOrder
    from llm_server.routing.config import RoutingConfig

    first = FakeProvider(name="a", script=Model(BAD), facts=ENFORCED)
    second = FakeProvider(name="b", script=Model(GOOD), facts=PLAIN)
    stages = {each.name: Structured(each) for each in (first, second)}
    strategy = FixedOrder(
        RoutingConfig.model_validate({"aliases": {"m": ["a/x", "b/y"]}}), {"a", "b"}, dict[str, Target]()
    )
    ctx = Context(request_id="r")
    (answer,) = await collect(Routed(strategy, stages)(call(schema(PERSON)), ctx))
    assert isinstance(answer, Completion)
    assert answer.choices[0].text == GOOD
    assert [attempt.error for attempt in ctx.attempts] == [ErrorKind.OUTPUT_INVALID, None]
    assert ctx.structured is not None
    assert ctx.structured.method == "prompt"
    assert ctx.wasted == Usage(input_tokens=30, output_tokens=15)


@pytest.mark.parametrize("stream", [False, True])
async def test_an_answer_that_was_cut_where_it_might_go_on_is_none(stream: bool) -> None:
    for output, said in (
        (schema({"type": "integer"}), "12"),
        (OutputFormat(kind="choice", choices=("yes", "yes please")), "yes"),
    ):
        cut = choice(Text(said), finish=FinishReason.LENGTH)
        told, _ = await ask(call(output, stream=stream), cut, facts=Facts(grammar=True))
        assert told.note == "grammar truncated 1"
        assert told.choice.finish is FinishReason.LENGTH
    whole = choice(Text(GOOD), finish=FinishReason.LENGTH)
    told, _ = await ask(call(schema(PERSON), stream=stream), whole, facts=Facts(grammar=True))
    assert told.note == "grammar valid 1"


async def test_the_words_of_a_refusal_are_kept() -> None:
    told, _ = await ask(call(schema(PERSON)), choice(Refusal("No.")), facts=Facts())
    assert told.ctx.structured is not None
    assert told.ctx.structured.raw_text == "No."


@pytest.mark.parametrize("facts", [ENFORCED, PLAIN])
async def test_an_answer_that_is_too_long_to_be_read_is_none(facts: Facts) -> None:
    long = json.dumps({"name": "x" * MAX_READ, "age": 3})
    told, _ = await ask(call(schema(PERSON)), long, facts=facts)
    assert told.error is not None
    assert told.error.kind is ErrorKind.OUTPUT_INVALID
    assert told.error.problems == (
        Problem("", "size", f"at most {MAX_READ} characters", f"{len(long)} characters"),
    )


@pytest.mark.parametrize("tool", [False, True])
async def test_a_long_answer_is_judged_beside_the_loop(tool: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[int] = []
    strict = parsing.strict

    def noted(text: str, *, unique: bool = True) -> Any:
        threads.append(threading.get_ident())
        return strict(text, unique=unique)

    monkeypatch.setattr(parsing, "strict", noted)
    asking = forcing(PERSON) if tool else call(schema(PERSON))
    for length, beside in ((10, False), (LONG, True)):
        good = json.dumps({"name": "x" * length, "age": 3})
        told, _ = await ask(asking, calling(good, "person") if tool else good)
        assert told.error is None
        assert (threads.pop() != threading.get_ident()) == beside
        assert threads == []
