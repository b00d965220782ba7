"""Whether the caller of a request that came through ASGI is still there, and still waits."""

import asyncio
import time
from types import TracebackType
from typing import Self

from starlette.types import Receive

from llm_server.contract import Context, ErrorKind, ServerError

PATIENCE_S = 0.05
"""Seconds from which on an answer is worth watching over: ASGI tells of a leaving only to a task that waits
for it, which is dear for answers that are there at once."""


class Presence:
    """Cancels the task that enters it when the caller leaves, which ``ctx.left`` tells, or at the deadline.

    ``ctx`` and the clock tell which of the two it was; a task cancelled for neither was cancelled by others.
    The body must have been read. Within the first :data:`PATIENCE_S` nobody looks for the caller.
    """

    __slots__ = ("_ctx", "_receive", "_task", "_timer", "_watcher")

    def __init__(self, receive: Receive, ctx: Context) -> None:
        self._receive = receive
        self._ctx = ctx
        self._watcher: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        """Begin to watch."""
        self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Watch no more.

        Raises:
            ServerError: ``CLIENT_CLOSED`` or ``DEADLINE`` in the place of the cancellation that it caused.
        """
        self.stop()
        if isinstance(error, asyncio.CancelledError) and (reason := why_cancelled(self._ctx)) is not None:
            self._task.uncancel()
            raise reason from None

    def start(self) -> None:
        """Begin to watch over the current task."""
        task = asyncio.current_task()
        assert task is not None
        self._task = task
        self._timer = asyncio.get_running_loop().call_later(min(PATIENCE_S, self._left_s()), self._look)

    def stop(self) -> None:
        """Watch no more."""
        self._timer.cancel()
        if self._watcher is not None:
            self._watcher.cancel()

    def _left_s(self) -> float:
        deadline_s = self._ctx.deadline_s
        return PATIENCE_S if deadline_s is None else deadline_s - time.perf_counter()

    def _look(self) -> None:
        loop = asyncio.get_running_loop()
        if self._watcher is None:
            self._watcher = loop.create_task(_left(self._receive))
            self._watcher.add_done_callback(self._gone)
        if self._ctx.deadline_s is None:
            return
        if (left_s := self._left_s()) > 0:
            self._timer = loop.call_later(left_s + 0.001, self._look)  # timers may come a millisecond early
        else:
            self._task.cancel()

    def _gone(self, watcher: asyncio.Task[None]) -> None:
        if not watcher.cancelled():
            self._ctx.left = True
            self._task.cancel()


def why_cancelled(ctx: Context) -> ServerError | None:
    """Return why a request was cancelled, if it was its caller's leaving or its deadline."""
    if ctx.left:
        return ServerError(ErrorKind.CLIENT_CLOSED, "The client left.")
    if ctx.deadline_s is not None and time.perf_counter() >= ctx.deadline_s:
        within_s = ctx.deadline_s - ctx.started_s
        return ServerError(ErrorKind.DEADLINE, f"No complete answer within {round(within_s, 3):g} seconds.")
    return None


async def _left(receive: Receive) -> None:
    """Return when the caller has left."""
    while (await receive())["type"] != "http.disconnect":
        pass
