"""OpenVINO GenAI in a supervised worker process.

A process of its own, because a step of its pipeline holds the GIL, and an error inside one makes the
pipeline unusable. A worker that dies is replaced. A request that it was working on is tried once more if
nothing of it was delivered, alone among those: whichever of them killed the worker cannot take the others
with it again.
"""

import asyncio
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, nullcontext, suppress
from itertools import count

import msgspec

from llm_server.contract import ErrorKind, ServerError
from llm_server.engine import frames
from llm_server.engine.runtime import (
    Generation,
    Piece,
    Pieces,
    Resources,
    RuntimeLoadError,
    closing,
    overflow,
)

_CLOSE_TIMEOUT_S = 5.0

_Order = Callable[[int], frames.Order]
"""Makes an order of the id that it is given."""


class WorkerDiedError(Exception):
    """The worker process is gone."""


class OpenvinoRuntime:
    """Runs a GGUF model with OpenVINO GenAI's continuous batching."""

    def __init__(self, resources: Resources) -> None:
        self._resources = resources
        self._worker: _Worker | None = None
        self._starting = asyncio.Lock()
        self._suspects = asyncio.Lock()
        self._watching: asyncio.Task[None] | None = None
        self._closed = False

    @property
    def pid(self) -> int | None:
        """The worker's process id, ``None`` before the first one runs."""
        return self._worker.pid if self._worker else None

    async def load(self) -> None:
        """Start the worker; raises ``RuntimeLoadError``."""
        await self._running()

    async def _running(self) -> "_Worker":
        """Return a worker that runs, replacing a dead one."""
        async with self._starting:
            if self._closed:
                raise closing()
            if self._worker is None or self._worker.dead:
                if self._worker is not None:
                    await self._worker.close()
                self._worker = await _Worker.start(self._resources)
                self._watching = asyncio.create_task(self._replace(self._worker), name="openvino supervisor")
            return self._worker

    async def _replace(self, worker: "_Worker") -> None:
        """Wait for the death of ``worker``, and start another before somebody asks for it."""
        await worker.died.wait()
        with suppress(RuntimeLoadError, ServerError):  # the next request tries again, and reports it
            await self._running()

    async def generate(self, generation: Generation) -> Pieces:
        """Generate; once more if the worker dies before it said anything.

        Refuses a constraint: its pipeline compiles grammars of its own in the step that all requests wait
        for, for seconds and some for ever, and one that it cannot compile fails them all
        (``docs/decisions/0004-the-embedded-engine.md``).
        """
        if generation.constraint is not None:
            message = "The OpenVINO runtime takes no grammars; the xllamacpp runtime does."
            raise ServerError(ErrorKind.UNSUPPORTED, message)
        delivered = False
        for turn in (nullcontext(), self._suspects):
            try:
                async with turn, aclosing(self._attempt(generation)) as pieces:
                    async for piece in pieces:
                        delivered = True
                        yield piece
                return
            except WorkerDiedError as error:
                failure = self._failure(error)
                if delivered:
                    raise failure from error
        raise failure

    def _failure(self, error: WorkerDiedError) -> ServerError:
        if self._closed:
            return closing()
        return ServerError(ErrorKind.UPSTREAM_ERROR, "The embedded model failed.", detail=str(error))

    async def _attempt(self, generation: Generation) -> Pieces:
        try:
            worker = await self._running()
        except RuntimeLoadError as error:
            raise ServerError(
                ErrorKind.UNAVAILABLE, "The embedded model failed.", detail=str(error)
            ) from error
        async with aclosing(worker.ask(lambda id: frames.Generate(id, generation))) as reports:
            async for report in reports:
                match report:
                    case frames.Wrote(text=text):
                        yield Piece(text)
                    case frames.Done(ended=ended):
                        yield ended
                        return

    async def count(self, text: str) -> int:
        """Ask the worker's tokenizer."""
        worker = await self._running()
        async with aclosing(worker.ask(lambda id: frames.Count(id, text))) as reports:
            async for report in reports:
                if isinstance(report, frames.Counted):
                    return report.tokens
        raise AssertionError("a worker answers or dies")

    async def close(self) -> None:
        """End the worker."""
        self._closed = True
        async with self._starting:
            if self._worker is not None:
                await self._worker.close()
        if self._watching is not None:
            await self._watching


