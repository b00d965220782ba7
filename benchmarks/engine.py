"""Speed of the embedded engine: tokens per CPU second and per second, and the time to the first token.

CPU seconds are those of this process and of the engine's worker process. Each figure is the best of the
rounds, because whatever else the machine does can only make it worse. Prompts differ; what a slot
still holds of an earlier prompt is reused, as in service.
"""

import argparse
import asyncio
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path
from statistics import median
from typing import NamedTuple

from llm_server.contract import (
    ChatCall,
    Chunk,
    Context,
    Message,
    Role,
    Sampling,
    State,
    Text,
    TextDelta,
    Usage,
)
from llm_server.engine import EngineConfig, ModelConfig, install
from llm_server.engine.provider import EngineProvider

MODEL = "smollm2-135m"
CONCURRENT = (1, 2, 4, 8, 16)
TARGETS = {("xllamacpp", 1): 50, ("xllamacpp", 8): 80, ("openvino", 8): 300}
"""Tokens per CPU second to reach, by runtime and concurrent requests."""
TOPICS = ("a cat", "the sea", "rain", "an old clock", "a train", "bread", "the moon", "a letter")


class Figure(NamedTuple):
    """What a round measured."""

    tokens_per_cpu_s: float
    tokens_per_s: float
    first_token_ms: float


def prompt(number: int) -> ChatCall:
    text = f"Tell me a long story about {TOPICS[number % len(TOPICS)]}."
    return ChatCall(
        model=MODEL,
        messages=(Message(Role.USER, (Text(text),)),),
        stream=True,
        sampling=Sampling(max_tokens=128, temperature=0.7, seed=number),
    )


async def ask(engine: EngineProvider, number: int) -> tuple[int, float]:
    """Return the number of tokens of an answer and the seconds to its first."""
    started, first, tokens = time.perf_counter(), 0.0, 0
    async with aclosing(engine(prompt(number), Context(request_id="bench"))) as answers:
        async for answer in answers:
            assert isinstance(answer, Chunk)
            for event in answer.events:
                if isinstance(event, TextDelta):
                    first = first or time.perf_counter() - started
                elif isinstance(event, Usage):
                    tokens = event.output_tokens
    return tokens, first


def cpu_s(process: Path) -> float:
    """Return the CPU seconds of the process whose directory under /proc is given."""
    user, system = process.joinpath("stat").read_text().rpartition(") ")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def tree(process: Path) -> Iterator[Path]:
    """Yield a process and its descendants."""
    yield process
    for children in process.glob("task/*/children"):
        for child in children.read_text().split():
            yield from tree(Path("/proc") / child)


async def measure(engine: EngineProvider, concurrent: int) -> Figure:
    started, cpu = time.perf_counter(), sum(map(cpu_s, tree(Path("/proc/self"))))
    answers = await asyncio.gather(*(ask(engine, number) for number in range(concurrent)))
    wall, used = time.perf_counter() - started, sum(map(cpu_s, tree(Path("/proc/self")))) - cpu
    tokens = sum(count for count, _ in answers)
    return Figure(tokens / used, tokens / wall, 1000 * median(first for _, first in answers))


async def run(runtime: str, data_dir: Path, rounds: int) -> Iterator[tuple[int, Figure]]:
    config = EngineConfig.model_validate(
        {
            "runtime": runtime,
            "slots": 16,
            "data_dir": data_dir,
            "models": [ModelConfig(name=MODEL, context=1024)],
        }
    )
    engine = EngineProvider(config)
    await engine.start()
    state, message = engine.state()
    if state is not State.READY:
        sys.exit(message)
    await ask(engine, 0)
    figures = {}
    for concurrent in CONCURRENT:
        taken = [await measure(engine, concurrent) for _ in range(rounds)]
        figures[concurrent] = max(taken)
        report(runtime, concurrent, figures[concurrent])
    await engine.close()
    return iter(figures.items())


def report(runtime: str, concurrent: int, figure: Figure) -> None:
    target = TARGETS.get((runtime, concurrent))
    verdict = (
        ""
        if target is None
        else f"target {target}: {'met' if figure.tokens_per_cpu_s >= target else 'MISSED'}"
    )
    print(
        f"{runtime:10} {concurrent:3} concurrent  {figure.tokens_per_cpu_s:6.1f} tokens/CPU s"
        f"  {figure.tokens_per_s:6.1f} tokens/s  first token {figure.first_token_ms:6.0f} ms  {verdict}",
        flush=True,
    )


def cpu_features() -> str:
    """Return the vector instructions of this processor that decide the figures."""
    flags = set(Path("/proc/cpuinfo").read_text().split())
    known = ("avx2", "avx_vnni", "avx512f", "avx512_vnni", "amx_int8")
    return " ".join(flag for flag in known if flag in flags)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--runtime", choices=("xllamacpp", "openvino"), action="append")
    options = parser.parse_args()
    print(f"{os.cpu_count()} cores, vector instructions: {cpu_features()}")
    with tempfile.TemporaryDirectory() as folder:
        default = EngineConfig().data_dir.expanduser()
        data_dir = default if os.access(default, os.W_OK) else Path(folder)
        install(MODEL, data_dir)
        figures = {
            runtime: {
                concurrent: figure._asdict()
                for concurrent, figure in asyncio.run(run(runtime, data_dir, options.rounds))
            }
            for runtime in options.runtime or ("xllamacpp", "openvino")
        }
    if options.json:
        options.json.write_text(json.dumps({"cpu": cpu_features(), "figures": figures}, indent=2))


if __name__ == "__main__":
    main()
