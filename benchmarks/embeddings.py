"""What grouping does for embeddings: 64 callers with one text each, with and without it.

The upstream that is modelled computes for 20 ms whatever the call holds, and 0.05 ms more for each text, as
a model on an accelerator does while the texts are short: reading the weights takes the time. It computes so
many calls at once and lets the others wait, as real ones do: by replicas, by worker threads, or by a limit
of rate. The target is judged at 8. At 1 it is one accelerator; without a limit it is an upstream that never
queues, against which grouping saves calls and this server's work, and cannot make anything faster.

Two measurements. ``stage``: the stage alone in front of the modelled upstream, in this process; real time,
but hardly any work. ``server``: the whole server with its HTTP on both sides, in a process of its own, as
are the upstream and the callers; here the processors of the machine set the limit.

The idle overhead is what one request after the other takes longer through the stages, upstream excluded:
medians of many short rounds in turns, the best of each.
"""

import argparse
import asyncio
import json
import socket
import struct
import subprocess
import sys
import time
from base64 import b64encode
from collections.abc import Callable
from contextlib import aclosing
from statistics import median
from typing import Any

from llm_server.batching import EmbeddingsConfig, Grouped, Shared, SingleFlightConfig
from llm_server.contract import Call, Context, EmbedCall, Embeddings, Events, Handler, Usage
from llm_server.telemetry.families import Families
from llm_server.telemetry.groups import GroupMetrics
from llm_server.testing import FakeProvider

CALLERS = 64
CALL_S, TEXT_S = 0.020, 0.00005
FEWER_CALLS, TIMES_THROUGHPUT, IDLE_MS = 8.0, 2.0, 0.1
JUDGED = 8
"""Calls that the upstream computes at once where the targets are judged."""


class Modelled(FakeProvider):
    """The upstream, in this process."""

    def __init__(self, at_once: int) -> None:
        super().__init__()
        self.asked = 0  # type: ignore[assignment]  # a number is enough here
        self._places = asyncio.Semaphore(at_once)

    async def __call__(self, call: Call, ctx: Context) -> Events:  # noqa: ARG002 - the port names it
        assert isinstance(call, EmbedCall)
        self.asked += 1
        async with self._places:
            await asyncio.sleep(CALL_S + TEXT_S * len(call.inputs))
        yield embedded(call)


class Instant(FakeProvider):
    """An upstream that takes no time."""

    async def __call__(self, call: Call, ctx: Context) -> Events:  # noqa: ARG002 - the port names it
        assert isinstance(call, EmbedCall)
        yield embedded(call)


def embedded(call: EmbedCall) -> Embeddings:
    return Embeddings(vectors=((0.5,),) * len(call.inputs), usage=Usage(input_tokens=len(call.inputs)))


def observer() -> GroupMetrics:
    from prometheus_client import CollectorRegistry

    return GroupMetrics(Families(CollectorRegistry(), (1.0,)))


def asked_for(at: int) -> EmbedCall:
    raw = b'{"model":"m","input":"text %d","encoding_format":"base64"}' % at
    return EmbedCall(model="m", dialect="d", raw=raw, inputs=(f"text {at}",), base64=True)


async def take(handler: Handler, call: EmbedCall) -> None:
    async with aclosing(handler(call, Context(request_id="r"))) as answers:
        async for _ in answers:
            pass


async def stage(handler: Handler, seconds: float) -> int:
    """Return how many requests ``CALLERS`` had answered in ``seconds``."""
    answered = 0
    until = time.perf_counter() + seconds

    async def caller(at: int) -> None:
        nonlocal answered
        while time.perf_counter() < until:
            await take(handler, asked_for(at))
            answered += 1

    await asyncio.gather(*(caller(at) for at in range(CALLERS)))
    return answered


