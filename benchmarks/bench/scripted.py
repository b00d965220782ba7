"""An upstream that answers by a script, in a time and in numbers that the script limits.

Runs as a process of its own (``python -m bench.scripted``); its CPU time is not counted. The script is
JSON: ``answers`` maps a word to look for in the request, or several joined by ``&&``, to the answers that
it gets in turn; ``slots`` requests are in service at once for ``service_s`` seconds each, ``queue`` may
wait, and those beyond are answered 429.
"""

import argparse
import asyncio
import json
import os
import sys
from collections import deque
from contextlib import AbstractContextManager
from itertools import cycle
from pathlib import Path
from typing import Any, NamedTuple, cast

import httptools
import uvloop

from bench.bodies import encode
from bench.processes import Running, free_port, started

ALWAYS = ""
"""The word of the answers that every request gets that has no other."""


class Script(NamedTuple):
    """What is answered, and how much at once."""

    answers: dict[str, list[dict[str, Any]]]
    slots: int = 1_000_000
    service_s: float = 0.0
    queue: int = 1_000_000


def completion(text: str, *, tokens: tuple[int, int] = (23, 46)) -> dict[str, Any]:
    """Return an answer with ``text``, in OpenAI's form."""
    taken, given = tokens
    return {
        "id": "chatcmpl-scripted",
        "object": "chat.completion",
        "created": 1790000000,
        "model": "gpt-4o-mini-2024-07-18",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": text, "refusal": None},
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": taken, "completion_tokens": given, "total_tokens": taken + given},
    }


Answers = dict[tuple[bytes, ...], "cycle[bytes]"]
"""The encoded answers by the words that must all be in the request; the most specific first."""


class Capacity:
    """Slots and the line in front of them."""

    def __init__(self, script: Script) -> None:
        self.loop = asyncio.get_running_loop()
        self.free, self.service_s, self.places = script.slots, script.service_s, script.queue
        self.line: deque[Upstream] = deque()

    def enter(self, caller: "Upstream") -> bool:
        """Serve ``caller`` now or later; say whether there is a place for it."""
        if self.free:
            self.free -= 1
            self.serve(caller)
        elif len(self.line) < self.places:
            self.line.append(caller)
        else:
            return False
        return True

    def serve(self, caller: "Upstream") -> None:
        if self.service_s:
            self.loop.call_later(self.service_s, self.leave, caller)
        else:
            self.leave(caller)

    def leave(self, caller: "Upstream") -> None:
        caller.answer()
        while self.line:
            following = self.line.popleft()
            if not following.transport.is_closing():
                self.serve(following)
                return
        self.free += 1


class Upstream(asyncio.Protocol):
    """A connection: requests one after another."""

    def __init__(self, capacity: Capacity, answers: "Answers") -> None:
        self.capacity, self.answers = capacity, answers
        self.parser = httptools.HttpRequestParser(self)
        self.body = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's own is no subclass

    def data_received(self, data: bytes) -> None:
        self.parser.feed_data(data)

    def on_message_begin(self) -> None:
        self.body = b""

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        if not self.capacity.enter(self):
            said = b'{"error":{"message":"busy","type":"rate_limit_error"}}'
            self.write(b"429 Too Many Requests", said)

    def answer(self) -> None:
        for words, turns in self.answers.items():
            if all(word in self.body for word in words):
                self.write(b"200 OK", next(turns))
                return
        self.write(b"404 Not Found", b"{}")

    def write(self, status: bytes, body: bytes) -> None:
        head = b"HTTP/1.1 %b\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b"
        self.transport.write(head % (status, len(body), body))


async def serve(port: int, script: Script) -> None:
    """Serve until the process is ended."""
    capacity = Capacity(script)
    words = sorted(script.answers, key=len, reverse=True)  # the empty word is in every request
    answers: Answers = {
        tuple(word.encode().split(b"&&")): cycle([encode(each) for each in script.answers[word]])
        for word in words
    }
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Upstream(capacity, answers), "127.0.0.1", port, backlog=4096)
    await server.serve_forever()


def scripted(folder: Path, script: Script, *, core: int) -> AbstractContextManager[Running]:
    """Start it on a free port of loopback."""
    port = free_port()
    path = folder / f"script-{port}.json"
    path.write_text(json.dumps(script._asdict()))
    here = str(Path(__file__).resolve().parent.parent)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((here, os.environ.get("PYTHONPATH", "")))}
    command = [sys.executable, "-m", "bench.scripted", str(port), str(path)]
    url = f"http://127.0.0.1:{port}"
    return started(command, url, core=core, log=folder / f"scripted-{port}.log", environment=environment)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("port", type=int)
    parser.add_argument("script", type=Path)
    options = parser.parse_args()
    uvloop.run(serve(options.port, Script(**json.loads(options.script.read_text()))))
