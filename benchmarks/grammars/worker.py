"""A backend in a process of its own: an engine that does not come back is ended with it."""

import os
import sys
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from time import monotonic
from typing import Any, NamedTuple

from grammars.backends import BACKENDS, Backend, Ready
from grammars.schemas import Case, ordered
from grammars.vocabulary import Vocabulary
from llm_server.contract import ServerError
from llm_server.structured.schema import load
from llm_server.structured.validation import Validator

START_S = 120.0
PATIENCE = 20
"""So many times the limit may pass by the clock: for an engine that waits and does not work."""
ROUNDS, LONG_S = 3, 0.1
"""A schema is compiled so often, unless it takes long: what else the machine does only makes it slower."""


class Outcome(NamedTuple):
    """What a backend made of one case.

    ``refused``: why it does not compile, empty if it does. ``written`` and ``reordered``: whether it is
    correct with the instances as they are written, and with their properties in the order of the schema.
    ``passed``: invalid instances that its grammar lets through, which validation then stops.
    """

    refused: str
    guarantee: str = ""
    compile_ms: float = 0.0
    written: bool = False
    reordered: bool = False
    passed: int = 0
    tokens: int = 0
    mask_s: float = 0.0


class Worker:
    """Runs cases on one backend, each within ``limit_s`` seconds of processor time.

    By the clock, whatever else the machine does would decide which engine is in time.
    """

    def __init__(self, name: str, model: Path, limit_s: float) -> None:
        self._arguments = (name, model)
        self._limit_s = limit_s
        self._start()

    def _start(self) -> None:
        context = get_context("spawn")
        self._pipe, other = context.Pipe()
        self._process = context.Process(target=_serve, args=(other, *self._arguments), daemon=True)
        self._process.start()
        if not self._pipe.poll(START_S) or self._pipe.recv() != "ready":
            raise SystemExit(f"{self._arguments[0]} does not start")

    def run(self, case: Case) -> Outcome:
        """Return what the backend made of ``case``."""
        self._pipe.send(case)
        try:
            if self._answered():
                outcome: Outcome = self._pipe.recv()
                return outcome
            refused = f"no answer within {self._limit_s:g} s"
        except EOFError:
            refused = "the engine crashed"
        self.stop()
        self._start()
        return Outcome(refused)

    def _answered(self) -> bool:
        used_s, gives_up_s = self._cpu_s(), monotonic() + PATIENCE * self._limit_s
        while not self._pipe.poll(0.1):
            if self._cpu_s() - used_s > self._limit_s or monotonic() > gives_up_s:
                return False
        return True

    def _cpu_s(self) -> float:
        """Return the processor seconds of the worker, proc(5); none once it has ended."""
        try:
            fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(") ")[2].split()
        except FileNotFoundError:
            return 0.0
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def stop(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.join()


def _serve(pipe: Connection, name: str, model: Path) -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())  # one engine warns of every allOf
    backend = BACKENDS[name](Vocabulary(model))
    backend.compile({"type": "object", "properties": {"warm": {"type": "string"}}})
    pipe.send("ready")
    while True:
        pipe.send(_judged(backend, pipe.recv()))


def _compiled(backend: Backend, schema: Any) -> Ready:
    """Return what the fastest of :data:`ROUNDS` made."""
    fastest = backend.compile(schema)
    for _ in range(1, ROUNDS):
        if fastest.seconds < LONG_S:
            fastest = min(fastest, backend.compile(schema), key=lambda ready: ready.seconds)
    return fastest


def _judged(backend: Backend, case: Case) -> Outcome:
    try:
        ready = _compiled(backend, case.schema)
    except (ServerError, ValueError, RuntimeError, TypeError) as error:
        return Outcome(str(error) or type(error).__name__)
    tokens, mask_s, passed, written, reordered = 0, 0.0, 0, True, True
    for test in case.tests:
        walked = backend.walk(ready.state, test["data"])
        tokens, mask_s = tokens + walked.tokens, mask_s + walked.mask_s
        if test["valid"]:
            written &= walked.accepted
            reordered &= walked.accepted or _reordered(backend, ready.state, case, test["data"])
        elif walked.accepted:
            passed += 1
            written &= (delivered := _invalid(case.schema, test["data"]))
            reordered &= delivered
    return Outcome("", ready.guarantee, ready.seconds * 1e3, written, reordered, passed, tokens, mask_s)


def _reordered(backend: Backend, state: Any, case: Case, value: Any) -> bool:
    other = ordered(case.schema, value)
    return backend.walk(state, other).accepted


def _invalid(schema: Any, value: Any) -> bool:
    """Tell whether validation stops ``value``."""
    try:
        return bool(Validator.of(load(schema)).problems(value))
    except ServerError:
        return False
