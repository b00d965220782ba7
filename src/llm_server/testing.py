"""Public fakes of the ports: for the tests of this project and of whoever builds on it."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from contextlib import aclosing

import msgspec

from llm_server.contract import (
    UNFINISHED,
    Answer,
    Batch,
    BatchStatus,
    Call,
    ChatCall,
    Choice,
    Chunk,
    Completion,
    Context,
    EmbedCall,
    Embeddings,
    ErrorKind,
    Events,
    Facts,
    FileQuery,
    LineResult,
    ModelInfo,
    RegisteredSchema,
    SchemaVersion,
    ServerError,
    State,
    StoredFile,
    Text,
    TextCall,
    TextDelta,
    Usage,
    unfold,
)
from llm_server.contract.batches import PIECE_BYTES

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


class FakeFiles:
    """Keeps files in memory; see ``FileStore``.

    Attributes:
        read_by: the unfinished batches by their input file's id: these are not deleted.
        lines: what the files of batches are made of: by batch, the finished lines by number.
    """

    def __init__(self) -> None:
        self._files: dict[str, StoredFile] = {}
        self._begun: set[str] = set()
        self._pieces: dict[str, list[bytes]] = {}
        self.read_by: dict[str, str] = {}
        self.lines: dict[str, dict[int, LineResult]] = {}

    async def opened(self) -> "FakeFiles":
        """Return itself: what the use of a store is given to open."""
        return self

    async def begin(self, file: StoredFile) -> None:
        """Begin a file."""
        self._begun.add(file.id)
        self._files[file.id], self._pieces[file.id] = file, []

    async def append(self, file_id: str, number: int, data: bytes) -> None:
        """Add a piece."""
        file = self._known(file_id)
        assert number == len(self._pieces[file_id]) == file.size / PIECE_BYTES
        self._pieces[file_id].append(data)
        self._files[file_id] = msgspec.structs.replace(file, size=file.size + len(data))

    async def finish(self, file_id: str, expires: int | None = None) -> StoredFile:
        """Let the file be seen."""
        file = self._known(file_id)
        file = msgspec.structs.replace(file, expires=file.expires if expires is None else expires)
        self.add(file)
        return file

    async def find(self, tenant: str, file_id: str) -> StoredFile | None:
        """Return a finished file."""
        return next((file for file in self._seen(tenant) if file.id == file_id), None)

    async def page(self, query: FileQuery) -> tuple[StoredFile, ...]:
        """Return the files that ``query`` asks for."""
        found = [
            file
            for file in sorted(self._seen(query.tenant), key=lambda each: each.id)
            if (file.expires is None or file.expires > query.now)
            and query.purpose in {None, file.purpose}
            and (
                query.after is None or ((file.id > query.after) == query.ascending and file.id != query.after)
            )
        ]
        return tuple((found if query.ascending else found[::-1])[: query.limit])

    async def content(self, file: StoredFile) -> AsyncGenerator[bytes, None]:
        """Yield what is in a file."""
        if file.batch_id:
            for _, line in sorted(self.lines.get(file.batch_id, {}).items()):
                if (line.outcome != "completed") == file.failed:
                    yield line.data + b"\n"
        for piece in self._pieces.get(file.id, ()):
            yield piece

    async def piece(self, file_id: str, number: int) -> bytes:
        """Return a piece of a file."""
        pieces = self._pieces.get(file_id, [])
        return pieces[number] if number < len(pieces) else b""

    async def remove(self, tenant: str, file_id: str) -> bool:
        """Delete a file."""
        file = self._files.get(file_id)
        if file is None or file.tenant != tenant:
            return False
        if file_id in self.read_by:
            raise ServerError(ErrorKind.CONFLICT, "A batch reads it.", param="file_id")
        self.drop(file_id)
        return True

    async def used(self, tenant: str) -> int:
        """Return the bytes of all files."""
        return sum(file.size for file in self._files.values() if file.tenant == tenant)

    def add(self, file: StoredFile) -> None:
        """Add a finished file."""
        self._files[file.id] = file
        self._begun.discard(file.id)

    def drop(self, file_id: str) -> None:
        """Forget a file, and the lines that it is made of."""
        file = self._files.pop(file_id)
        self._pieces.pop(file_id, None)
        lines = self.lines.get(file.batch_id, {})
        for number, line in list(lines.items()):
            if (line.outcome != "completed") == file.failed:
                del lines[number]

    def old(self, now: int, begun_before: int) -> list[str]:
        """Return the ids of files that are over."""
        return [
            file.id
            for file in self._files.values()
            if (file.id in self._begun and file.created < begun_before)
            or (file.id not in self._begun and file.expires is not None and file.expires <= now)
            if file.id not in self.read_by
        ]

    def _seen(self, tenant: str) -> list[StoredFile]:
        return [f for f in self._files.values() if f.tenant == tenant and f.id not in self._begun]

    def _known(self, file_id: str) -> StoredFile:
        if file_id not in self._files:
            raise ServerError(ErrorKind.NOT_FOUND, "The file was deleted meanwhile.", param="file_id")
        return self._files[file_id]


class FakeBatches:
    """Keeps batches in memory, their files in ``files``; see ``BatchStore``."""

    def __init__(self, files: FakeFiles) -> None:
        self._files = files
        self._batches: dict[str, Batch] = {}
        self._claims: dict[str, tuple[str, float]] = {}

    async def add(self, batch: Batch) -> None:
        """Add a new batch."""
        self._put(batch)

    async def find(self, tenant: str, batch_id: str) -> Batch | None:
        """Return a batch."""
        found = self._batches.get(batch_id)
        return found if found is not None and found.tenant == tenant else None

    async def page(self, tenant: str, after: str | None, limit: int) -> tuple[Batch, ...]:
        """Return batches, newest first."""
        mine = (batch for batch in self._batches.values() if batch.tenant == tenant)
        found = (batch for batch in mine if after is None or batch.id < after)
        return tuple(sorted(found, key=lambda each: each.id, reverse=True)[:limit])

    async def cancel(self, tenant: str, batch_id: str, at: int) -> Batch | None:
        """Let a batch be cancelling."""
        found = await self.find(tenant, batch_id)
        if found is not None and found.status in {BatchStatus.VALIDATING, BatchStatus.IN_PROGRESS}:
            status = BatchStatus.CANCELLING
            found = msgspec.structs.replace(found, status=status, times={**found.times, status: at})
            self._put(found)
        return found

    async def claim(self, owner: str, now: float, until: float, *, given_up: bool = False) -> Batch | None:
        """Take the oldest unfinished batch that nobody has."""
        wanted = {BatchStatus.CANCELLING} if given_up else UNFINISHED
        for batch in sorted(self._batches.values(), key=lambda each: each.id):
            if batch.status in wanted and self._claims.get(batch.id, ("", 0.0))[1] <= now:
                self._claims[batch.id] = owner, until
                return batch
        return None

    async def renew(self, batch_id: str, owner: str, until: float) -> Batch | None:
        """Keep a claim."""
        if not self._has(batch_id, owner):
            return None
        self._claims[batch_id] = owner, until
        return self._batches[batch_id]

    async def release(self, batch_id: str, owner: str) -> None:
        """Give a claim back."""
        if self._has(batch_id, owner):
            del self._claims[batch_id]

    async def update(
        self, batch: Batch, owner: str, was: BatchStatus, files: Sequence[StoredFile] = ()
    ) -> bool:
        """Replace a batch, all but its counts and usage."""
        old = self._batches[batch.id]
        if not self._has(batch.id, owner) or old.status is not was:
            return False
        counts = {"completed": old.completed, "failed": old.failed, "usage": old.usage}
        self._put(msgspec.structs.replace(batch, **counts))
        for file in files:
            self._files.add(file)
        return True

    async def record(self, batch_id: str, owner: str, results: Sequence[LineResult]) -> Batch | None:
        """Keep finished lines, each once."""
        if not self._has(batch_id, owner):
            return None
        lines, batch = self._files.lines.setdefault(batch_id, {}), self._batches[batch_id]
        for result in results:
            if result.number in lines:
                continue
            lines[result.number] = result
            done = result.outcome == "completed"
            batch = msgspec.structs.replace(
                batch,
                completed=batch.completed + done,
                failed=batch.failed + (not done),
                usage=batch.usage + result.usage,
            )
        self._put(batch)
        return batch

    async def recorded(self, batch_id: str) -> tuple[int, ...]:
        """Return the numbers of the finished lines."""
        return tuple(self._files.lines.get(batch_id, ()))

    async def sizes(self, batch_id: str) -> tuple[int, int]:
        """Return how many bytes the answers and the failures make."""
        sizes = [0, 0]
        for line in self._files.lines.get(batch_id, {}).values():
            sizes[line.outcome != "completed"] += len(line.data) + 1
        return sizes[0], sizes[1]

    async def sweep(self, now: int, finished_before: int, begun_before: int) -> int:
        """Delete what is over."""
        files = self._files.old(now, begun_before)
        for file_id in files:
            self._files.drop(file_id)
        over = (each for each in self._batches.values() if each.status not in UNFINISHED)
        ended = [each for each in over if each.times[each.status] < finished_before]
        for batch in ended:
            del self._batches[batch.id]
            for file_id in filter(None, (batch.output_file, batch.error_file)):
                if await self._files.find(batch.tenant, file_id):
                    self._files.drop(file_id)
        return len(files) + len(ended)

    def _has(self, batch_id: str, owner: str) -> bool:
        return self._claims.get(batch_id, ("", 0.0))[0] == owner

    def _put(self, batch: Batch) -> None:
        self._batches[batch.id] = batch
        if batch.status in UNFINISHED:
            self._files.read_by[batch.input_file] = batch.id
        elif self._files.read_by.get(batch.input_file) == batch.id:
            del self._files.read_by[batch.input_file]


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
