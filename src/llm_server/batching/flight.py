"""One call whose answer several requests read, each from its beginning and at its own pace."""

import asyncio
from collections.abc import Callable
from contextlib import aclosing

from llm_server.batching.passing import as_told, common, own, tell
from llm_server.contract import Answer, Context, Events, ServerError

AHEAD = 64
"""Chunks that are read of the upstream before the fastest reader has taken them."""


class _Reader:
    """A request that reads: how many answers it has taken, and what it waits for."""

    __slots__ = ("ctx", "taken", "waiting")

    def __init__(self, ctx: Context) -> None:
        self.ctx = ctx
        self.taken = 0
        self.waiting: asyncio.Future[None] | None = None

    def wake(self) -> None:
        if self.waiting is not None and not self.waiting.done():
            self.waiting.set_result(None)


class Flight:
    """A call on its way, made in a task of its own: whoever leaves, the others go on.

    The upstream is read at the pace of the fastest reader. What it said is kept from the beginning, for those
    that are slower or come later, up to ``max_chunks``. A longer answer is not joined any more: what all have
    read is dropped, and if that is not enough the upstream waits for the slowest. So memory is bounded, and
    nobody's answer is cut because it is shared. When all have left, the call is cancelled.

    Exactly one reader pays: the first that reads to the end, or, if none does, the last that leaves. The
    others have ``Context.shared`` set.

    Args:
        ctx: of the request that makes the call.
        max_chunks: that are kept.
        landed: called, once or more, when the flight is not to be joined any more.
    """

    def __init__(self, ctx: Context, max_chunks: int, landed: Callable[[], None]) -> None:
        self.ctx = common([ctx])
        # Who joins may wait longer than the first. Each leaves at its own deadline, the last with the call.
        self.ctx.deadline_s = None
        self._max_chunks = max_chunks
        self._landed = landed
        self._kept: list[Answer] = []
        self._dropped = 0
        self._front = 0
        self._readers: list[_Reader] = []
        self._room: asyncio.Future[None] | None = None
        self._task: asyncio.Task[None] | None = None
        self._ended = False
        self._failure: ServerError | None = None
        self._paid = False

    def start(self, answers: Events) -> asyncio.Task[None]:
        """Begin to read ``answers``, made with :attr:`ctx`. The caller owns the task."""
        self._task = asyncio.create_task(self._carry(answers))
        return self._task

    async def read(self, ctx: Context) -> Events:
        """Yield the answer from its beginning; raises its failure, in a copy of one's own."""
        reader = _Reader(ctx)
        self.ctx.priority = min(self.ctx.priority, ctx.priority)
        self._readers.append(reader)
        whole = False
        try:
            while (answer := await self._next(reader)) is not None:
                yield answer
            whole = True
            if self._failure is not None:
                raise own(self._failure)
        finally:
            self._leave(reader, whole=whole)

    async def _next(self, reader: _Reader) -> Answer | None:
        while reader.taken == self._dropped + len(self._kept):
            if self._ended:
                return None
            reader.waiting = asyncio.get_running_loop().create_future()
            await reader.waiting
        if reader.taken == 0:
            tell(reader.ctx, self.ctx)
        answer = self._kept[reader.taken - self._dropped]
        reader.taken += 1
        self._front = max(self._front, reader.taken)
        if self._room is not None:
            self._make_room()
        return answer

    def _leave(self, reader: _Reader, *, whole: bool) -> None:
        self._readers.remove(reader)
        tell(reader.ctx, self.ctx)
        reader.ctx.shared = self._paid or not (whole or not self._readers)
        self._paid = self._paid or whole
        if self._room is not None:
            self._make_room()
        if not self._readers and not self._ended and self._task is not None:
            self._landed()
            self._task.cancel()

    async def _carry(self, answers: Events) -> None:
        try:
            async with aclosing(answers):
                async for answer in answers:
                    self._kept.append(answer)
                    self._wake()
                    while self._far_ahead():
                        self._room = asyncio.get_running_loop().create_future()
                        await self._room
        except (Exception, asyncio.CancelledError) as failure:  # noqa: BLE001 - every reader raises it
            self._failure = as_told(failure)
        finally:
            self._room = None
            self._ended = True
            self._landed()
            self._wake()

    def _wake(self) -> None:
        for reader in self._readers:
            reader.wake()

    def _far_ahead(self) -> bool:
        if len(self._kept) >= self._max_chunks:
            self._landed()
            end = self._dropped + len(self._kept)
            slowest = min((reader.taken for reader in self._readers), default=end)
            del self._kept[: slowest - self._dropped]
            self._dropped = slowest
        ahead = self._dropped + len(self._kept) - self._front
        return ahead >= AHEAD or len(self._kept) >= self._max_chunks

    def _make_room(self) -> None:
        if self._room is not None and not self._room.done() and not self._far_ahead():
            self._room.set_result(None)
