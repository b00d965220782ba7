"""A runner over fakes: input files in, finished batches out."""

import asyncio
import itertools
import json
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing, asynccontextmanager
from typing import Any

from llm_server.api.surface import BATCHED
from llm_server.batching.offline import (
    Asking,
    Batches,
    BatchesConfig,
    Files,
    Local,
    Remote,
    Routes,
    Runner,
)
from llm_server.batching.offline.states import over
from llm_server.contract import (
    Batch,
    BatchClient,
    BatchOrder,
    BatchStatus,
    BatchStore,
    Call,
    ErrorKind,
    FileStore,
    Handler,
    LineOutcome,
    ServerError,
    Target,
)
from llm_server.testing import FakeBatches, FakeFiles

CHAT = "/v1/chat/completions"
QUICK: dict[str, Any] = {"lease_s": 30, "poll_s": 0.001, "provider_poll_s": 0.001}


def asked(custom_id: str, text: str = "hi", url: str = CHAT, **body: Any) -> dict[str, Any]:
    """One line of an input file."""
    messages = [{"role": "user", "content": text}]
    return {
        "custom_id": custom_id,
        "method": "POST",
        "url": url,
        "body": {"model": "fake/m", "messages": messages, **body},
    }


class Told:
    """A ``BatchObserver`` that remembers, and lets somebody wait."""

    def __init__(self) -> None:
        self.statuses: list[BatchStatus] = []
        self.lines: list[LineOutcome] = []
        self.at_work = 0
        self.files: list[tuple[str, bool]] = []
        self.something = asyncio.Event()

    def entered(self, status: BatchStatus) -> None:
        self.statuses.append(status)
        self.something.set()

    def ended(self, outcome: LineOutcome, count: int) -> None:
        self.lines += [outcome] * count
        self.something.set()

    def running(self, change: int) -> None:
        self.at_work += change
        self.something.set()

    def cleared(self, provider: str, *, deleted: bool) -> None:
        self.files.append((provider, deleted))
        self.something.set()

    async def until(self, true: Callable[[], bool]) -> None:
        """Wait until something told makes ``true`` true."""
        while not true():
            self.something.clear()
            await self.something.wait()


class World:
    """Stores that outlive runners, and what is needed to make one.

    ``offset_s`` is what the clock is ahead of a fixed time.
    """

    def __init__(
        self, handler: Handler, clients: Mapping[str, BatchClient] | None = None, **config: Any
    ) -> None:
        self.files_kept = FakeFiles()
        self.batches_kept = FakeBatches(self.files_kept)
        self.offset_s = 0.0
        self.told = Told()
        self.config = BatchesConfig(**{**QUICK, **config})
        self._clients = clients or {}
        ids = itertools.count(1)
        self.asking = Asking(handler, BATCHED, 60.0, lambda: f"req-{next(ids)}")
        self.files = Files(self.files_kept.opened, self.config, self.now)
        self.runner = self.another()
        routes = Routes(tuple(BATCHED), targets, self._clients.keys())
        self.batches = Batches(self.stores, self.files, routes, self.runner.wake, self.now)

    def now(self) -> float:
        return 1_000_000.0 + self.offset_s

    async def stores(self) -> tuple[FileStore, BatchStore]:
        return self.files_kept, self.batches_kept

    def another(self) -> Runner:
        """One more runner over the same stores: another process, or the next one."""
        runs = (
            Local(self.asking, self.config),
            Remote(self._clients, self.asking, self.config.provider_poll_s),
        )
        return Runner((self.stores, lambda: True), runs, self.told, self.config, self.now)

    async def upload(self, *lines: Any) -> str:
        """Store an input file; return its id."""
        data = b"".join(
            line if isinstance(line, bytes) else json.dumps(line).encode() + b"\n" for line in lines
        )
        upload = await self.files.begin("", "in.jsonl")
        await upload.write(data)
        return (await upload.finish()).id

    async def order(self, *lines: Any, **more: Any) -> str:
        """Make a batch of these lines; return its id."""
        file = await self.upload(*lines)
        order: dict[str, Any] = {"endpoint": CHAT, "input_file": file, **more}
        return (await self.batches.create("", BatchOrder(**order))).id

    async def show(self, batch_id: str) -> Batch:
        return await self.batches.show("", batch_id)

    async def ended(self, batch_id: str) -> Batch:
        """Wait until a batch is over and given back."""
        while not over(await self.show(batch_id)):
            self.told.something.clear()
            await self.told.something.wait()
        await self.told.until(lambda: self.told.at_work == 0)
        return await self.show(batch_id)

    async def lines(self, file_id: str | None) -> list[Any]:
        """What a file of a batch says."""
        if file_id is None:
            return []
        _, pieces = await self.files.content("", file_id)
        async with aclosing(pieces):
            whole = b"".join([piece async for piece in pieces])
        return [json.loads(line) for line in whole.splitlines()]


def targets(model: str) -> tuple[Target, ...]:
    """Where a model's name leads: ``alias`` to two providers, ``provider/model`` to one."""
    if model == "alias":
        return (Target("other", "a"), Target("fake", "b"))
    provider, slash, name = model.partition("/")
    if not slash:
        raise ServerError(ErrorKind.MODEL_NOT_FOUND, "no such model", param="model")
    return (Target(provider, name),)


@asynccontextmanager
async def running(runner: Runner) -> AsyncGenerator[Runner, None]:
    """Let a runner run; leaving stops it as a server does that is told to."""
    task = asyncio.create_task(runner.run())
    try:
        yield runner
    finally:
        task.cancel()
        await asyncio.wait({task})
        if not task.cancelled():
            task.result()


def text_of(call: Call) -> str:
    """What a call's last message says."""
    return call.messages[-1].text  # type: ignore[attr-defined,no-any-return]  # every call of these tests is a chat
