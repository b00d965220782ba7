"""The embedded model behind the whole server: every way to demand a form, and every way an answer can end."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

import anthropic
import jsonschema_rs
import openai
import pytest
import pytest_asyncio
from pydantic import BaseModel

from llm_server.engine import ModelConfig
from tests.end_to_end.front import Front, fronting
from tests.end_to_end.raw import connected
from tests.end_to_end.sdks import anthropic_sdk, openai_sdk
from tests.engine.calling import MODEL, installed

pytestmark = pytest.mark.asyncio(loop_scope="module")

NAME = f"local/{MODEL}"
SLOTS = 4
LONGEST = 140
"""Tokens of an answer for which the request names no limit."""
SEEDS = range(3)
"""Odd ones are streamed."""
HEADER = "x-llm-server-structured"


def closed(**properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


WORD = {"type": "string", "maxLength": 12}
PERSON = closed(name=WORD, age={"type": "integer", "minimum": 0, "maximum": 120})
CASES: dict[str, Any] = {
    "simple object": PERSON,
    "nested object": closed(person=PERSON, address=closed(city=WORD, kind={"enum": ["home", "work"]})),
    "array of exactly three": {
        "type": "array",
        "items": closed(name=WORD, price={"type": "integer", "minimum": 1, "maximum": 99}),
        "minItems": 3,
        "maxItems": 3,
    },
}


class Told(NamedTuple):
    """What came back: the status and the error, or the answers and how each of them ended."""

    status: int
    error: dict[str, Any]
    texts: list[str]
    ends: list[str]
    how: str
    pieces: int


def formed(schema: Any, **more: Any) -> dict[str, Any]:
    form = {"type": "json_schema", "json_schema": {"name": "case", "schema": schema}}
    return {"response_format": form, **more}


async def ask(front: Front, **body: Any) -> Told:
    """Ask the chat endpoint, whole or streamed; an error within a stream is told as one with status 200."""
    asked = {"model": NAME, "messages": [{"role": "user", "content": "Invent one."}], **body}
    async with front.http.post("/v1/chat/completions", json=asked) as answer:
        how, got = answer.headers.get(HEADER, ""), await answer.text()
    if answer.status != 200:
        return Told(answer.status, json.loads(got)["error"], [], [], how, 0)
    if not asked.get("stream"):
        choices = json.loads(got)["choices"]
        texts = [choice["message"]["content"] for choice in choices]
        return Told(200, {}, texts, [choice["finish_reason"] for choice in choices], how, 1)
    chunks = [json.loads(line[6:]) for line in got.splitlines() if line.startswith("data: {")]
    error = next((chunk["error"] for chunk in chunks if "error" in chunk), {})
    told = [choice for chunk in chunks for choice in chunk.get("choices", ())]
    said = [choice["delta"]["content"] for choice in told if choice["delta"].get("content")]
    ends = [choice["finish_reason"] for choice in told if choice["finish_reason"]]
    return Told(200, error, ["".join(said)], ends, how, len(said))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def front(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Front]:
    path = await asyncio.to_thread(installed)
    model = ModelConfig(name=MODEL, context=768, path=path, max_tokens=LONGEST)
    engine = {"enabled": True, "models": [model], "threads": 1, "slots": SLOTS, "queue": 64}
    storage = {"url": f"sqlite:///{tmp_path_factory.mktemp('storage')}/llm-server.db"}
    async with fronting({}, engine=engine, storage=storage) as front:
        while (await front.http.get("/health/ready")).status != 200:
            pass
        yield front


@pytest.mark.parametrize("case", CASES)
async def test_every_answer_has_its_form(front: Front, case: str) -> None:
    schema = CASES[case]
    asked = [formed(schema, seed=seed, temperature=1.0, stream=bool(seed % 2)) for seed in SEEDS]
    answers = await asyncio.gather(*(ask(front, **body) for body in asked))
    for answer in answers:
        assert answer.ends == ["stop"]
        assert answer.how.startswith("grammar; guarantee=exact; attempts=1;")
        value = json.loads(answer.texts[0])
        assert jsonschema_rs.is_valid(schema, value)
        # One layout: there is no white space that a model could run away in.
        assert answer.texts[0] == json.dumps(value, ensure_ascii=False)
    assert len({answer.texts[0] for answer in answers}) > 1
    assert all(answer.pieces > 5 for answer in answers[1::2])  # as the tokens come


async def test_a_held_stream_is_said_when_it_is_valid(front: Front) -> None:
    answer = await ask(front, **formed(PERSON, seed=1, stream=True, stream_structured="validated"))
    assert "outcome=valid" in answer.how  # known before the first byte
    assert jsonschema_rs.is_valid(PERSON, json.loads(answer.texts[0]))


LARK = 'start: "no " NOUN\nNOUN: /[a-z]{3,6}/'
GBNF = 'root ::= "no " noun\nnoun ::= [a-z] [a-z] [a-z]'
TEXTS: dict[str, tuple[dict[str, Any], str]] = {
    "regex": ({"guided_regex": r"^[A-Z]{3}-\d{4}$"}, r"[A-Z]{3}-\d{4}"),
    "choice": ({"guided_choice": ["red", "deep blue", "grün"]}, "red|deep blue|grün"),
    "lark": ({"guided_grammar": LARK}, "no [a-z]{3,6}"),
    "gbnf": ({"guided_grammar": GBNF}, "no [a-z]{3}"),
    "json": ({"guided_json": {"enum": [1, 22, "three"]}}, '1|22|"three"'),
    "vllm": ({"structured_outputs": {"regex": "[01]{8}"}}, "[01]{8}"),
}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("form", TEXTS)
async def test_texts_have_their_forms(front: Front, form: str, stream: bool) -> None:
    body, pattern = TEXTS[form]
    answer = await ask(front, **body, temperature=1.5, seed=3, stream=stream)
    assert (answer.error, answer.ends) == ({}, ["stop"])
    assert re.fullmatch(pattern, answer.texts[0])


async def test_any_object_is_an_object_or_says_that_it_was_cut(front: Front) -> None:
    answer = await ask(front, response_format={"type": "json_object"}, max_tokens=24)
    if answer.ends == ["stop"]:
        assert isinstance(json.loads(answer.texts[0]), dict)
        assert "outcome=valid" in answer.how
    else:
        assert answer.ends == ["length"]
        assert "outcome=truncated" in answer.how


async def test_a_registered_schema_and_the_native_endpoint(front: Front) -> None:
    async with front.http.post("/v1/schemas", json={"id": "person", "schema": PERSON}) as made:
        assert made.status == 201
    named = {"response_format": {"type": "json_schema", "json_schema": {"schema_id": "person"}}}
    answer = await ask(front, **named)
    assert jsonschema_rs.is_valid(PERSON, json.loads(answer.texts[0]))
    for form in ({"schema": CASES["nested object"]}, {"schema_id": "person", "schema_version": 1}):
        body = {"model": NAME, "prompt": "Invent somebody.", "seed": 2, **form}
        async with front.http.post("/v1/structured-completions", json=body) as response:
            told = await response.json()
        assert (told["method"], told["guarantee"], told["outcome"]) == ("grammar", "exact", "valid")
        assert (told["attempts"], told["problems"]) == (1, [])
        assert jsonschema_rs.is_valid(form.get("schema", PERSON), told["structured_output"])
        assert json.loads(told["raw_text"]) == told["structured_output"]
        assert told["usage"]["output_tokens"] > 5


class Person(BaseModel):
    """Somebody."""

    name: str
    age: int


async def test_the_sdks_parse(front: Front) -> None:
    messages: Any = [{"role": "user", "content": "Invent a person."}]
    async with openai_sdk(front.url) as client:
        ask_openai = client.chat.completions.parse
        parsed = await ask_openai(model=NAME, messages=messages, response_format=Person, temperature=0)
        assert isinstance(parsed.choices[0].message.parsed, Person)
        async with client.chat.completions.stream(
            model=NAME, messages=messages, response_format=Person, temperature=0
        ) as stream:
            final = await stream.get_final_completion()
        assert isinstance(final.choices[0].message.parsed, Person)
    async with anthropic_sdk(front.url) as other:
        ask_anthropic = other.messages.parse
        again = await ask_anthropic(
            model=NAME, max_tokens=100, messages=messages, output_format=Person, extra_body={"temperature": 0}
        )
        assert isinstance(again.parsed_output, Person)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_forced_tool_is_called_with_valid_arguments(front: Front, stream: bool) -> None:
    tools: Any = [{"name": "save", "description": "Saves a person.", "input_schema": PERSON}]
    body: Any = {
        "model": NAME,
        "max_tokens": 100,
        "messages": [{"role": "user", "content": "Save somebody."}],
        "tools": tools,
        "tool_choice": {"type": "tool", "name": "save"},
    }
    async with anthropic_sdk(front.url) as client:
        if stream:
            async with client.messages.stream(**body) as events:
                message: anthropic.types.Message = await events.get_final_message()
        else:
            message = await client.messages.create(**body)
    (block,) = message.content
    assert isinstance(block, anthropic.types.ToolUseBlock)
    assert (block.name, message.stop_reason) == ("save", "tool_use")
    assert jsonschema_rs.is_valid(PERSON, block.input)


@pytest.mark.parametrize("stream", [False, True])
async def test_an_answer_that_is_cut_says_so(front: Front, stream: bool) -> None:
    answer = await ask(front, **formed(CASES["array of exactly three"], max_tokens=6, stream=stream))
    assert (answer.error, answer.ends) == ({}, ["length"])
    assert answer.texts[0]
    with pytest.raises(json.JSONDecodeError):
        json.loads(answer.texts[0])
    assert stream or "attempts=1; outcome=truncated" in answer.how


async def test_the_model_s_own_limit_cuts_too(front: Front) -> None:
    answer = await ask(front, guided_regex="[0-9]{600}")
    assert (answer.ends, len(answer.texts[0]) < 600) == (["length"], True)
    assert "outcome=truncated" in answer.how
    body = {"model": NAME, "prompt": "Invent.", "schema": CASES["nested object"], "max_tokens": 5}
    async with front.http.post("/v1/structured-completions", json=body) as response:
        told = await response.json()
    assert (told["outcome"], told["structured_output"]) == ("truncated", None)
    assert told["raw_text"]


async def test_the_sdk_s_own_error_for_a_cut_answer(front: Front) -> None:
    messages: Any = [{"role": "user", "content": "Invent a person."}]
    async with openai_sdk(front.url) as client:
        with pytest.raises(openai.LengthFinishReasonError):
            await client.chat.completions.parse(
                model=NAME, messages=messages, response_format=Person, max_tokens=3
            )


@pytest.mark.parametrize("stream", [False, True])
async def test_a_stop_sequence_never_makes_a_valid_answer_of_half_a_one(front: Front, stream: bool) -> None:
    answer = await ask(front, **formed(PERSON, stop=['"age"'], stream=stream))
    assert answer.error["code"] == "output_invalid"
    assert (answer.status, answer.ends) == (200 if stream else 422, [])
    harmless = await ask(front, **formed(PERSON, stop=["\n", "```"], stream=stream))
    assert harmless.ends == ["stop"]
    assert jsonschema_rs.is_valid(PERSON, json.loads(harmless.texts[0]))


async def test_every_choice_has_the_form(front: Front) -> None:
    answer = await ask(front, **formed(PERSON, n=3, seed=5, temperature=1.2))
    assert answer.ends == ["stop"] * 3
    assert all(jsonschema_rs.is_valid(PERSON, json.loads(text)) for text in answer.texts)


async def test_log_probabilities_are_refused_by_name(front: Front) -> None:
    answer = await ask(front, **formed(PERSON, logprobs=True))
    assert (answer.status, answer.error["param"]) == (400, "logprobs")


async def test_what_is_no_form_is_refused_before_it_computes(front: Front) -> None:
    for body in (
        formed({"type": "no such type"}),
        formed({"type": "integer", "minimum": 2, "maximum": 1}),
        {"guided_regex": "a(?=b)"},
        {"guided_grammar": "start: nowhere"},
        {"guided_choice": []},
    ):
        answer = await ask(front, **body, stream=True)
        assert (answer.status, bool(answer.error["message"])) == (400, True), body


async def test_who_leaves_gives_the_slot_back(front: Front) -> None:
    body = {
        "model": NAME,
        "messages": [{"role": "user", "content": "Count."}],
        "stream": True,
        "guided_regex": "[0-9]{600}",
    }
    for _ in range(SLOTS + 1):
        async with connected(front.url) as wire:
            await wire.ask("/v1/chat/completions", body)
            assert (await wire.head())[0] == 200
            await wire.frames(2)
            wire.leave()
    await front.until_idle()
    answers = await asyncio.gather(*(ask(front, guided_choice=["here"]) for _ in range(SLOTS)))
    assert [answer.texts for answer in answers] == [["here"]] * SLOTS
