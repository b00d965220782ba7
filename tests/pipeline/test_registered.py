"""A registered schema takes the place of its name before anything else sees the call."""

import json

from msgspec import Raw

from llm_server.contract import (
    Call,
    ChatCall,
    Completion,
    Context,
    ErrorKind,
    Events,
    OutputFormat,
    SchemaVersion,
    ServerError,
    TextCall,
)
from llm_server.pipeline import Registered
from llm_server.testing import outcome

FOUND = SchemaVersion(schema_id="person", version=3, schema=Raw(b'{"type":"object"}'), digest="d" * 64)


class Schemas:
    """Knows one schema, and remembers what it was asked for."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, int | None]] = []

    async def resolve(self, schema_id: str, version: int | None = None) -> SchemaVersion:
        self.asked.append((schema_id, version))
        if schema_id != "person":
            raise ServerError(ErrorKind.NOT_FOUND, "No such schema.", param="schema_id")
        return FOUND


class Inner:
    """Remembers the call."""

    call: Call | None = None

    async def __call__(self, call: Call, ctx: Context) -> Events:
        self.call = call
        yield Completion()


def chat(output: OutputFormat | None) -> ChatCall:
    return ChatCall(model="m", messages=(), raw=b'{"seed": 1}', dialect="openai", output=output)


async def test_the_schema_is_filled_in_and_the_version_noted() -> None:
    inner, schemas, ctx = Inner(), Schemas(), Context(request_id="r")
    asked = chat(OutputFormat(kind="json_schema", schema_id="person", strict=True))
    answers, error = await outcome(Registered(inner, schemas)(asked, ctx))
    assert (len(answers), error) == (1, None)
    assert isinstance(inner.call, ChatCall)
    output = inner.call.output
    assert output is not None
    assert json.loads(bytes(output.schema)) == {"type": "object"}
    assert (output.name, output.schema_version, output.strict) == ("person", 3, True)
    assert inner.call.raw == asked.raw, "the caller's other fields survive"
    assert inner.call.amended == {"output"}
    assert ctx.schema == FOUND
    assert schemas.asked == [("person", None)]


async def test_a_version_and_a_name_of_the_caller_s_are_kept() -> None:
    inner, schemas = Inner(), Schemas()
    output = OutputFormat(kind="json_schema", schema_id="person", schema_version=3, name="mine")
    await outcome(Registered(inner, schemas)(chat(output), Context(request_id="r")))
    assert schemas.asked == [("person", 3)]
    assert isinstance(inner.call, ChatCall)
    assert inner.call.output is not None
    assert inner.call.output.name == "mine"


async def test_an_unknown_schema_ends_the_call_before_anybody_is_asked() -> None:
    inner = Inner()
    call = chat(OutputFormat(kind="json_schema", schema_id="nobody"))
    _, error = await outcome(Registered(inner, Schemas())(call, Context(request_id="r")))
    assert error is not None
    assert (error.kind, inner.call) == (ErrorKind.NOT_FOUND, None)


async def test_every_other_call_passes_untouched() -> None:
    inner, schemas = Inner(), Schemas()
    inline = OutputFormat(kind="json_schema", schema=Raw(b"{}"))
    for call in (chat(None), chat(inline), TextCall(model="m", prompts=("x",))):
        await outcome(Registered(inner, schemas)(call, Context(request_id="r")))
        assert inner.call is call
    assert schemas.asked == []
