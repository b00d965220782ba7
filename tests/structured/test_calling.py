"""Calls that are judged where the model chooses: of strict tools, and of any where one must be called."""

import json
from typing import Any

import msgspec
import pytest
from msgspec import Raw

from llm_server.contract import (
    ChatCall,
    Chunk,
    Context,
    ErrorKind,
    Finish,
    FinishReason,
    Message,
    Role,
    ServerError,
    Started,
    Text,
    TextDelta,
    Thinking,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
    Usage,
)
from llm_server.structured.stage import Structured
from llm_server.testing import FakeProvider, outcome
from tests.structured.answering import (
    CALLING,
    ENFORCED,
    GOOD,
    PERSON,
    Told,
    ask,
    call,
    calling,
    choice,
    schema,
)

BAD = '{"name":"Ada","age":"x"}'
WEATHER = Tool(name="weather", parameters=Raw(b'{"type":"object","required":["city"]}'))
PERSON_TOOL = Tool(name="person", parameters=Raw(msgspec.json.encode(PERSON)))
STRICT = msgspec.structs.replace(PERSON_TOOL, strict=True)
BUILT_IN = Tool(name="web_search", type="web_search")
CALLED = FinishReason.TOOL_CALLS
STREAMS = pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])


def required(*tools: Tool, **more: Any) -> ChatCall:
    return call(tools=tools or (WEATHER, PERSON_TOOL), tool_choice=ToolChoice("required"), **more)


def free(*tools: Tool, **more: Any) -> ChatCall:
    return call(tools=tools or (WEATHER, STRICT), **more)


def called(told: Told) -> list[tuple[str, Any]]:
    calls = [part for part in told.choice.parts if isinstance(part, ToolCall)]
    return [(each.name, json.loads(each.arguments)) for each in calls]


@STREAMS
@pytest.mark.parametrize("ways", [required, free])
async def test_a_wrong_call_is_mended(ways: Any, stream: bool) -> None:
    told, provider = await ask(ways(stream=stream), calling(BAD, "person"), calling(GOOD, "person"))
    assert called(told) == [("person", json.loads(GOOD))]
    assert told.choice.finish is CALLED
    assert told.note == "tool valid 2"
    assert told.completion.usage == Usage(input_tokens=20, output_tokens=10)
    first, second = provider.calls
    assert isinstance(first, ChatCall)
    assert isinstance(second, ChatCall)
    said, complaint = second.messages[-2:]
    assert said.parts == calling(BAD, "person").parts
    (result,) = complaint.parts
    assert isinstance(result, ToolResult)
    assert "/age" in str(result.parts)
    assert second.tools == first.tools


@STREAMS
@pytest.mark.parametrize("ways", [required, free])
async def test_a_call_that_stays_wrong_is_an_error(ways: Any, stream: bool) -> None:
    told, provider = await ask(ways(stream=stream), calling(BAD, "person"))
    assert told.error is not None
    assert told.error.kind is ErrorKind.OUTPUT_INVALID
    assert [(each.pointer, each.keyword) for each in told.error.problems] == [("/age", "type")]
    assert told.error.raw_text == BAD
    assert told.answers == []
    assert told.ctx.wasted == Usage(input_tokens=30, output_tokens=15)
    assert len(provider.calls) == 3


@STREAMS
@pytest.mark.parametrize("ways", [required, free])
async def test_every_call_is_judged_by_its_own_tool(ways: Any, stream: bool) -> None:
    right = (ToolCall("1", "weather", '{"city":"Rome"}'), ToolCall("2", "person", GOOD))
    wrong = (right[0], ToolCall("2", "person", BAD))
    told, provider = await ask(
        ways(stream=stream), choice(*wrong, finish=CALLED), choice(*right, finish=CALLED)
    )
    assert told.choice.parts == right
    again = provider.calls[1]
    assert isinstance(again, ChatCall)
    assert [message.role for message in again.messages[-3:]] == [Role.ASSISTANT, Role.TOOL, Role.TOOL]


@STREAMS
async def test_a_right_call_passes_as_it_came(stream: bool) -> None:
    for asked in (required(stream=stream), free(stream=stream)):
        told, provider = await ask(asked, calling(GOOD, "person"))
        assert told.choice == calling(GOOD, "person")
        assert provider.calls[0] is asked
        assert told.note == "tool valid 1"


@STREAMS
async def test_where_one_must_be_called_anything_else_is_wrong(stream: bool) -> None:
    told, _ = await ask(required(stream=stream), "Ada is 36.", calling(GOOD, "person"))
    assert called(told) == [("person", json.loads(GOOD))]
    told, _ = await ask(required(stream=stream), calling("{}", "news"))
    assert told.error is not None
    (problem,) = told.error.problems
    assert (problem.expected, problem.found) == ("a call of 'weather' or 'person'", "a call of 'news'")


@STREAMS
async def test_where_the_model_is_free_it_may_say_anything_else(stream: bool) -> None:
    for said in (choice(Text("Ada is 36.")), calling('{"town":1}', "weather")):
        told, provider = await ask(free(stream=stream), said)
        assert told.choice == said
        assert told.note == "tool valid 1"
        assert len(provider.calls) == 1


@STREAMS
async def test_a_tool_of_its_upstreams_own_is_not_judged(stream: bool) -> None:
    told, _ = await ask(required(BUILT_IN, PERSON_TOOL, stream=stream), "I searched.")
    assert told.text == "I searched."
    told, _ = await ask(required(BUILT_IN, PERSON_TOOL, stream=stream), calling(BAD, "person"))
    assert told.error is not None


