"""Several workers: what their supervisor does when one dies, does not answer, or does not end."""

import asyncio
import json
import os
import signal
from collections.abc import AsyncGenerator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest
import uvicorn

from llm_server.cli import draining
from tests.cli.programs import Serving, Upstream, listening, serving

CHAT = {"model": "up/m", "messages": [{"role": "user", "content": "Hi"}]}


class Process:
    """A process that does what it is told, or not."""

    def __init__(self, obeys: bool = True) -> None:
        self.alive, self.obeys = True, obeys
        self.joined: list[float | None] = []
        self.killed = False
        self.pid, self.exitcode = 1, None

    def is_alive(self) -> bool:
        return self.alive

    def join(self, timeout: float | None = None) -> None:
        self.joined.append(timeout)
        if self.obeys or self.killed:
            self.alive = False
        assert timeout is not None or not self.alive, "it would be waited for without end"

    def kill(self) -> None:
        self.killed = True


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    clock = SimpleNamespace(now_s=100.0)
    monkeypatch.setattr(draining, "time", SimpleNamespace(monotonic=lambda: clock.now_s))
    return clock


def worker(process: Process) -> Any:
    made = draining._Worker(uvicorn.Config("x:y", timeout_graceful_shutdown=10), [])
    made.process = process  # type: ignore[assignment]  # what is used of one
    return made


def test_a_worker_is_not_waited_for(clock: SimpleNamespace) -> None:
    """One that starts, or is busy, answers late; signals and other workers' deaths must not wait for that."""
    one = worker(Process())
    assert one.is_alive(60)  # nobody answers
    clock.now_s += 59
    assert one.is_alive(60)
    clock.now_s += 1
    assert not one.is_alive(60)


def test_a_worker_that_answers_is_asked_again(clock: SimpleNamespace) -> None:
    one = worker(Process())
    for _ in range(3):
        clock.now_s += 59
        assert one.is_alive(60)
        assert one.child_conn.recv() == b"ping"
        assert not one.child_conn.poll()
        one.child_conn.send(True)
    assert one.is_alive(60)
    clock.now_s += 60
    assert not one.is_alive(60)


def test_a_worker_that_is_dead_is_not_alive(clock: SimpleNamespace) -> None:
    process = Process()
    one = worker(process)
    assert one.is_alive(60)
    process.alive = False
    assert not one.is_alive(60)


def test_a_worker_whose_pipe_is_closed_is_not_alive(clock: SimpleNamespace) -> None:
    one = worker(Process())
    one.parent_conn.close()
    assert not one.is_alive(60)


def test_workers_that_do_not_end_are_killed(monkeypatch: pytest.MonkeyPatch, clock: SimpleNamespace) -> None:
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    processes = [Process(obeys=False), Process()]
    workers = draining.Workers(uvicorn.Config("x:y", timeout_graceful_shutdown=10, workers=2), [])
    workers.processes = [worker(each) for each in processes]
    workers.join_all()
    assert [each.killed for each in processes] == [True, False]
    assert processes[0].joined[0] == 10 + draining.CLOSING_S
    assert not any(each.alive for each in processes)


@pytest.fixture
async def server(tmp_path: Path) -> AsyncGenerator[Serving, None]:
    """A server of two workers that has started."""
    upstream = Upstream(["Hello"])
    async with listening(upstream) as url:
        providers = {"up": {"base_url": f"{url}/v1", "models": ["m"]}}
        config = {"engine": {"enabled": False}, "providers": providers, "server": {"drain_timeout_s": 30}}
        (tmp_path / "llm-server.yaml").write_text(json.dumps(config))
        async with serving(tmp_path, "--workers", "2") as started:
            yield started


def workers_of(server: Serving) -> set[int]:
    """Return the processes below the server that serve."""
    found = set()
    for task in Path(f"/proc/{server.process.pid}/task").iterdir():
        for child in map(int, (task / "children").read_text().split()):
            try:
                command = Path(f"/proc/{child}/cmdline").read_bytes()
            except OSError:
                continue
            if b"spawn_main" in command:
                found.add(child)
    return found


async def both(server: Serving) -> set[int]:
    """Return the two workers when they are there."""
    while len(found := workers_of(server)) < 2:  # noqa: ASYNC110 - a process that is not ours tells nothing
        await asyncio.sleep(0)
    return found


async def asked(server: Serving) -> int:
    """Ask over a connection of its own until one worker or the other answers; return the status."""
    while True:
        try:
            async with (
                aiohttp.ClientSession() as session,
                session.post(f"{server.url}/v1/chat/completions", json=CHAT) as answer,
            ):
                return answer.status
        except aiohttp.ClientError:
            continue  # it was the one that is dead


async def test_a_worker_that_is_killed_is_replaced_and_all_end_as_one(server: Serving) -> None:
    workers = await both(server)
    assert await asked(server) == 200
    victim = min(workers)
    os.kill(victim, signal.SIGKILL)
    assert await asked(server) == 200
    while victim in (now := workers_of(server)) or len(now) < 2:
        await asked(server)
    assert await asked(server) == 200
    server.process.send_signal(signal.SIGTERM)
    await server.process.communicate()
    assert server.process.returncode == 0


async def test_a_worker_that_does_not_answer_keeps_nobody_from_ending(server: Serving) -> None:
    """Neither when it has hung: the others hear of the end at once, and it as soon as it goes on."""
    workers = await both(server)
    assert await asked(server) == 200
    hung, other = sorted(workers)
    os.kill(hung, signal.SIGSTOP)
    try:
        server.process.send_signal(signal.SIGTERM)
        while other in workers_of(server):  # noqa: ASYNC110 - a process that is not ours tells nothing
            await asyncio.sleep(0)
        assert server.process.returncode is None
    finally:
        os.kill(hung, signal.SIGCONT)
    await server.process.communicate()
    assert server.process.returncode == 0
