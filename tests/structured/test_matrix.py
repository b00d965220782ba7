"""Ways to answer wrongly, by every method, whole and streamed: mended or refused, never passed as valid."""

import json
from typing import Any

import jsonschema_rs
import msgspec
import pytest

from llm_server.contract import ErrorKind, Facts, FinishReason, OutputFormat, Refusal, Text
from llm_server.structured.config import StructuredConfig
from tests.structured.answering import (
    CALLING,
    ENFORCED,
    GOOD,
    PERSON,
    PLAIN,
    Say,
    ask,
    call,
    calling,
    choice,
    forcing,
    schema,
)

VALIDATOR = jsonschema_rs.validator_for(PERSON, validate_formats=True)

WRONG: dict[str, str] = {
    "wrong type": '{"name":"Ada","age":"36"}',
    "missing key": '{"name":"Ada"}',
    "extra key": '{"name":"Ada","age":36,"shoe":42}',
    "wrong enum": '{"name":"Ada","age":36,"mood":"angry"}',
    "bad format": '{"name":"Ada","age":36,"born":"yesterday"}',
    "truncated": '{"name":"Ada","age":36,"born":"1815-',
    "prose": "Ada is thirty-six years old.",
    "empty": "",
    "twice": '{"name":"Ada","age":36,"age":"x"}',
    "bound": '{"name":"Ada","age":-1}',
    "scalar": '"Ada"',
    "two values": GOOD + '{"name":"Bob","age":1}',
}
FENCED = f"Here you are:\n```json\n{GOOD}\n```"
SLIPS = {
    "fenced": FENCED,
    "trailing comma": '{"name":"Ada","age":36,}',
    "single quotes": "{'name':'Ada','age':36}",
}

METHODS: dict[str, Facts] = {
    "native": ENFORCED,
    "native, not enforced": Facts(),
    "tool": CALLING,
    "prompt": PLAIN,
    "prompt, json mode": Facts(json_schema=False, tools=False),
}
STREAMS = [False, True]


def asked(form: str, *, stream: bool, **more: Any) -> Any:
    ways = {
        "format": lambda: call(schema(PERSON), stream=stream, **more),
        "tool": lambda: forcing(PERSON, stream=stream, **more),
    }
    return ways[form]()


def answer(told: Any, form: str) -> Any:
    if form == "format":
        return json.loads(told.text)
    (part,) = told.choice.parts
    assert part.name == "person"
    return json.loads(part.arguments)


@pytest.mark.parametrize("stream", STREAMS, ids=["whole", "stream"])
@pytest.mark.parametrize("form", ["format", "tool"])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("wrong", WRONG)
async def test_a_wrong_answer_is_mended(wrong: str, method: str, form: str, stream: bool) -> None:
    told, provider = await ask(
        asked(form, stream=stream, stream_structured="validated"), WRONG[wrong], GOOD, facts=METHODS[method]
    )
    value = answer(told, form)
    assert VALIDATOR.is_valid(value)
    assert value == json.loads(GOOD)
    assert told.note.endswith("valid 2")
    assert told.completion.usage.input_tokens == 20
    assert told.choice.finish is (FinishReason.STOP if form == "format" else FinishReason.TOOL_CALLS)
    assert len(provider.calls) == 2


@pytest.mark.parametrize("stream", STREAMS, ids=["whole", "stream"])
@pytest.mark.parametrize("form", ["format", "tool"])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("wrong", WRONG)
async def test_an_answer_that_stays_wrong_is_an_error(
    wrong: str, method: str, form: str, stream: bool
) -> None:
    told, provider = await ask(
        asked(form, stream=stream, stream_structured="validated"), WRONG[wrong], facts=METHODS[method]
    )
    assert told.answers == []
    assert told.error is not None
    assert told.error.kind is ErrorKind.OUTPUT_INVALID
    assert told.error.problems
    assert told.error.raw_text == (WRONG[wrong] or told.error.raw_text)
    assert told.error.provider == "fake"
    assert told.note.endswith("invalid 3")
    assert told.ctx.wasted.output_tokens == 15
    assert len(provider.calls) == 3


@pytest.mark.parametrize("form", ["format", "tool"])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("wrong", WRONG)
async def test_a_partial_stream_that_ends_wrong_ends_in_an_error(wrong: str, method: str, form: str) -> None:
    told, _ = await ask(
        asked(form, stream=True, stream_structured="partial"), WRONG[wrong], facts=METHODS[method]
    )
    assert told.error is not None
    assert told.error.kind is ErrorKind.OUTPUT_INVALID
    assert not any("Finish" in repr(one) for one in told.answers), "an invalid answer must not end well"


