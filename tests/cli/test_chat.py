"""A conversation in a terminal, and a prompt through a pipe."""

import asyncio
import os
import pty
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.cli.programs import PROGRAM, Upstream, environment, listening, run


@pytest.fixture
async def upstream() -> Upstream:
    return Upstream(["Hello", " world"])


@pytest.fixture
async def url(upstream: Upstream) -> AsyncGenerator[str, None]:
    async with listening(upstream) as where:
        yield where


LOGIN = "import os, sys; os.login_tty(int(sys.argv[1])); os.execv(sys.argv[2], sys.argv[2:])"
"""Makes a terminal the controlling one, so that Ctrl-C is a signal, and becomes the program."""


class Terminal:
    """A program that believes that a person sits before it."""

    def __init__(self, process: subprocess.Popen[bytes], master: int) -> None:
        self.process = process
        self._master = master

    async def until(self, text: str) -> str:
        """Read until ``text`` was shown; return all that was shown."""
        shown = b""
        while text.encode() not in shown:
            shown += await asyncio.to_thread(os.read, self._master, 1024)
        return shown.decode()

    def write(self, keys: str) -> None:
        """Press keys."""
        os.write(self._master, keys.encode())

    async def ended(self) -> int:
        """Return the exit status."""
        return await asyncio.to_thread(self.process.wait)


@contextmanager
def terminal(home: Path, *arguments: str) -> Iterator[Terminal]:
    """Yield ``llm-server chat`` in a terminal of its own."""
    master, slave = pty.openpty()
    command = [sys.executable, "-c", LOGIN, str(slave), *PROGRAM, "chat", *arguments]
    process = subprocess.Popen(command, cwd=home, env=environment(home, TERM="dumb"), pass_fds=(slave,))
    os.close(slave)
    try:
        yield Terminal(process, master)
    finally:
        process.kill()
        process.wait()
        os.close(master)


async def test_a_piped_prompt_is_answered_and_nothing_else_is_printed(
    tmp_path: Path, url: str, upstream: Upstream
) -> None:
    ended = await run(tmp_path, "chat", "--url", url, "--system", "Be brief.", stdin="Hi\n")
    assert ended == (0, "Hello world\n", "")
    assert upstream.bodies[0]["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hi\n"},
    ]
    assert upstream.bodies[0]["model"] == "m"
    assert upstream.keys == [None]


async def test_the_model_and_the_key_can_be_chosen(tmp_path: Path, url: str, upstream: Upstream) -> None:
    await run(tmp_path, "chat", "--url", url, "--model", "a/b", "--key", "k1", stdin="Hi")
    await run(tmp_path, "chat", "--url", f"{url}/v1/", stdin="Hi", env={"LLM_SERVER_KEY": "k2"})
    assert [body["model"] for body in upstream.bodies] == ["a/b", "m"]
    assert upstream.keys == ["Bearer k1", "Bearer k2"]


async def test_a_conversation_remembers_stops_and_ends(tmp_path: Path, url: str, upstream: Upstream) -> None:
    with terminal(tmp_path, "--url", url) as screen:
        await screen.until("> ")
        screen.write("One\n")
        await screen.until("Hello world\r\n> ")
        upstream.words = ["Half", "...", "never"]
        screen.write("Two\n")
        await screen.until("Half")
        await upstream.waiting.wait()
        screen.write("\x03")
        await screen.until("[stopped]\r\n> ")
        await upstream.left.wait()
        upstream.words = ["Done"]
        screen.write("Three\n")
        await screen.until("Done\r\n> ")
        screen.write("\x04")
        assert await screen.ended() == 0
    assert [(turn["role"], turn["content"]) for turn in upstream.bodies[-1]["messages"]] == [
        ("user", "One"),
        ("assistant", "Hello world"),
        ("user", "Two"),
        ("assistant", "Half"),
        ("user", "Three"),
    ]


