"""Run several generations at once, and read them as one stream."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from llm_server.engine.runtime import Ended, Piece, Pieces

_Numbered = tuple[int, Piece | Ended]


async def merged(sources: Sequence[Pieces]) -> AsyncGenerator[_Numbered, None]:
    """Yield what ``sources`` yield, as it comes, with the source's number. The first failure ends them all.

    Closing it early closes every source before it returns.
    """
    inbox: asyncio.Queue[_Numbered | BaseException | None] = asyncio.Queue()
    readers = [asyncio.create_task(_read(at, source, inbox)) for at, source in enumerate(sources)]
    left = len(readers)
    try:
        while left:
            item = await inbox.get()
            if isinstance(item, BaseException):
                raise item
            if item is None:
                left -= 1
            else:
                yield item
    finally:
        for reader in readers:
            reader.cancel()
        await asyncio.gather(*readers, return_exceptions=True)


async def _read(at: int, source: Pieces, inbox: "asyncio.Queue[_Numbered | BaseException | None]") -> None:
    try:
        async with aclosing(source):
            async for piece in source:
                inbox.put_nowait((at, piece))
    except BaseException as error:
        inbox.put_nowait(error)
        raise
    inbox.put_nowait(None)
