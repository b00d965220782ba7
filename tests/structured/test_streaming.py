"""Streams: what goes on as it comes, what is told anew, and what is held."""

import json
from typing import Any

import pytest

from llm_server.contract import (
    Chunk,
    Context,
    Event,
    Facts,
    Finish,
    FinishReason,
    ReasoningDelta,
    Started,
    Text,
    TextDelta,
    Thinking,
    ToolDelta,
    Usage,
    fold,
)
from llm_server.structured import parsing
from llm_server.structured.stage import Structured
from llm_server.testing import FakeProvider, outcome
from tests.structured.answering import (
    CALLING,
    ENFORCED,
    GOOD,
    PERSON,
    PLAIN,
    ask,
    call,
    choice,
    forcing,
    schema,
)

LIST: dict[str, Any] = {"type": "array", "items": {"type": "integer"}, "minItems": 3, "maxItems": 3}


def texts(answers: list[Any]) -> list[str]:
    events = [event for one in answers for event in one.events]
    return [event.text for event in events if isinstance(event, TextDelta)]


def arguments(answers: list[Any]) -> list[str]:
    events = [event for one in answers for event in one.events]
    return [event.arguments for event in events if isinstance(event, ToolDelta)]


async def test_where_the_model_is_held_to_the_form_tokens_go_on_as_they_come() -> None:
    told, _ = await ask(
        call(schema(PERSON), stream=True), '{"name":"Ada","age":36,"mood":"glad","born":null}'
    )
    pieces = texts(told.answers)
    assert len(pieces) > 5
    assert json.loads("".join(pieces)) == {"name": "Ada", "age": 36, "mood": "glad"}


async def test_where_it_is_not_they_are_held_by_default() -> None:
    told, _ = await ask(call(schema(PERSON), stream=True), GOOD, facts=CALLING)
    assert texts(told.answers) == [GOOD]


@pytest.mark.parametrize(
    "facts", [ENFORCED, CALLING, PLAIN, Facts()], ids=["native", "tool", "prompt", "loose"]
)
async def test_a_partial_answer_grows_and_is_never_taken_back(facts: Facts) -> None:
    said = '{"name": "Ada \\"L\\" {}[]", "age": 36, "born": "1815-12-10"}'
    told, _ = await ask(call(schema(PERSON), stream=True, stream_structured="partial"), said, facts=facts)
    pieces = texts(told.answers)
    assert len(pieces) > 5
    assert json.loads("".join(pieces)) == json.loads(said)


async def test_a_wrapping_is_taken_off_on_the_way() -> None:
    told, _ = await ask(call(schema(LIST), stream=True), '{"value": [1, 22, 333]}')
    assert "".join(texts(told.answers)) == "[1,22,333]"
    assert len(texts(told.answers)) > 2


async def test_a_fence_is_left_out_on_the_way() -> None:
    fenced = f"```json\n{GOOD}\n```"
    told, _ = await ask(call(schema(PERSON), stream=True, stream_structured="partial"), fenced, facts=PLAIN)
    assert "".join(texts(told.answers)) == GOOD
    assert told.note == "prompt repaired 1"


async def test_an_answer_in_text_becomes_a_call_while_it_comes() -> None:
    asked = forcing(PERSON, stream=True, stream_structured="partial")
    told, _ = await ask(asked, GOOD, facts=Facts(tools=False, json_schema=False))
    assert "".join(arguments(told.answers)) == GOOD
    assert len(arguments(told.answers)) > 3
    (part,) = told.choice.parts
    assert part.name == "person"
    assert told.choice.finish is FinishReason.TOOL_CALLS


async def test_thoughts_go_on_at_once() -> None:
    said = choice(Thinking(text="Let me see."), Text(GOOD))
    for facts in (ENFORCED, CALLING):
        told, _ = await ask(call(schema(PERSON), stream=True, stream_structured="partial"), said, facts=facts)
        thoughts = [e for one in told.answers for e in one.events if isinstance(e, ReasoningDelta)]
        assert "".join(thought.text for thought in thoughts) == "Let me see."
        assert told.text == GOOD


async def test_frames_go_on_where_nothing_is_told_anew() -> None:
    def script(_: Any) -> Any:
        events: list[Event] = [
            Started(id="a"),
            TextDelta("[1,"),
            TextDelta("2,3]"),
            Finish(FinishReason.STOP),
            Usage(),
        ]
        return [Chunk((event,), b"frame %d" % at) for at, event in enumerate(events)]

    provider = FakeProvider(script=script, facts=Facts())
    for how in ("partial", "validated"):
        asked = call(schema(LIST), stream=True, stream_structured=how)
        answers, error = await outcome(Structured(provider)(asked, Context(request_id="r")))
        assert error is None
        assert [one.frame for one in answers if isinstance(one, Chunk)] == [
            b"frame %d" % at for at in range(5)
        ]


async def test_a_stream_that_ends_wrong_never_finishes() -> None:
    wrong = '{"name":"Ada","age":-36}'
    asked = call(schema(PERSON), stream=True, stream_structured="partial")
    told, provider = await ask(asked, wrong, facts=Facts())
    assert told.error is not None
    assert told.error.raw_text == wrong
    assert "".join(texts(told.answers)) == wrong
    assert not any(isinstance(event, Finish) for one in told.answers for event in one.events)
    assert len(provider.calls) == 1, "what was said cannot be taken back"


async def test_nothing_said_is_nothing_lost() -> None:
    asked = call(schema(PERSON), stream=True)
    told, provider = await ask(asked, "I think it is Ada.", GOOD)
    assert told.text == GOOD
    assert told.note == "native valid 2"
    assert fold([one for one in told.answers if isinstance(one, Chunk)]).usage.input_tokens == 20
    assert len(provider.calls) == 2


async def test_how_far_a_partial_answer_is_looked_at_has_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    said = json.dumps({"name": "Ada " * 500, "age": 36})
    seen: list[int] = []
    partial = parsing.partial

    def noted(text: str) -> Any:
        seen.append(len(text))
        return partial(text)

    monkeypatch.setattr(parsing, "partial", noted)
    monkeypatch.setattr("llm_server.structured.growing.MAX_LOOKED", 300)
    told, _ = await ask(call(schema(PERSON), stream=True, stream_structured="partial"), said, facts=PLAIN)
    pieces = texts(told.answers)
    assert json.loads("".join(pieces)) == json.loads(said)
    assert max(seen) == 300
    assert len(pieces) > 5
    assert len(pieces[-1]) > 1500, "what comes after the bound is said at the end"
