"""Keep finished lines: everything that has gathered while the last group was written is the next group.

A commit costs the same for one line as for hundreds (sqlite.org/faq.html#q19), so a busy batch writes large
groups and an idle one writes at once.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from llm_server.contract import LineResult

MAX_GROUP = 500
MAX_GROUP_BYTES = 8 * 1024 * 1024

Keeping = Callable[[Sequence[LineResult]], Awaitable[None]]


class Recording:
    """Writes results through ``keep``, one group at a time.

    A line whose :meth:`record` has returned is kept. The first failure of ``keep`` is raised to all who wait,
    and to everyone after them.
    """

    def __init__(self, keep: Keeping) -> None:
        self._keep = keep
        self._waiting: list[tuple[LineResult, asyncio.Future[None]]] = []
        self._writing: asyncio.Task[None] | None = None

    async def record(self, result: LineResult) -> None:
        """Keep a result; raises what ``keep`` raises."""
        kept = asyncio.get_running_loop().create_future()
        self._waiting.append((result, kept))
        if self._writing is None:
            self._writing = asyncio.create_task(self._write())
        await kept

    async def flush(self) -> None:
        """Wait until everything that was given so far is kept, or could not be."""
        while (writing := self._writing) is not None:
            await asyncio.wait({writing})

    async def _write(self) -> None:
        try:
            while self._waiting:
                group = self._group()
                error: BaseException | None = None
                try:
                    await self._keep([result for result, _ in group])
                except Exception as failure:  # noqa: BLE001 - whatever it is, those who wait are told
                    error = failure
                for _, kept in group:
                    if kept.done():
                        continue
                    if error is None:
                        kept.set_result(None)
                    else:
                        kept.set_exception(error)
        finally:
            self._writing = None

    def _group(self) -> list[tuple[LineResult, asyncio.Future[None]]]:
        size, count = 0, 0
        for result, _ in self._waiting[:MAX_GROUP]:
            size += len(result.data)
            if count and size > MAX_GROUP_BYTES:
                break
            count += 1
        group, self._waiting = self._waiting[:count], self._waiting[count:]
        return group