@pytest.mark.parametrize("stream", [None, "partial", "validated"])
@pytest.mark.parametrize("form", ["format", "tool"])
@pytest.mark.parametrize("method", METHODS)
async def test_a_right_answer_is_passed_on_at_once(method: str, form: str, stream: Any) -> None:
    told, provider = await ask(
        asked(form, stream=stream is not None, stream_structured=stream), GOOD, facts=METHODS[method]
    )
    assert answer(told, form) == json.loads(GOOD)
    assert told.note.endswith("valid 1")
    assert told.completion.usage.input_tokens == 10
    assert len(provider.calls) == 1


@pytest.mark.parametrize("stream", STREAMS, ids=["whole", "stream"])
@pytest.mark.parametrize("method", ["native, not enforced", "tool", "prompt"])
@pytest.mark.parametrize("slip", SLIPS)
async def test_a_slip_is_forgiven_where_the_model_is_held_to_nothing(
    slip: str, method: str, stream: bool
) -> None:
    told, _ = await ask(call(schema(PERSON), stream=stream), SLIPS[slip], facts=METHODS[method])
    assert json.loads(told.text) == json.loads(GOOD)
    assert told.note.endswith("repaired 1")


@pytest.mark.parametrize("slip", SLIPS)
async def test_no_slip_is_forgiven_where_the_provider_promised(slip: str) -> None:
    told, _ = await ask(call(schema(PERSON)), SLIPS[slip], GOOD, facts=ENFORCED)
    assert told.note == "native valid 2"


@pytest.mark.parametrize("stream", [None, "partial", "validated"])
@pytest.mark.parametrize("form", ["format", "tool"])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("said", "finish", "outcome"),
    [
        (choice(Refusal("I will not.")), FinishReason.STOP, "refused"),
        (choice(Text("I will not."), finish=FinishReason.REFUSAL), FinishReason.REFUSAL, "refused"),
        (choice(Text('{"na'), finish=FinishReason.CONTENT_FILTER), FinishReason.CONTENT_FILTER, "filtered"),
        (choice(Text("Wait."), finish=FinishReason.PAUSE), FinishReason.PAUSE, "pending"),
    ],
    ids=["refusal", "refused", "filtered", "pause"],
)
async def test_what_is_no_answer_passes_as_what_it_is(
    said: Say, finish: FinishReason, outcome: str, method: str, form: str, stream: Any
) -> None:
    asking = asked(form, stream=stream is not None, stream_structured=stream)
    told, provider = await ask(asking, said, facts=METHODS[method])
    assert told.choice.finish is finish
    assert told.note.endswith(f"{outcome} 1")
    assert told.choice.parts
    assert len(provider.calls) == 1


@pytest.mark.parametrize("stream", [None, "partial", "validated"])
@pytest.mark.parametrize("form", ["format", "tool"])
@pytest.mark.parametrize("method", METHODS)
async def test_an_answer_cut_off_by_the_limit_says_so(method: str, form: str, stream: Any) -> None:
    text = '{"name":"Ada","a'
    in_call = METHODS[method].tools and (form == "tool" or method == "tool")
    said = calling(text, "person" if form == "tool" else "answer") if in_call else choice(Text(text))
    said = msgspec.structs.replace(said, finish=FinishReason.LENGTH)
    asking = asked(form, stream=stream is not None, stream_structured=stream)
    told, _ = await ask(asking, said, facts=METHODS[method])
    assert told.choice.finish is FinishReason.LENGTH
    assert told.note.endswith("truncated 1")
    assert told.ctx.structured is not None
    assert told.ctx.structured.problems


CHOICE = OutputFormat(kind="choice", choices=("red", "green"))
REGEX = OutputFormat(kind="regex", pattern="[0-9]{3}")


@pytest.mark.parametrize("stream", [None, "partial", "validated"])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("form", "good", "bad"), [(CHOICE, "green", "blue"), (REGEX, "123", "12")])
async def test_choices_and_patterns_are_kept_by_every_method(
    form: OutputFormat, good: str, bad: str, method: str, stream: Any
) -> None:
    asking = call(form, stream=stream is not None, stream_structured=stream)
    wrapped = not method.startswith("prompt")
    right, wrong = (f'{{"value":"{text}"}}' if wrapped else text for text in (good, bad))
    told, _ = await ask(asking, right, facts=METHODS[method])
    assert told.text == good
    told, _ = await ask(asking, wrong, facts=METHODS[method], config=StructuredConfig(max_attempts=2))
    assert told.error is not None
    assert told.error.kind is ErrorKind.OUTPUT_INVALID
    if stream != "partial":
        told, _ = await ask(call(form), wrong, right, facts=METHODS[method])
        assert told.text == good


async def test_a_grammar_is_refused_where_nobody_can_hold_to_it() -> None:
    told, provider = await ask(call(OutputFormat(kind="grammar", grammar='start: "a"')), "a", facts=Facts())
    assert told.error is not None
    assert told.error.kind is ErrorKind.UNSUPPORTED
    assert provider.calls == []