async def measured_stage(seconds: float) -> bool:
    print(f"\nstage: {CALLERS} callers, calls of {CALL_S * 1000:g} ms, {seconds:g} s each")
    print(f"{'at once':>9} {'alone /s':>9} {'grouped /s':>11} {'throughput':>11} {'requests a call':>16}")
    held = True
    for at_once in (1, JUDGED, 10_000):
        alone, up = Modelled(at_once), Modelled(at_once)
        plain = await stage(alone, seconds)
        grouped = Grouped(up, EmbeddingsConfig(), observer())
        together = await stage(grouped, seconds)
        await grouped.close()
        fewer, faster = together / float(up.asked), together / plain
        limit = "no limit" if at_once == 10_000 else str(at_once)
        rates = f"{plain / seconds:9.0f} {together / seconds:11.0f} {faster:10.1f}x {fewer:16.1f}"
        print(f"{limit:>9} {rates}")
        if at_once == JUDGED:
            held = verdict("calls", fewer, FEWER_CALLS) & verdict("throughput", faster, TIMES_THROUGHPUT)
    return held


async def measured_idle(calls: int, rounds: int) -> bool:
    bare = Instant()
    grouped = Grouped(bare, EmbeddingsConfig(), observer())
    stages: dict[str, Handler] = {
        "nothing": bare,
        "grouped": grouped,
        "shared and grouped": Shared(grouped, SingleFlightConfig(), observer()),
    }
    best = {name: float("inf") for name in stages}
    for _ in range(rounds):
        for name, handler in stages.items():
            took = []
            for at in range(calls):
                call, began = asked_for(at), time.perf_counter()
                await take(handler, call)
                took.append(time.perf_counter() - began)
            best[name] = min(best[name], median(took) * 1000)
    print("\nidle: one request after the other, milliseconds")
    for name, took_ms in best.items():
        print(f"{name:>19} {took_ms:8.4f}  added {took_ms - best['nothing']:.4f}")
    return verdict("idle", best["shared and grouped"] - best["nothing"], IDLE_MS, at_most=True)


def verdict(name: str, value: float, target: float, *, at_most: bool = False) -> bool:
    met = value <= target if at_most else value >= target
    sign = "<=" if at_most else ">="
    print(f"  {name}: {value:.3g} {sign} {target:g}  {'MET' if met else 'MISSED'}")
    return met


class Peer(asyncio.Protocol):
    """The upstream over HTTP: only what this measurement needs of it. ``/stats`` says how many calls came."""

    asked = 0
    places = asyncio.Semaphore(JUDGED)

    def connection_made(self, transport: Any) -> None:
        self._transport, self._got = transport, bytearray()

    def data_received(self, data: bytes) -> None:
        self._got += data
        head, blank, body = bytes(self._got).partition(b"\r\n\r\n")
        length = 0
        for line in head.lower().split(b"\r\n"):
            if line.startswith(b"content-length:"):
                length = int(line[15:])
        if not blank or len(body) < length:
            return
        self._got.clear()
        if head.startswith(b"GET"):
            self._write(b"%d" % Peer.asked)
            return
        Peer.asked += 1
        task = asyncio.get_running_loop().create_task(self._compute(json.loads(body)))
        RUNNING.add(task)
        task.add_done_callback(RUNNING.discard)

    async def _compute(self, body: Any) -> None:
        texts = body["input"] if isinstance(body["input"], list) else [body["input"]]
        async with Peer.places:
            await asyncio.sleep(CALL_S + TEXT_S * len(texts))
        vector = b64encode(struct.pack("<f", 0.5) * 384).decode()  # as SDKs ask for it
        data = [{"object": "embedding", "index": at, "embedding": vector} for at in range(len(texts))]
        used = {"prompt_tokens": len(texts), "total_tokens": len(texts)}
        self._write(json.dumps({"object": "list", "data": data, "model": "m", "usage": used}).encode())

    def _write(self, body: bytes) -> None:
        head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body)
        if not self._transport.is_closing():
            self._transport.write(head + body)


RUNNING: set[asyncio.Task[None]] = set()


