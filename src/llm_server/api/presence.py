"""Whether the caller is still there."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.types import Receive

from llm_server.contract import Context, ErrorKind, ServerError


@asynccontextmanager
async def present(receive: Receive, timeout_s: float, ctx: Context) -> AsyncIterator[None]:
    """Cancel what is done inside when the caller leaves, and after ``timeout_s``.

    For routes of FastAPI, which itself does neither. The body must have been read.

    Raises:
        ServerError: ``CLIENT_CLOSED`` or ``DEADLINE``.
    """
    task = asyncio.current_task()
    assert task is not None
    leaving = watch(receive, ctx)
    try:
        async with asyncio.timeout(timeout_s):
            yield
    except TimeoutError as error:
        message = f"No complete answer within {timeout_s:g} seconds."
        raise ServerError(ErrorKind.DEADLINE, message) from error
    except asyncio.CancelledError:
        if not ctx.left:
            raise
        task.uncancel()
        raise ServerError(ErrorKind.CLIENT_CLOSED, "The client left.") from None
    finally:
        leaving.cancel()


def watch(receive: Receive, ctx: Context) -> asyncio.Task[None]:
    """Listen for the caller of the current task to leave: that is noted in ``ctx``, and the task cancelled.

    Whoever calls cancels the task that is returned when the answer is complete.
    """
    answering = asyncio.current_task()
    leaving = asyncio.create_task(left(receive))

    def gone(task: asyncio.Task[None]) -> None:
        if not task.cancelled() and answering is not None:
            ctx.left = True
            answering.cancel()

    leaving.add_done_callback(gone)
    return leaving


async def left(receive: Receive) -> None:
    """Return when the caller has left."""
    while (await receive())["type"] != "http.disconnect":
        pass
