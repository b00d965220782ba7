"""The real program in a process of its own, and a scripted upstream for it to call."""

import asyncio
import json
import os
import re
import sys
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

from aiohttp import web

PROGRAM = (sys.executable, "-m", "llm_server")
URL = re.compile(r"at (http://\S+)")


class Result(NamedTuple):
    """How a program ended."""

    status: int
    out: str
    err: str


def environment(home: Path, **more: str) -> dict[str, str]:
    """Return an environment in which no provider, configuration or model of the developer's is found."""
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "PYTHONPATH") if name in os.environ}
    return kept | {"HOME": str(home), "COLUMNS": "200", "PYTHONUNBUFFERED": "1"} | more


async def run(home: Path, *arguments: str, stdin: str = "", env: Mapping[str, str] | None = None) -> Result:
    """Run the program to its end in directory ``home``."""
    process = await asyncio.create_subprocess_exec(
        *PROGRAM, *arguments, cwd=home, env=environment(home, **(env or {})),
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await process.communicate(stdin.encode())
    assert process.returncode is not None
    return Result(process.returncode, out.decode(), err.decode())


class Serving(NamedTuple):
    """A running server: its process, where it listens, and the lines that it printed after that."""

    process: asyncio.subprocess.Process
    url: str

    async def line(self) -> str:
        """Return the next line that the server prints, empty at its end."""
        assert self.process.stdout is not None
        return (await self.process.stdout.readline()).decode().rstrip("\n")


@asynccontextmanager
async def serving(home: Path, *arguments: str) -> AsyncGenerator[Serving, None]:
    """Yield ``llm-server serve`` on a free port when it has said where it listens."""
    with (home / "log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *PROGRAM, "serve", "--port", "0", *arguments, cwd=home, env=environment(home),
            stdout=asyncio.subprocess.PIPE, stderr=log,
        )  # fmt: skip
    try:
        first = await Serving(process, "").line()
        found = URL.search(first)
        assert found, f"{first!r}; {(home / 'log').read_text()}"
        yield Serving(process, found[1])
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        await _drained(process)


async def _drained(process: asyncio.subprocess.Process) -> None:
    """Read what is left, so that the pipe is closed with the loop and not after it."""
    if process.stdout is not None:
        await process.stdout.read()


class Upstream:
    """Speaks OpenAI's chat API: says ``words`` one by one; where the word is ``...`` it waits for ``gate``.

    Attributes:
        bodies: what it was asked.
        waiting: set while it waits.
        left: set when a caller has gone before the end.
    """

    def __init__(
        self,
        words: Sequence[str],
        models: Sequence[Mapping[str, Any]] = ({"id": "m"},),
        parts: Sequence[Mapping[str, str]] = (),
    ) -> None:
        self.words = words
        self.parts = parts
        self.models = models
        self.bodies: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.gate, self.waiting, self.left = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def chat(self, request: web.Request) -> web.StreamResponse:
        """Answer one call."""
        self.keys.append(request.headers.get("authorization"))
        self.bodies.append(await request.json())
        if not self.bodies[-1].get("stream"):
            return self._whole()
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        try:
            for word in self.words:
                await self._say(response, word)
        except (asyncio.CancelledError, ConnectionError):
            self.left.set()
            raise
        await response.write(_event({}, "stop") + b"data: [DONE]\n\n")
        return response

    def _whole(self) -> web.Response:
        text = "".join(word for word in self.words if word != "...")
        message = {"role": "assistant", "content": text}
        choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
        return web.json_response({"id": "c", "object": "chat.completion", "created": 1, "choices": choices})

    async def _say(self, response: web.StreamResponse, word: str) -> None:
        if word == "...":
            self.waiting.set()
            await self.gate.wait()
        else:
            await response.write(word.encode() if word.startswith("data:") else _event({"content": word}))

    async def listed(self, request: web.Request) -> web.Response:
        """List the models."""
        return web.json_response({"object": "list", "data": list(self.models)})

    async def ready(self, request: web.Request) -> web.Response:
        """Say, as the server does, how its parts are."""
        return web.json_response({"status": "ready", "parts": list(self.parts)})


def _event(delta: Mapping[str, str], finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    chunk = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}
    return f"data: {json.dumps(chunk)}\n\n".encode()


@asynccontextmanager
async def listening(upstream: Upstream) -> AsyncGenerator[str, None]:
    """Yield the URL of ``upstream``, without ``/v1``."""
    app = web.Application()
    app.router.add_post("/v1/chat/completions", upstream.chat)
    app.router.add_get("/v1/models", upstream.listed)
    app.router.add_get("/health/ready", upstream.ready)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        yield "http://{}:{}".format(*runner.addresses[0][:2])
    finally:
        upstream.gate.set()
        await runner.cleanup()
