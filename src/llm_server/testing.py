"""Public fakes of the ports: for the tests of this project and of whoever builds on it."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from contextlib import aclosing

import msgspec

from llm_server.contract import (
    Answer,
    Call,
    ChatCall,
    Choice,
    Chunk,
    Completion,
    Context,
    EmbedCall,
    Embeddings,
    Events,
    Facts,
    ModelInfo,
    RegisteredSchema,
    SchemaVersion,
    ServerError,
    State,
    Text,
    TextCall,
    TextDelta,
    Usage,
    unfold,
)

Script = Callable[[Call], Iterable[Answer | ServerError]]
"""Says what a call is answered: answers are yielded, an error is raised where it stands."""


def echo(call: Call) -> Iterable[Answer]:
    """Answer a chat or text call with its last text, an embedding call with the lengths of its inputs."""
    match call:
        case ChatCall():
            texts = [call.messages[-1].text if call.messages else ""]
        case TextCall():
            texts = [prompt if isinstance(prompt, str) else str(prompt) for prompt in call.prompts]
        case EmbedCall():
            vectors = tuple((float(len(item)), 0.0) for item in call.inputs)
            return (Embeddings(model=call.model, vectors=vectors, usage=Usage(input_tokens=len(vectors))),)
        case _:
            texts = [""]
    choices = tuple(Choice(index=at, parts=(Text(text),)) for at, text in enumerate(texts))
    whole = Completion(
        id="fake-1",
        model=call.model,
        choices=choices,
        usage=Usage(input_tokens=sum(len(text.split()) for text in texts), output_tokens=len(choices)),
    )
    return unfold(whole) if call.stream else (whole,)


class FakeProvider:
    """A provider that answers by script and remembers its calls.

    Args:
        name: the provider's name.
        script: what to answer; by default an echo.
        facts: what every model of it can do.

    Attributes:
        script: what to answer.
        calls: the calls received, in order.
        open: how many answers are being given now.
        asked: set when a call has arrived.
        gate: when set to an event, every answer waits for it before each step.
    """

    def __init__(self, name: str = "fake", script: Script = echo, facts: Facts | None = None) -> None:
        self.name = name
        self.calls: list[Call] = []
        self.open = 0
        self.asked = asyncio.Event()
        self.gate: asyncio.Event | None = None
        self.script = script
        self._facts = facts or Facts(completions=True, embeddings=True, count_tokens=True)
        self._state = State.STARTING

    def facts(self, model: str) -> Facts:  # noqa: ARG002 - the port names it
        """Return the same facts for every model."""
        return self._facts

    async def __call__(self, call: Call, ctx: Context) -> Events:  # noqa: ARG002 - the port names it
        """Answer by script."""
        self.calls.append(call)
        self.open += 1
        self.asked.set()
        try:
            for answer in self.script(call):
                if self.gate is not None:
                    await self.gate.wait()
                if isinstance(answer, ServerError):
                    raise answer.at(self.name)
                yield answer
        finally:
            self.open -= 1

    async def models(self) -> tuple[ModelInfo, ...]:
        """Return one model, ``echo``."""
        return (ModelInfo(id="echo", provider=self.name, created=1_700_000_000),)

    def state(self) -> tuple[State, str]:
        """Return ``STARTING`` until started."""
        return self._state, ""

    async def start(self) -> None:
        """Become ready."""
        self._state = State.READY

    async def close(self) -> None:
        """Have nothing to release."""


class FakeObserver:
    """Remembers what it was told: ``("started" | "first" | "finished", request id, error kind or None)``.

    ``ended`` is set when a request has finished.
    """

    def __init__(self) -> None:
        self.ended = asyncio.Event()
        self.told: list[tuple[str, str, str | None]] = []
        self.usages: list[Usage] = []

    def started(self, ctx: Context) -> None:
        """Remember a start."""
        self.told.append(("started", ctx.request_id, None))

    def first_content(self, ctx: Context) -> None:
        """Remember a first content."""
        self.told.append(("first", ctx.request_id, None))

    def finished(self, ctx: Context, usage: Usage, error: ServerError | None) -> None:
        """Remember an end."""
        self.usages.append(usage)
        self.told.append(("finished", ctx.request_id, error.kind.value if error else None))
        self.ended.set()


class FakeSchemas:
    """Keeps registered schemas in memory; see ``SchemaStore``."""

    def __init__(self) -> None:
        self._about: dict[str, RegisteredSchema] = {}
        self._versions: dict[tuple[str, int], SchemaVersion] = {}

    async def opened(self) -> "FakeSchemas":
        """Return itself: what a registry is given to open."""
        return self

    async def find(self, schema_id: str) -> RegisteredSchema | None:
        """Return what is registered under ``schema_id``."""
        about = self._about.get(schema_id)
        return None if about is None else self._numbered(about)

    async def version(self, schema_id: str, version: int) -> SchemaVersion | None:
        """Return a version, also a deleted one."""
        return self._versions.get((schema_id, version))

    async def page(self, after: str, limit: int) -> tuple[RegisteredSchema, ...]:
        """Return schemas that have a usable version, in order of id, above ``after``."""
        numbered = (self._numbered(about) for id_, about in sorted(self._about.items()) if id_ > after)
        return tuple([about for about in numbered if about.versions][:limit])

    async def add(self, about: RegisteredSchema, version: SchemaVersion) -> bool:
        """Add a version, unless its number is taken."""
        key = version.schema_id, version.version
        if key in self._versions:
            return False
        self._about[about.id], self._versions[key] = about, version
        return True

    async def describe(self, about: RegisteredSchema, version: SchemaVersion) -> None:
        """Replace what is said of a schema, and the examples of one of its versions."""
        self._about[about.id] = about
        self._versions[version.schema_id, version.version] = version

    async def remove(self, schema_id: str, version: int | None, at: int) -> int:
        """Mark a version, or all, as deleted."""
        gone = {
            key: msgspec.structs.replace(each, deleted=at)
            for key, each in self._versions.items()
            if key[0] == schema_id and version in {None, key[1]} and each.deleted is None
        }
        self._versions |= gone
        return len(gone)

    def _numbered(self, about: RegisteredSchema) -> RegisteredSchema:
        mine = sorted(key[1] for key in self._versions if key[0] == about.id)
        usable = tuple(each for each in mine if self._versions[about.id, each].deleted is None)
        deleted = tuple(each for each in mine if each not in usable)
        return msgspec.structs.replace(about, versions=usable, deleted=deleted)


async def outcome(answers: Events) -> tuple[list[Answer], ServerError | None]:
    """Return everything that ``answers`` yields and the error that ended it, if one did."""
    seen: list[Answer] = []
    async with aclosing(answers):
        while True:
            try:
                seen.append(await anext(answers))
            except StopAsyncIteration:
                return seen, None
            except ServerError as error:
                return seen, error


async def collect(answers: Events) -> Sequence[Answer]:
    """Return everything that ``answers`` yields, and close it."""
    async with aclosing(answers):
        return [answer async for answer in answers]


def chunks(*texts: str) -> tuple[Chunk, ...]:
    """Return the stream of an answer that says ``texts`` in one part, without an end."""
    return tuple(Chunk((TextDelta(text),)) for text in texts)
