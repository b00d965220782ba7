"""Is every structured answer of the embedded model valid? The reference document's three cases, over HTTP.

The server runs as its operator would run it, with the built-in model and its defaults; a client asks the
OpenAI endpoint with ``response_format``, as many requests at once as there are slots. Odd seeds are streamed.
Each answer is validated here, against the schema as it was sent. An answer that the limit of tokens cut off
says so (``finish length``), and counts as not valid. CPU seconds are the server's.

Texts have a longest length, as an application would give them that writes them into a form. ``--unbounded``
leaves it out: at a temperature of 1 a small model then runs on in a text now and then, up to its limit.
"""

import argparse
import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import jsonschema_rs

from llm_server.engine import EngineConfig, install

MODEL = "smollm2-135m"
SEEDS = 200
GIVE_UP_S = 120.0


def closed(**properties: Any) -> dict[str, Any]:
    """Return the schema of an object with exactly these properties."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


WORD, TEXT = {"type": "string", "maxLength": 20}, {"type": "string", "maxLength": 40}
EMAIL = {"type": "string", "format": "email", "maxLength": 60}
YEAR, AGE = {"type": "integer", "minimum": 1800, "maximum": 2100}, {"type": "integer", "minimum": 0}
ADDRESS = closed(street=TEXT, city=WORD, postcode=WORD)
PRODUCT = closed(
    name=TEXT,
    category={"enum": ["food", "tools", "toys"]},
    price={"type": "number", "minimum": 0},
    in_stock={"type": "boolean"},
)
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "simple object": ("Invent a person.", closed(name=TEXT, age=AGE, email=EMAIL)),
    "nested object": (
        "Invent a company with its address and its founder.",
        closed(
            company=TEXT, founded=YEAR, address=ADDRESS, founder=closed(name=TEXT, age=AGE, address=ADDRESS)
        ),
    ),
    "array of exactly three": (
        "Invent three products of a shop.",
        {"type": "array", "items": PRODUCT, "minItems": 3, "maxItems": 3},
    ),
}


def unbounded(schema: Any) -> Any:
    """Return ``schema`` without the lengths of its texts."""
    if not isinstance(schema, dict):
        return schema
    return {name: unbounded(each) for name, each in schema.items() if name != "maxLength"}


class Told(NamedTuple):
    """One answer: what it is (``valid``, or what else), its text and its tokens."""

    outcome: str
    text: str
    tokens: int


def cpu_s(pid: int) -> float:
    """Return the processor seconds of ``pid``, user and system; proc(5), stat fields 14 and 15."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def serving(slots: int) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """Start the server on a free port with a database of its own, and stop it."""
    data_dir = EngineConfig().data_dir.expanduser()
    install(MODEL, data_dir)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder, "config.yaml")
        engine = {"slots": slots, "data_dir": str(data_dir)}
        storage = {"url": f"sqlite:///{folder}/llm-server.db"}
        config.write_text(json.dumps({"engine": engine, "storage": storage, "discover": False}))
        command = [sys.executable, "-m", "llm_server", "serve", "--config", str(config), "--port", str(port)]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            yield process, f"http://127.0.0.1:{port}"
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(GIVE_UP_S)


async def ready(http: aiohttp.ClientSession, process: subprocess.Popen[bytes]) -> None:
    """Wait until the model is loaded; raises ``SystemExit`` when it never is."""
    began = time.perf_counter()
    while process.poll() is None and time.perf_counter() - began < GIVE_UP_S:
        try:
            async with http.get("/health/ready") as answer:
                if answer.status == 200:
                    return
        except aiohttp.ClientError:
            pass
        await asyncio.sleep(0.1)
    raise SystemExit("the server did not become ready")


async def ask(http: aiohttp.ClientSession, case: str, seed: int, options: argparse.Namespace) -> Told:
    """Ask once and judge the answer."""
    question, schema = CASES[case]
    schema = unbounded(schema) if options.unbounded else schema
    body = {
        "model": f"local/{MODEL}",
        "messages": [{"role": "user", "content": question}],
        "response_format": {"type": "json_schema", "json_schema": {"name": "case", "schema": schema}},
        "seed": seed,
        "temperature": options.temperature,
        "stream": bool(seed % 2),
        **({"stream_options": {"include_usage": True}} if seed % 2 else {}),
    }
    async with http.post("/v1/chat/completions", json=body) as answer:
        got = await answer.text()
        if answer.status != 200:
            return Told(f"status {answer.status}", got, 0)
    text, finish, tokens = streamed(got) if seed % 2 else whole(json.loads(got))
    try:
        valid = jsonschema_rs.is_valid(schema, json.loads(text), validate_formats=True)
    except ValueError:
        valid = False
    if finish != "stop":
        return Told(f"finish {finish}", text, tokens)
    return Told("valid" if valid else "INVALID", text, tokens)


def whole(body: dict[str, Any]) -> tuple[str, str, int]:
    """Return the text, the finish reason and the output tokens of an answer."""
    (choice,) = body["choices"]
    return choice["message"]["content"], choice["finish_reason"], body["usage"]["completion_tokens"]


def streamed(body: str) -> tuple[str, str, int]:
    """Return the same of a stream."""
    text, finish, tokens = "", "none", 0
    lines = [line.removeprefix("data: ") for line in body.splitlines() if line.startswith("data: {")]
    for said in map(json.loads, lines):
        if "error" in said:
            return text, "error", tokens
        for choice in said["choices"]:
            text += choice["delta"].get("content") or ""
            finish = choice.get("finish_reason") or finish
        tokens = (said.get("usage") or {}).get("completion_tokens", tokens)
    return text, finish, tokens


async def measure(options: argparse.Namespace, pid: int, http: aiohttp.ClientSession) -> bool:
    """Ask every case with every seed, and print what came; return whether all answers were valid."""
    limit = asyncio.Semaphore(options.slots)

    async def one(case: str, seed: int) -> Told:
        async with limit:
            return await ask(http, case, seed, options)

    met = True
    for case in CASES:
        began, cpu = time.perf_counter(), cpu_s(pid)
        told = await asyncio.gather(*(one(case, seed) for seed in range(options.seeds)))
        used, took = cpu_s(pid) - cpu, time.perf_counter() - began
        wrong = [each for each in told if each.outcome != "valid"]
        distinct, tokens = len({each.text for each in told}), sum(each.tokens for each in told)
        valid = f"{len(told) - len(wrong)}/{len(told)}"
        print(f"{case:24} {valid:>8} {distinct:>9} {tokens:>8} {used:>8.1f} {took:>8.1f}", flush=True)
        for each in wrong:
            print(f"    {each.outcome}: {each.text[:300]!r}")
        met = met and not wrong
    return met


async def run(options: argparse.Namespace) -> bool:
    """Start a server and measure it."""
    print(f"{options.slots} slots, temperature {options.temperature:g}")
    print(f"{'case':24} {'valid':>8} {'distinct':>9} {'tokens':>8} {'CPU s':>8} {'wall s':>8}", flush=True)
    forever = aiohttp.ClientTimeout(total=None)
    with serving(options.slots) as (process, url):
        async with aiohttp.ClientSession(url, timeout=forever) as http:
            await ready(http, process)
            met = await measure(options, process.pid, http)
    print(f"target {len(CASES)} x {options.seeds} valid: {'met' if met else 'MISSED'}")
    return met


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--seeds", type=int, default=SEEDS, help="answers to each case (default: %(default)s)"
    )
    parser.add_argument("--slots", type=int, default=8, help="requests at once (default: %(default)s)")
    parser.add_argument("--temperature", type=float, default=1.0, help="default: %(default)s")
    parser.add_argument("--unbounded", action="store_true", help="leave out the longest lengths of texts")
    return 0 if asyncio.run(run(parser.parse_args())) else 1


if __name__ == "__main__":
    sys.exit(main())
