"""The server as a process: how it starts, what it says, and how it stops."""

import asyncio
import json
import re
import signal
import socket
from collections.abc import AsyncGenerator
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import pytest

from tests.cli.programs import Serving, Upstream, listening, run, serving

CHAT = {"model": "up/m", "stream": True, "messages": [{"role": "user", "content": "Hi"}]}


@pytest.fixture
async def upstream() -> Upstream:
    return Upstream(["Hello", "...", " world"])


@pytest.fixture
async def home(tmp_path: Path, upstream: Upstream) -> AsyncGenerator[Path, None]:
    """A directory whose configuration names the upstream."""
    async with listening(upstream) as url:
        providers = {"up": {"base_url": f"{url}/v1", "models": ["m"]}}
        config = {"engine": {"enabled": False}, "providers": providers, "server": {"drain_timeout_s": 30}}
        (tmp_path / "llm-server.yaml").write_text(json.dumps(config))
        yield tmp_path


async def refused(url: str) -> None:
    """Return when nothing listens at ``url`` any more."""
    place = urlsplit(url)
    while True:
        try:
            _, writer = await asyncio.open_connection(place.hostname, place.port)
        except ConnectionRefusedError:
            return
        except ConnectionResetError:  # it closed while this one was waiting to be accepted
            continue
        writer.close()


async def test_it_says_where_it_is_and_prints_a_curl_that_works(home: Path, upstream: Upstream) -> None:
    upstream.gate.set()
    async with serving(home) as server:
        assert await server.line() == "Try:"
        command = f"{await server.line()}\n{await server.line()}"
        shell = await asyncio.create_subprocess_shell(
            command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
        )
        out, _ = await shell.communicate()
        assert server.url in command
        assert json.loads(out)["choices"][0]["message"]["content"] == "Hello world"


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_lets_a_stream_in_flight_finish_and_exits_0(
    home: Path, upstream: Upstream, how: signal.Signals
) -> None:
    async with serving(home) as server, aiohttp.ClientSession() as session:
        async with session.post(f"{server.url}/v1/chat/completions", json=CHAT) as answer:
            assert b"Hello" in await answer.content.readuntil(b"\n\n")
            await upstream.waiting.wait()
            server.process.send_signal(how)
            await refused(server.url)
            assert server.process.returncode is None
            upstream.gate.set()
            rest = await answer.content.read()
        assert b" world" in rest
        assert rest.endswith(b"data: [DONE]\n\n")
        assert await server.process.wait() == 0


async def test_a_drain_has_an_end(home: Path, upstream: Upstream) -> None:
    config = json.loads((home / "llm-server.yaml").read_text()) | {"server": {"drain_timeout_s": 0.1}}
    (home / "llm-server.yaml").write_text(json.dumps(config))
    async with serving(home) as server, aiohttp.ClientSession() as session:
        async with session.post(f"{server.url}/v1/chat/completions", json=CHAT) as answer:
            await upstream.waiting.wait()
            server.process.send_signal(signal.SIGTERM)
            assert await server.process.wait() == 0
            rest = await answer.content.read()
        assert b"shutting down" in rest
        assert b"[DONE]" not in rest
        await upstream.left.wait()


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_a_second_interrupt_ends_the_drain_with_an_error_in_band(
    home: Path, upstream: Upstream, workers: str
) -> None:
    async with serving(home, "--workers", workers) as server, aiohttp.ClientSession() as session:
        async with session.post(f"{server.url}/v1/chat/completions", json=CHAT) as answer:
            await upstream.waiting.wait()
            server.process.send_signal(signal.SIGINT)
            await refused(server.url)
            server.process.send_signal(signal.SIGINT)
            rest = await answer.content.read()
        assert b"shutting down" in rest
        assert b"[DONE]" not in rest
        await upstream.left.wait()
        assert await server.process.wait() == 0
    assert "Traceback" not in (home / "log").read_text()