async def test_text_streams_before_calls_that_are_held() -> None:
    said = choice(Text("Let me see."), ToolCall("1", "person", GOOD), finish=CALLED)
    told, _ = await ask(free(stream=True), said)
    assert told.choice == said
    assert len(told.answers) > 4, "each piece of the text came by itself"
    wrong = choice(Text("Let me see."), ToolCall("1", "person", BAD), finish=CALLED)
    told, provider = await ask(free(stream=True), wrong, said)
    assert told.error is not None
    assert told.error.kind is ErrorKind.OUTPUT_INVALID
    assert "ToolDelta" not in repr(told.answers)
    assert told.ctx.wasted == Usage(input_tokens=10, output_tokens=5), "what it cost is told after its end"
    assert len(provider.calls) == 1


async def test_calls_stream_as_they_come_where_the_caller_says_so() -> None:
    told, _ = await ask(free(stream=True, stream_structured="partial"), calling(BAD, "person"))
    assert told.error is not None
    assert "ToolDelta" in repr(told.answers)
    assert "Finish" not in repr(told.answers)


async def test_what_a_broken_stream_cost_is_counted_once() -> None:
    early, late = Usage(input_tokens=10), Usage(input_tokens=10, output_tokens=5)
    chunks = (
        Chunk((Started(), early)),
        Chunk((TextDelta('{"name":1'),)),
        Chunk((TextDelta("}"),)),
        Chunk((Finish(FinishReason.STOP),)),
        Chunk((late,)),
    )
    provider = FakeProvider(script=lambda _: chunks, facts=ENFORCED)
    ctx = Context(request_id="r")
    asked = call(schema(PERSON), stream=True, stream_structured="partial")
    answers, error = await outcome(Structured(provider)(asked, ctx))
    assert error is not None
    told = [event for one in answers if isinstance(one, Chunk) for event in one.events]
    assert [event for event in told if isinstance(event, Usage)] == [early]
    assert ctx.wasted == Usage(output_tokens=5)


async def test_no_tokens_are_spent_on_what_is_no_wrong_call() -> None:
    cut = msgspec.structs.replace(calling('{"name":"A', "person"), finish=FinishReason.LENGTH)
    filtered = choice(Text("No."), finish=FinishReason.CONTENT_FILTER)
    for said, word in ((cut, "truncated"), (filtered, "filtered")):
        told, provider = await ask(required(), said)
        assert told.choice == said
        assert told.note == f"tool {word} 1"
        assert len(provider.calls) == 1


async def test_slips_in_arguments_are_mended() -> None:
    told, _ = await ask(free(), calling("{'name':'Ada','age':36,}", "person"))
    assert called(told) == [("person", json.loads(GOOD))]
    assert told.note == "tool repaired 1"


@pytest.mark.parametrize("asked", [free(), required(STRICT), required(STRICT, WEATHER)])
async def test_a_provider_that_refuses_strict_tools_gets_loose_ones(asked: ChatCall) -> None:
    refusal = ServerError(ErrorKind.INVALID_REQUEST, "`minimum` is not supported in strict tools")
    told, provider = await ask(asked, refusal, calling(BAD, "person"), calling(GOOD, "person"))
    assert called(told) == [("person", json.loads(GOOD))]
    second = provider.calls[1]
    assert isinstance(second, ChatCall)
    assert {tool.strict for tool in second.tools} == {None}
    assert "tools" in second.amended


async def test_tools_that_only_their_upstream_knows_are_not_said_again() -> None:
    refusal = ServerError(ErrorKind.INVALID_REQUEST, "no such image")
    told, provider = await ask(free(BUILT_IN, STRICT), refusal)
    assert told.error is refusal
    assert all(each.amended == frozenset() for each in provider.calls)


async def test_signed_thoughts_go_back_with_the_call() -> None:
    thought, signed = Thinking(text="Hm."), Thinking(text="Hm.", signature="sig")
    text, wrong = Text("So:"), ToolCall("1", "person", BAD)
    _, provider = await ask(
        free(), choice(thought, signed, text, wrong, finish=CALLED), calling(GOOD, "person")
    )
    again = provider.calls[1]
    assert isinstance(again, ChatCall)
    assert again.messages[-2] == Message(Role.ASSISTANT, (signed, text, wrong))


@STREAMS
async def test_a_strict_call_beside_a_form_is_judged_too(stream: bool) -> None:
    asked = call(schema(PERSON), tools=(STRICT,), stream=stream)
    told, _ = await ask(asked, calling(BAD, "person"), calling(GOOD, "person"))
    assert called(told) == [("person", json.loads(GOOD))]
    assert told.note == "native pending 2"
    told, _ = await ask(asked, calling(BAD, "person"), GOOD)
    assert told.note == "native valid 2"
    told, _ = await ask(asked, calling(BAD, "person"))
    assert told.error is not None


async def test_a_tool_without_a_schema_takes_any_object() -> None:
    nothing = Tool(name="now", strict=True)
    told, _ = await ask(free(nothing), calling("", "now"))
    assert told.note == "tool valid 1"
    told, _ = await ask(free(nothing), calling("[]", "now"))
    assert told.error is not None


async def test_parameters_that_are_no_schema_are_the_callers_fault() -> None:
    broken = Tool(name="x", parameters=Raw(b'{"type":"nonsense"}'), strict=True)
    told, provider = await ask(free(broken), "Hello", facts=CALLING)
    assert told.error is not None
    assert told.error.kind is ErrorKind.INVALID_REQUEST
    assert provider.calls == []
