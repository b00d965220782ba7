"""Scripted answers of a model for the tests of the structured stage."""

from collections.abc import Iterable
from typing import Any

import msgspec
from msgspec import Raw

from llm_server.contract import (
    Answer,
    Call,
    ChatCall,
    Choice,
    Chunk,
    Completion,
    Context,
    Facts,
    Finish,
    FinishReason,
    Message,
    OutputFormat,
    Part,
    Refusal,
    Role,
    SchemaRules,
    ServerError,
    Started,
    Text,
    TextDelta,
    Thinking,
    Tool,
    ToolCall,
    ToolChoice,
    ToolDelta,
    Usage,
    fold,
)
from llm_server.structured.config import StructuredConfig
from llm_server.structured.stage import Structured
from llm_server.testing import FakeProvider, outcome

HELLO = (Message(Role.USER, (Text("Who is it?"),)),)
PERSON: dict[str, Any] = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "age": {"type": "integer", "minimum": 0},
        "mood": {"enum": ["glad", "sad"]},
        "born": {"type": "string", "format": "date"},
    },
    "required": ["name", "age"],
    "additionalProperties": False,
}
GOOD = '{"name":"Ada","age":36}'
STRICT = SchemaRules(
    enforced=True,
    root_object=True,
    all_required=True,
    closed=True,
    typed=True,
    keywords=frozenset(
        {"type", "properties", "required", "additionalProperties", "items", "enum", "const", "anyOf", "$ref"}
        | {"$defs", "description", "title"}
    ),
)
CALLING = Facts(json_schema=False)
PLAIN = Facts(json_schema=False, json_object=False, tools=False)
ENFORCED = Facts(schema_rules=STRICT)

Say = str | Choice | ServerError


def schema(value: dict[str, Any], **more: Any) -> OutputFormat:
    return OutputFormat(kind="json_schema", schema=Raw(msgspec.json.encode(value)), name="person", **more)


def call(output: OutputFormat | None = None, **more: Any) -> ChatCall:
    return ChatCall(model="m", messages=more.pop("messages", HELLO), output=output, **more)


def forcing(value: dict[str, Any], **more: Any) -> ChatCall:
    tool = Tool(name="person", parameters=Raw(msgspec.json.encode(value)))
    return call(tools=(tool,), tool_choice=ToolChoice("tool", "person"), **more)


def choice(*parts: Part, finish: FinishReason = FinishReason.STOP) -> Choice:
    return Choice(parts=parts, finish=finish)  # type: ignore[arg-type]  # the tests build answers only


def calling(arguments: str, name: str = "answer") -> Choice:
    return choice(ToolCall("call_1", name, arguments), finish=FinishReason.TOOL_CALLS)


def _content(said: Choice) -> Iterable[Chunk]:
    """Say each part in pieces of three characters."""
    for at, part in enumerate(said.parts):
        text = part.arguments if isinstance(part, ToolCall) else part.text
        if isinstance(part, ToolCall):
            yield Chunk((ToolDelta(at, part.id, part.name),))
        for start in range(0, len(text), 3):
            piece = text[start : start + 3]
            match part:
                case ToolCall():
                    yield Chunk((ToolDelta(at, arguments=piece),))
                case Text():
                    yield Chunk((TextDelta(piece, at),))
                case Refusal():
                    from llm_server.contract import RefusalDelta

                    yield Chunk((RefusalDelta(piece, at),))
                case Thinking():
                    from llm_server.contract import ReasoningDelta

                    yield Chunk((ReasoningDelta(piece, at),))


class Model:
    """A model that gives these answers in turn, the last one again and again, by the call that asked."""

    def __init__(self, *says: Say) -> None:
        self.says = list(says)

    def __call__(self, asked: Call) -> Iterable[Answer | ServerError]:
        said = self.says.pop(0) if len(self.says) > 1 else self.says[0]
        if isinstance(said, ServerError):
            yield said
            return
        if isinstance(said, str):
            said = _as_asked(said, asked)
        usage = Usage(input_tokens=10, output_tokens=5)
        if not asked.stream:
            yield Completion(id="a1", model="m", choices=(said,), usage=usage)
            return
        yield Chunk((Started(id="a1", model="m"),))
        yield from _content(said)
        yield Chunk((Finish(said.finish),))
        yield Chunk((usage,))


def _as_asked(text: str, asked: Call) -> Choice:
    """Say ``text`` where the call wants it: in a call of the one tool that is forced, or as text."""
    tool = asked.forced_tool if isinstance(asked, ChatCall) else None
    return calling(text, tool.name) if tool else choice(Text(text))


class Told:
    """What a caller was told: the answer or the error, and the story of the request."""

    def __init__(self, answers: list[Answer], error: ServerError | None, ctx: Context) -> None:
        self.answers = answers
        self.error = error
        self.ctx = ctx

    @property
    def completion(self) -> Completion:
        assert self.error is None, self.error
        first = self.answers[0]
        return (
            first
            if isinstance(first, Completion)
            else fold(one for one in self.answers if isinstance(one, Chunk))
        )

    @property
    def choice(self) -> Choice:
        return self.completion.choices[0]

    @property
    def text(self) -> str:
        return self.choice.text

    @property
    def note(self) -> str:
        note = self.ctx.structured
        assert note is not None
        return f"{note.method} {note.outcome} {note.attempts}"


async def ask(
    asked: ChatCall, *says: Say, facts: Facts = ENFORCED, config: StructuredConfig | None = None
) -> tuple[Told, FakeProvider]:
    provider = FakeProvider(script=Model(*says), facts=facts)
    ctx = Context(request_id="r1")
    stage = Structured(provider, config)
    answers, error = await outcome(stage(asked, ctx))
    return Told(answers, error, ctx), provider
