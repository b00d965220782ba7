"""Whether the caller is still there."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.types import Receive

from llm_server.contract import ErrorKind, ServerError


@asynccontextmanager
async def present(receive: Receive, timeout_s: float) -> AsyncIterator[None]:
    """Cancel what is done inside when the caller leaves, and after ``timeout_s``.

    For routes of FastAPI, which itself does neither. The body must have been read.

    Raises:
        ServerError: ``CLIENT_CLOSED`` or ``DEADLINE``.
    """
    task = asyncio.current_task()
    assert task is not None
    leaving = asyncio.create_task(left(receive))
    gone = False

    def leave(watch: asyncio.Task[None]) -> None:
        nonlocal gone
        if not watch.cancelled():
            gone = True
            task.cancel()

    leaving.add_done_callback(leave)
    try:
        async with asyncio.timeout(timeout_s):
            yield
    except TimeoutError as error:
        message = f"No complete answer within {timeout_s:g} seconds."
        raise ServerError(ErrorKind.DEADLINE, message) from error
    except asyncio.CancelledError:
        if not gone:
            raise
        task.uncancel()
        raise ServerError(ErrorKind.CLIENT_CLOSED, "The client left.") from None
    finally:
        leaving.cancel()


async def left(receive: Receive) -> None:
    """Return when the caller has left."""
    while (await receive())["type"] != "http.disconnect":
        pass
