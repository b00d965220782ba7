"""How a process that serves ends: it finishes what is in flight, unless it is told twice to stop."""

import asyncio
import gc
import os
import pickle
import signal
import socket
import sys
import time
from types import FrameType
from typing import TYPE_CHECKING, cast

import uvicorn
from uvicorn.supervisors import multiprocess

if TYPE_CHECKING:  # a terminal program starts fast: only a process that serves needs it
    from llm_server.api.connection import Connection

GARBAGE_AFTER = 20_000
"""Objects made and not freed since the last time, after which the collector looks through the youngest."""


CLOSING_S = 60
"""Seconds that a worker has, after the drain's time, to close what stands behind the application."""


class Draining(uvicorn.Server):
    """A server for which a second SIGINT is the end of the drain's time.

    Requests in flight are then cancelled, streams end with their error in band, and what stands behind the
    application is closed. uvicorn's own ``force_exit`` would leave all of that out. A second SIGTERM changes
    nothing: a worker gets one from its supervisor after the terminal's SIGINT.
    """

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._told_twice = asyncio.Event()

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve until told to stop.

        Event loops keep a weak set of all asynchronous generators, to close what their owners forgot. Ours
        close theirs, and a request has several: without the set it costs 5 % less. What is collected unclosed
        is still closed by the loop.

        The garbage collector no longer looks through what a start leaves behind, which stays
        (https://docs.python.org/3/library/gc.html#gc.freeze), and looks for cycles, of which a request makes
        hardly any, after more than the usual 700 objects: it took 9 % of a request.
        """
        sys.set_asyncgen_hooks(firstiter=None)
        gc.collect()
        gc.freeze()
        gc.set_threshold(GARBAGE_AFTER, 10, 10)
        await super().serve(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Take a signal."""
        if self.should_exit and sig == signal.SIGINT:
            self._told_twice.set()
        super().handle_exit(sig, frame)
        self.force_exit = False

    async def _wait_tasks_to_complete(self) -> None:
        """Wait for all connections' ends; what is not at its end in time is told of it.

        uvicorn cancels the tasks that are left. A request that is not complete need not have one.
        """
        try:
            await self._drained()
        finally:
            for connection in list(self.server_state.connections):
                cast("Connection", connection).give_up()

    async def _drained(self) -> None:
        for connection in list(self.server_state.connections):
            connection.shutdown()  # also those that were accepted last, when others were told
        drained = asyncio.ensure_future(super()._wait_tasks_to_complete())
        told_twice = asyncio.ensure_future(self._told_twice.wait())
        try:
            await asyncio.wait((drained, told_twice), return_when=asyncio.FIRST_COMPLETED)
        finally:
            drained.cancel()
            told_twice.cancel()
        if not drained.done():
            raise TimeoutError  # which uvicorn takes as the end of timeout_graceful_shutdown


class _Worker(multiprocess.Process):
    """A worker process that drains like a server that is alone."""

    def __init__(self, config: uvicorn.Config, sockets: list[socket.socket]) -> None:
        super().__init__(config, sockets)
        self._asked_s: float | None = None

    def is_alive(self, timeout: float = 5) -> bool:
        """Whether it runs, and has not failed for ``timeout`` seconds to answer.

        uvicorn waits for the answer, and meanwhile neither hears a signal nor sees that another has died.
        """
        if not self.process.is_alive():
            return False
        now_s = time.monotonic()
        try:
            while self.parent_conn.poll():
                self.parent_conn.recv()
                self._asked_s = None
            if self._asked_s is None:
                self.parent_conn.send(b"ping")
                self._asked_s = now_s
        except (OSError, EOFError, pickle.UnpicklingError):
            return False
        return now_s - self._asked_s < timeout

    @property
    def server(self) -> uvicorn.Server:
        if self._server is None:
            self._server = Draining(self.config)
        return self._server


class Workers(multiprocess.Multiprocess):
    """Starts, watches and stops the worker processes."""

    def init_processes(self) -> None:
        """Start the workers. The supervisor makes them, and those that replace them, by this name."""
        multiprocess.Process = _Worker  # type: ignore[misc]  # no other way to choose
        super().init_processes()

    def terminate_all(self) -> None:
        """Stop accepting, for which the supervisor must close its own socket too, and drain the workers."""
        for listener in self.sockets:
            listener.close()
        signal.signal(signal.SIGINT, self._hurry)
        super().terminate_all()

    def join_all(self) -> None:
        """Wait for the workers' ends; one that does not come to it is killed."""
        until_s = time.monotonic() + (self.config.timeout_graceful_shutdown or 0) + CLOSING_S
        for worker in self.processes:
            worker.process.join(max(0.0, until_s - time.monotonic()))
            if worker.process.is_alive():
                worker.process.kill()
        super().join_all()

    def _hurry(self, _signal: int, _frame: FrameType | None) -> None:
        """Pass a second SIGINT on: the workers hear of one only if it came from their terminal."""
        for worker in self.processes:
            if worker.pid is not None and worker.exitcode is None:
                os.kill(worker.pid, signal.SIGINT)