async def test_several_workers_count_as_one_and_drain_as_one(home: Path, upstream: Upstream) -> None:
    upstream.words = ["Hello"]
    asked = 8
    async with serving(home, "--workers", "2") as server:
        for _ in range(asked):
            assert (await said(server)).endswith(b"data: [DONE]\n\n")
        while (told := await counted(server)) < asked:
            pass  # the worker that is not scraped hands over what it counted every second
        assert told == asked
        upstream.words = ["Hello", "...", " world"]
        async with asyncio.TaskGroup() as tasks:
            answer = tasks.create_task(said(server))
            await upstream.waiting.wait()
            server.process.send_signal(signal.SIGTERM)
            await refused(server.url)
            upstream.gate.set()
        assert answer.result().endswith(b"data: [DONE]\n\n")
        assert await server.process.wait() == 0


async def said(server: Serving) -> bytes:
    """Ask over a connection of its own; return the whole stream."""
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{server.url}/v1/chat/completions", json=CHAT) as answer,
    ):
        return await answer.read()


async def counted(server: Serving) -> float:
    """Return the number of requests that the metrics of whichever worker answers tell."""
    async with aiohttp.ClientSession() as session, session.get(f"{server.url}/metrics") as answer:
        text = await answer.text()
    return sum(map(float, re.findall(r"^llm_server_requests_total\{.*\} (\S+)", text, re.MULTILINE)))


async def test_several_workers_say_that_each_loads_the_model(home: Path) -> None:
    config = json.loads((home / "llm-server.yaml").read_text()) | {"engine": {"models": [], "enabled": True}}
    (home / "llm-server.yaml").write_text(json.dumps(config))
    async with serving(home, "--workers", "2") as server:
        server.process.send_signal(signal.SIGTERM)
        assert await server.process.wait() == 0
    assert "Each of the 2 workers loads the local models for itself." in (home / "log").read_text()


async def test_no_header_of_a_request_says_who_the_peer_is(home: Path) -> None:
    async with serving(home) as server, aiohttp.ClientSession() as session:
        forged = {"x-forwarded-for": "6.6.6.6", "x-forwarded-proto": "https"}
        async with session.get(f"{server.url}/v1/models/", headers=forged, allow_redirects=False) as answer:
            assert "https://" not in answer.headers.get("location", "")
            assert "server" not in answer.headers


async def test_an_address_in_use_is_one_clear_line(home: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ended = await run(home, "serve", "--port", str(port))
    assert ended == (
        1, "", f"Cannot listen on 127.0.0.1:{port}: Address already in use. Choose another with --port.\n"
    )  # fmt: skip


@pytest.mark.parametrize("host", ["256.0.0.1", "192.0.2.1", "no-such-host.invalid"])
async def test_an_address_that_is_not_ours_is_one_clear_line(home: Path, host: str) -> None:
    ended = await run(home, "serve", "--host", host, "--port", "0")
    assert ended.status == 1
    assert ended.err.startswith(f"Cannot listen on {host}:0: ")
    assert len(ended.err.splitlines()) == 1


async def test_a_wrong_configuration_is_told_in_lines_and_not_as_a_traceback(home: Path) -> None:
    (home / "llm-server.yaml").write_text("server:\n  prot: 1\n")
    ended = await run(home, "serve", "--workers", "none")
    assert (ended.status, "Invalid value for '--workers'" in ended.err) == (2, True)
    ended = await run(home, "serve", "--workers", "0", "--log-level", "loud")
    assert ended.status == 1
    assert ended.err.splitlines() == [
        "The configuration has 3 problem(s):",
        "  llm-server.yaml:2: server.prot is unknown; did you mean 'port'?",
        "  flag --workers: server.workers should be greater than or equal to 1, got 0",
        "  flag --log-level: telemetry.log_level should be 'debug', 'info', 'warning' or 'error', got 'loud'",
    ]


async def test_without_any_model_it_says_how_to_get_one(tmp_path: Path) -> None:
    async with serving(tmp_path, "--no-engine") as server:
        assert "no model yet" in await server.line()
        assert "llm-server models install" in await server.line()
        server.process.send_signal(signal.SIGTERM)
        assert await server.process.wait() == 0