class _Worker:
    """One life of the worker process."""

    def __init__(self, process: Process, resources: Resources) -> None:
        self._process = process
        self._context = resources.context
        self._ids = count(1)
        self._waiting: dict[int, asyncio.Queue[frames.Report | WorkerDiedError]] = {}
        self._reading: asyncio.Task[None] | None = None
        self.died = asyncio.Event()

    @property
    def dead(self) -> bool:
        return self.died.is_set()

    @classmethod
    async def start(cls, resources: Resources) -> "_Worker":
        module = "llm_server.engine.openvino_worker"
        process = await asyncio.create_subprocess_exec(sys.executable, "-m", module, stdin=PIPE, stdout=PIPE)
        worker = cls(process, resources)
        try:
            worker._send(frames.Load(resources))
            report = await worker._receive()
        except WorkerDiedError as error:
            report = frames.Failed(0, ErrorKind.UNAVAILABLE, str(error))
        except BaseException:
            await worker.close()
            raise
        if isinstance(report, frames.Failed):
            await worker.close()
            raise RuntimeLoadError(_explain(report.message))
        worker._reading = asyncio.create_task(worker._read(), name="openvino worker")
        return worker

    @property
    def pid(self) -> int:
        return self._process.pid

    async def ask(self, order: _Order) -> AsyncGenerator[frames.Report, None]:
        """Send the order made for a fresh id, and yield what is reported about it, to its end or for ever."""
        id, inbox = next(self._ids), asyncio.Queue[frames.Report | WorkerDiedError]()
        self._waiting[id] = inbox
        try:
            if self.dead:
                raise WorkerDiedError("it was gone before the request")
            self._send(order(id))
            while not isinstance(report := await inbox.get(), WorkerDiedError):
                if isinstance(report, frames.Failed):
                    raise self._failure(report)
                yield report
            raise report
        finally:
            del self._waiting[id]
            if not self.dead:
                self._send(frames.Cancel(id))

    def _failure(self, report: frames.Failed) -> ServerError:
        if report.kind is ErrorKind.CONTEXT_OVERFLOW:
            return overflow(report.prompt_tokens, self._context)
        return ServerError(report.kind, f"The embedded model refuses the request: {report.message}")

    def _send(self, order: frames.Order) -> None:
        assert self._process.stdin is not None
        with suppress(ConnectionError):  # the reader learns of a death
            self._process.stdin.write(frames.encode(order))

    async def _receive(self) -> frames.Report:
        assert self._process.stdout is not None
        try:
            (size,) = frames.HEADER.unpack(await self._process.stdout.readexactly(frames.HEADER.size))
            return frames.decode_report(await self._process.stdout.readexactly(size))
        except (asyncio.IncompleteReadError, ConnectionError) as error:
            raise WorkerDiedError("the worker process ended unexpectedly") from error
        except msgspec.MsgspecError as error:
            raise WorkerDiedError(f"the worker process sent garbage: {error}") from error

    async def _read(self) -> None:
        try:
            while True:
                report = await self._receive()
                if not isinstance(report, frames.Loaded) and (inbox := self._waiting.get(report.id)):
                    inbox.put_nowait(report)
        except WorkerDiedError as error:
            self.died.set()
            for inbox in self._waiting.values():
                inbox.put_nowait(error)

    async def close(self) -> None:
        """End the process: closing its input asks it to, and it is killed when it does not."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            await asyncio.wait_for(self._process.wait(), _CLOSE_TIMEOUT_S)
        except TimeoutError:
            self._process.kill()
            await self._process.wait()
        if self._reading is not None:
            await self._reading


def _explain(message: str) -> str:
    if "ModuleNotFoundError" in message:
        return "openvino-genai is not installed: pip install 'llm-server[openvino]'"
    return f"OpenVINO cannot load the model: {message}"