async def run_upstream(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(Peer, "127.0.0.1", port)
    await server.serve_forever()


def run_server(port: int, upstream: int, *, grouped: bool) -> None:
    import uvicorn

    from llm_server.app import create
    from llm_server.settings import Settings

    settings = Settings.model_validate(
        {
            "engine": {"enabled": False},
            "discover": False,
            "providers": {"up": {"base_url": f"http://127.0.0.1:{upstream}/v1", "dialect": "openai"}},
            "telemetry": {"request_log": False},
            "batching": {"embeddings": {"enabled": grouped}},
        }
    )
    uvicorn.run(create(settings), host="127.0.0.1", port=port, log_level="error", access_log=False)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def asked(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes) -> bytes:
    writer.write(request)
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    length = int(head.split(b"content-length:")[1].split(b"\r\n")[0])
    if not head.startswith(b"http/1.1 200"):
        raise RuntimeError((head + await reader.read(length)).decode())
    return await reader.readexactly(length)


async def until_open(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    until = time.perf_counter() + 30
    while True:
        try:
            return await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            if time.perf_counter() > until:
                raise
            await asyncio.sleep(0.05)


async def calls_so_far(port: int) -> int:
    reader, writer = await until_open(port)
    count = int(await asked(reader, writer, b"GET /stats HTTP/1.1\r\nhost: x\r\n\r\n"))
    writer.close()
    return count


async def load(port: int, seconds: float) -> int:
    """Return how many requests over HTTP were answered in ``seconds``."""
    answered = 0
    until = time.perf_counter() + seconds

    async def caller(at: int) -> None:
        nonlocal answered
        reader, writer = await until_open(port)
        body = b'{"model":"up/m","input":"text %d","encoding_format":"base64"}' % at
        head = (
            b"POST /v1/embeddings HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: %d"
        )
        while time.perf_counter() < until:
            await asked(reader, writer, head % len(body) + b"\r\n\r\n" + body)
            answered += 1
        writer.close()

    await asyncio.gather(*(caller(at) for at in range(CALLERS)))
    return answered


def started(*role: object) -> "subprocess.Popen[bytes]":
    return subprocess.Popen([sys.executable, __file__, "--role", *map(str, role)])


async def measured_server(seconds: float) -> bool:
    print(f"\nserver: the same over HTTP, {JUDGED} calls at once, {seconds:g} s each")
    up = free_port()
    ports: dict[str, int] = {"alone": free_port(), "grouped": free_port()}
    children = [started("upstream", up), *(started(name, port, up) for name, port in ports.items())]
    try:
        found = {}
        for name, port in ports.items():
            await load(port, 0.5)  # connections, first use of everything
            before = await calls_so_far(up)
            answered = await load(port, seconds)
            found[name] = answered, await calls_so_far(up) - before
            print(f"{name:>9} {answered / seconds:7.0f} requests/s in {found[name][1]} calls")
    finally:
        for child in children:
            child.terminate()
        for child in children:
            child.wait()
    (plain, _), (together, calls) = found["alone"], found["grouped"]
    return verdict("calls", together / calls, FEWER_CALLS) & verdict(
        "throughput", together / plain, TIMES_THROUGHPUT
    )


async def measure(seconds: float) -> bool:
    parts = [await measured_idle(300, 30), await measured_stage(seconds), await measured_server(2 * seconds)]
    return all(parts)


ROLES: dict[str, Callable[[list[str]], None]] = {
    "upstream": lambda ports: asyncio.run(run_upstream(int(ports[0]))),
    "alone": lambda ports: run_server(*map(int, ports), grouped=False),
    "grouped": lambda ports: run_server(*map(int, ports), grouped=True),
}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=1.5)
    parser.add_argument("--role", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.role:
        ROLES[options.role[0]](options.role[1:])
        sys.exit(0)
    sys.exit(0 if asyncio.run(measure(options.seconds)) else 1)