async def test_a_failed_turn_is_told_and_forgotten(tmp_path: Path, url: str, upstream: Upstream) -> None:
    with terminal(tmp_path, "--url", url) as screen:
        await screen.until("> ")
        upstream.words = ["Ha", 'data: {"error": {"message": "It\\nbroke."}}\n\n']
        screen.write("One\n")
        await screen.until("It broke.\r\n> ")
        upstream.words = ["Fine"]
        screen.write("\nTwo\n")
        await screen.until("Fine\r\n> ")
        screen.write("\x04")
        assert await screen.ended() == 0
    assert upstream.bodies[-1]["messages"] == [{"role": "user", "content": "Two"}]


async def test_a_terminal_does_not_obey_what_a_model_writes(
    tmp_path: Path, url: str, upstream: Upstream
) -> None:
    upstream.words = ["a\x1b]0;gotcha\x07b"]
    with terminal(tmp_path, "--url", url) as screen:
        await screen.until("> ")
        screen.write("One\n")
        shown = await screen.until("b\r\n> ")
    assert "a]0;gotchab" in shown
    assert "\x1b]0;" not in shown


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (['data: {"error": {"message": "Too\\nbusy."}}\n\n'], "Too busy."),
        (['data: {"error": 1}\n\n'], "The answer broke off."),
        (["data: nonsense\n\n"], "The server's answer is no JSON. Is it an LLM Server?"),
    ],
)
async def test_an_error_in_the_stream_is_one_line(
    tmp_path: Path, url: str, upstream: Upstream, words: list[str], message: str
) -> None:
    upstream.words = words
    assert await run(tmp_path, "chat", "--url", url, stdin="Hi") == (1, "", f"{message}\n")


async def test_a_stream_without_an_end_is_an_error(tmp_path: Path, url: str, upstream: Upstream) -> None:
    async def broken(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: 50\r\n\r\n"
        writer.write(head + b'data: {"choices": [{"delta": {"content": "Ha"}}]}\n')
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(broken, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        ended = await run(tmp_path, "chat", "--url", f"127.0.0.1:{port}", "--model", "m", stdin="Hi")
    assert ended == (1, "Ha\n", "The answer ended before it was complete.\n")


@pytest.mark.parametrize(
    ("arguments", "stdin", "line"),
    [
        (
            ("--url", "http://127.0.0.1:1"),
            "Hi",
            "does not answer: Connection refused. Is `llm-server serve` running?",
        ),
        (("--url", "ftp://x"), "Hi", "ftp://x is not an http:// or https:// URL."),
        (("--url", "http://x:port"), "Hi", "http://x:port is not an http:// or https:// URL."),
        (("--url", "{url}"), " \n", "There is nothing to ask: standard input is empty."),
        (("--url", "{url}/elsewhere"), "Hi", "answered 404 Not Found."),
    ],
)
async def test_what_cannot_work_is_one_line(
    tmp_path: Path, url: str, arguments: tuple[str, ...], stdin: str, line: str
) -> None:
    ended = await run(tmp_path, "chat", *(each.format(url=url) for each in arguments), stdin=stdin)
    assert (ended.status, ended.out) == (1, "")
    assert ended.err.endswith(f"{line}\n")
    assert len(ended.err.splitlines()) == 1


async def test_a_server_without_models_says_so(tmp_path: Path, url: str, upstream: Upstream) -> None:
    upstream.models = []
    ended = await run(tmp_path, "chat", "--url", url, stdin="Hi")
    assert (ended.status, "The server has no model." in ended.err) == (1, True)


async def test_an_interrupted_pipe_exits_130(tmp_path: Path, url: str, upstream: Upstream) -> None:
    upstream.words = ["Half", "..."]
    process = await asyncio.create_subprocess_exec(
        *PROGRAM, "chat", "--url", url, cwd=tmp_path, env=environment(tmp_path),
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(b"Hi")
    process.stdin.write_eof()
    assert await process.stdout.readexactly(4) == b"Half"
    process.send_signal(signal.SIGINT)
    out, err = await process.communicate()
    assert (process.returncode, out) == (130, b"\n")
    assert b"Traceback" not in err
