"""Schemas from examples take every example; descriptions become schemas through a structured answer."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_server.contract import (
    Call,
    ChatCall,
    Choice,
    Completion,
    Context,
    ErrorKind,
    Events,
    FinishReason,
    ServerError,
    Text,
)
from llm_server.structured.inference import OUTLINE, from_description, from_examples, schema_of
from llm_server.structured.schema import load
from llm_server.structured.validation import Validator
from tests.structured.test_transforms import JSON


async def test_a_property_is_required_when_every_example_has_it() -> None:
    examples = [{"a": 1, "b": ["x"]}, {"a": 1.5, "c": None, "b": []}]
    assert json.loads(await from_examples(examples)) == {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "properties": {
            "a": {"type": "number"},
            "b": {"type": "array", "items": {"type": "string"}},
            "c": {"type": "null"},
        },
        "required": ["a", "b"],
        "additionalProperties": False,
    }


async def test_open_schemas_take_more() -> None:
    schema = json.loads(await from_examples([{"a": {"b": 1}}], closed=False))
    assert "additionalProperties" not in json.dumps(schema)
    schema = json.loads(await from_examples([{"properties": {"type": 1}}]))
    assert (
        schema["additionalProperties"] is schema["properties"]["properties"]["additionalProperties"] is False
    )


@given(examples=st.lists(JSON, min_size=1, max_size=5), closed=st.booleans())
async def test_every_example_follows_the_schema(examples: list[Any], closed: bool) -> None:
    schema = load(await from_examples(examples, closed=closed))
    validator = Validator.of(schema)
    assert [validator.problems(example) for example in examples] == [()] * len(examples)


@pytest.mark.parametrize("examples", [[], [{}] * 1001])
async def test_no_examples_and_too_many_are_refused(examples: list[Any]) -> None:
    with pytest.raises(ServerError) as raised:
        await from_examples(examples)
    assert (raised.value.kind, raised.value.param) == (ErrorKind.INVALID_REQUEST, "examples")


def field(name: str, kind: str, **more: Any) -> dict[str, Any]:
    blank = {"description": "", "required": True, "values": [], "item": "string", "fields": []}
    return {"name": name, "kind": kind, **blank, **more}


OUTLINED: dict[str, Any] = {
    "title": "Order",
    "fields": [
        field("id", "integer", description="Its number."),
        field("state", "choice", values=["open", "closed", "open"], required=False),
        field("free", "choice"),
        field("tags", "list", item="string"),
        field("lines", "list", item="object", fields=[field("price", "number")]),
        field("buyer", "object", fields=[field("name", "string"), field("vip", "boolean", required=False)]),
    ],
}


def test_an_outline_becomes_a_schema() -> None:
    schema = schema_of(OUTLINED)
    assert schema["required"] == ["id", "free", "tags", "lines", "buyer"]
    assert schema["properties"]["id"] == {"type": "integer", "description": "Its number."}
    assert schema["properties"]["state"]["enum"] == ["open", "closed"]
    order = {"id": 1, "free": "x", "tags": ["a"], "lines": [{"price": 2.5}], "buyer": {"name": "A"}}
    validator = Validator.of(load(schema))
    assert validator.problems(order) == ()
    assert validator.problems({**order, "lines": [{}], "more": 1}) != ()


def test_the_outline_s_own_schema_takes_it() -> None:
    validator = Validator.of(load(OUTLINE))
    leaf = {"name", "description", "required", "kind", "values", "item"}

    def cut(fields: list[Any], depth: int) -> list[Any]:
        return [
            {key: each for key, each in one.items() if key in leaf}
            | ({"fields": cut(one["fields"], depth - 1)} if depth else {})
            for one in fields
        ]

    assert validator.problems({"title": "Order", "fields": cut(OUTLINED["fields"], 2)}) == ()


class Saying:
    """A pipeline whose model says the same to everybody."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.calls: list[Call] = []

    async def __call__(self, call: Call, ctx: Context) -> Events:
        self.calls.append(call)
        yield Completion(choices=(Choice(parts=(Text(self.text),), finish=FinishReason.STOP),))


async def test_a_description_is_asked_as_a_structured_answer() -> None:
    model = Saying(json.dumps(OUTLINED))
    schema = await from_description(model, "some/model", "An order.", Context(request_id="r"))
    assert json.loads(schema) == schema_of(OUTLINED)
    call = model.calls[0]
    assert isinstance(call, ChatCall)
    assert call.output is not None
    assert (call.model, call.output.kind, bytes(call.output.schema)) == ("some/model", "json_schema", OUTLINE)
    assert call.messages[-1].text.endswith("An order.")


@pytest.mark.parametrize(
    "text", ["", "no json", "{}", '{"title":"x","fields":[{}]}', '{"title":1,"fields":[]}']
)
async def test_what_makes_no_schema_is_an_invalid_output(text: str) -> None:
    with pytest.raises(ServerError) as raised:
        await from_description(Saying(text), "m", "An order.", Context(request_id="r"))
    assert (raised.value.kind, raised.value.raw_text) == (ErrorKind.OUTPUT_INVALID, text)
