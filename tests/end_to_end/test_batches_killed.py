"""Batches of real server processes that are killed, and of several that share them."""

import asyncio
import json
import os
import random
import re
import signal
import sqlite3
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import openai
import pytest

from tests.cli.programs import Serving, serving
from tests.end_to_end.batching import CHAT, ended, lines_of, request, upload
from tests.end_to_end.sdks import openai_sdk
from tests.upstreams.script import Head, Script
from tests.upstreams.server import upstream
from tests.upstreams.upstream import Request, Upstream

CONCURRENCY = 8
GROUP = 64
"""Lines that may be answered while a group of others is being written, at this concurrency at the most."""
LINES = 400


def echo(asked: Request) -> Script:
    """Answer a chat with its own text."""
    text = asked.json()["messages"][-1]["content"]
    message = {"role": "assistant", "content": text}
    said = {"id": "x", "object": "chat.completion", "created": 1, "model": "m"}
    choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
    body = json.dumps({**said, "choices": choices}).encode()
    return Script((Head(200, {"content-type": "application/json"}, len(body)), body))


def configure(home: Path, up: Upstream, lease_s: float = 1) -> None:
    """Write the configuration of a server in ``home``."""
    config = {
        "engine": {"enabled": False},
        "providers": {"up": {"row": "openai", "base_url": up.url, "api_key": "sk-x", "models": ["m"]}},
        "storage": {"url": f"sqlite:///{home}/x.db"},
        "telemetry": {"request_log": False},
        "batches": {"lease_s": lease_s, "poll_s": 0.1, "concurrency": CONCURRENCY},
        "server": {"drain_timeout_s": 5},
    }
    (home / "llm-server.yaml").write_text(json.dumps(config))


def kept(home: Path) -> dict[int, bytes]:
    """The finished lines that are in the database now."""
    with closing(sqlite3.connect(home / "x.db")) as connection:
        return dict(connection.execute("SELECT number, data FROM batch_lines"))


def texts(up: Upstream) -> Counter[str]:
    """How often the upstream was asked each text."""
    return Counter(asked.json()["messages"][-1]["content"] for asked in up.requests)


async def begun(client: openai.AsyncOpenAI, name: str, count: int) -> str:
    """Begin a batch of lines that are all different; return its id."""
    file_id = await upload(client, *(request(f"{name}{at}", f"{name} {at}") for at in range(count)))
    made = await client.batches.create(input_file_id=file_id, endpoint=CHAT, completion_window="24h")
    return made.id


async def complete(client: openai.AsyncOpenAI, batch_id: str, name: str, count: int) -> None:
    """Wait for a batch's end; check that every line is answered once, in order, by its own answer."""
    batch = await ended(client, batch_id)
    assert batch.status == "completed"
    assert batch.request_counts is not None
    assert (batch.request_counts.completed, batch.request_counts.failed) == (count, 0)
    answers = await lines_of(client, batch.output_file_id)
    said = [
        (each["custom_id"], each["response"]["body"]["choices"][0]["message"]["content"]) for each in answers
    ]
    assert said == [(f"{name}{at}", f"{name} {at}") for at in range(count)]


async def test_a_server_killed_at_any_moment_loses_no_line_and_doubles_none(tmp_path: Path) -> None:
    chance = random.Random(20_261_128)
    async with upstream(echo) as up:
        configure(tmp_path, up)
        batch_id = ""
        finished: dict[int, bytes] = {}
        for moment in sorted(chance.sample(range(1, LINES), 3)):
            async with serving(tmp_path) as server, openai_sdk(server.url) as client:
                batch_id = batch_id or await begun(client, "a", LINES)
                await up.until(lambda: len(up.requests) >= moment)  # noqa: B023 - awaited in this round
                server.process.send_signal(signal.SIGKILL)
                await server.process.wait()
            lines = kept(tmp_path)
            assert finished.items() <= lines.items()
            finished = lines
        assert 0 < len(finished) < LINES
        async with serving(tmp_path) as server, openai_sdk(server.url) as client:
            await complete(client, batch_id, "a", LINES)
        assert finished.items() <= kept(tmp_path).items()
        asked = texts(up)
        assert len(asked) == LINES
        assert asked.total() <= LINES + 3 * (CONCURRENCY + GROUP)


async def test_of_two_workers_one_runs_a_batch_and_the_other_takes_over_when_it_dies(tmp_path: Path) -> None:
    async with upstream(echo) as up:
        configure(tmp_path, up, lease_s=5)
        async with workers_of(tmp_path) as server, openai_sdk(server.url, max_retries=10) as client:
            ids = [await begun(client, name, 60) for name in "abcdef"]
            for name, batch_id in zip("abcdef", ids, strict=True):
                await complete(client, batch_id, name, 60)
            assert set(texts(up).values()) == {1}
            workers = children(server.process.pid)
            assert len(workers) >= 2
            last = await begun(client, "z", LINES)
            await up.until(lambda: len(up.requests) >= 6 * 60 + 50)
            dying = owner(tmp_path, up, workers)
            os.kill(dying, signal.SIGKILL)
            await complete(client, last, "z", LINES)
        assert texts(up).total() <= 6 * 60 + LINES + 2 * (CONCURRENCY + GROUP)


@asynccontextmanager
async def workers_of(home: Path) -> AsyncGenerator[Serving, None]:
    """Serve with two workers; leaving lets them stop, since a killed parent would leave them behind."""
    async with serving(home, "--workers", "2") as server:
        try:
            yield server
        finally:
            server.process.send_signal(signal.SIGTERM)
            await server.process.wait()


def children(pid: int) -> list[int]:
    """The processes that ``pid`` started (proc_pid_task_children(5))."""
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def owner(home: Path, up: Upstream, workers: list[int]) -> int:
    """The worker that has a connection to the upstream: the one that runs the batch."""
    port = int(up.url.rpartition(":")[2])
    sockets = re.findall(rf"^\s*\d+: \S+ 0100007F:{port:04X} 01 (?:\S+\s+){{5}}(\d+)", tcp(), re.MULTILINE)
    for pid in workers:
        links = [str(each.readlink()) for each in Path(f"/proc/{pid}/fd").iterdir() if each.is_symlink()]
        if any(f"socket:[{inode}]" in links for inode in sockets):
            return pid
    raise AssertionError(f"no worker of {workers} in {home} has a connection")


def tcp() -> str:
    """The machine's connections (proc_net_tcp(5))."""
    return Path("/proc/net/tcp").read_text()


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
async def test_a_server_that_is_told_to_stop_gives_its_batch_back_at_once(tmp_path: Path, how: int) -> None:
    async with upstream(echo) as up:
        configure(tmp_path, up)
        async with serving(tmp_path) as server, openai_sdk(server.url) as client:
            batch_id = await begun(client, "a", LINES)
            await up.until(lambda: len(up.requests) >= 40)
            server.process.send_signal(how)
            await server.process.wait()
        await asyncio.to_thread(_free, tmp_path)
        async with serving(tmp_path) as server, openai_sdk(server.url) as client:
            await complete(client, batch_id, "a", LINES)
        assert texts(up).total() <= LINES + CONCURRENCY


def _free(home: Path) -> None:
    with closing(sqlite3.connect(home / "x.db")) as connection:
        assert connection.execute("SELECT owner, status FROM batches").fetchall() == [("", "in_progress")]
