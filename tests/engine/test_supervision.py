"""A worker process that dies, and requests that would kill it."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

import pytest
import pytest_asyncio

from llm_server.contract import ErrorKind, ServerError
from llm_server.engine.openvino import OpenvinoRuntime
from llm_server.engine.runtime import Ended, Generation, Piece, Pieces, Resources, RuntimeLoadError

pytestmark = pytest.mark.asyncio(loop_scope="module")


def counting(**changes: object) -> Generation:
    return Generation(**{"prompt": "One, two, three,", "temperature": 0.0, "max_tokens": 12} | changes)


async def text(runtime: OpenvinoRuntime, generation: Generation) -> str:
    async with aclosing(runtime.generate(generation)) as pieces:
        return "".join([piece.text async for piece in pieces if isinstance(piece, Piece)])


async def ended(pieces: Pieces) -> Ended:
    """The end, after whatever comes before it."""
    (end,) = [piece async for piece in pieces if isinstance(piece, Ended)]
    return end


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def runtime(model_file: Path) -> AsyncIterator[OpenvinoRuntime]:
    runtime = OpenvinoRuntime(Resources(path=str(model_file), context=256, slots=4, threads=1))
    await runtime.load()
    yield runtime
    await runtime.close()


async def test_a_bad_request_does_not_hurt_the_others(runtime: OpenvinoRuntime) -> None:
    expected, worker = await text(runtime, counting()), runtime.pid
    bad = counting(temperature=1.0, top_p=7.0)
    *good, refused = await asyncio.gather(
        *(text(runtime, counting()) for _ in range(2)), text(runtime, bad), return_exceptions=True
    )
    assert good == [expected] * 2
    assert isinstance(refused, ServerError)
    assert refused.kind is ErrorKind.INVALID_REQUEST
    assert "top_p" in refused.message
    assert runtime.pid == worker


async def test_after_a_kill_what_said_nothing_is_tried_again_and_what_said_something_fails(
    runtime: OpenvinoRuntime,
) -> None:
    expected, worker = await text(runtime, counting()), runtime.pid
    assert worker is not None
    async with aclosing(runtime.generate(counting(max_tokens=200))) as begun:
        assert isinstance(await anext(begun), Piece)
        os.kill(worker, signal.SIGSTOP)
        fresh = [asyncio.create_task(text(runtime, counting())) for _ in range(2)]
        await asyncio.sleep(0)
        assert runtime._worker is not None
        assert len(runtime._worker._waiting) == 3  # their orders are sent, and nobody reads them
        os.kill(worker, signal.SIGKILL)
        with pytest.raises(ServerError) as caught:
            await ended(begun)
    assert caught.value.kind is ErrorKind.UPSTREAM_ERROR
    assert caught.value.kind.retryable
    assert await asyncio.gather(*fresh) == [expected] * 2
    assert runtime.pid != worker


async def test_closing_ends_the_process_and_what_comes_later_is_refused(
    model_file: Path, tmp_path: Path
) -> None:
    runtime = OpenvinoRuntime(Resources(path=str(tmp_path / "none.gguf"), context=256, slots=1, threads=1))
    with pytest.raises(RuntimeLoadError):
        await runtime.load()
    await runtime.close()
    with pytest.raises(ServerError) as caught:
        await text(runtime, counting())
    assert caught.value.kind is ErrorKind.UNAVAILABLE
