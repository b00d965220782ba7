"""What does the server cost beside nginx, which only passes bytes on? CPU, latency, memory; whole, streamed.

nginx is the mock upstream, and on a core of its own the yardstick; the server has that core in its turn.
wrk and the streams' client load from the other core. Targets take turns, round after round, so that all
meet the same machine; CPU time is utime and stime of all processes of a target. The ratio to nginx is the
figure to look at.

``--only`` chooses scenarios, ``--quick`` takes a minute and a half, ``--write`` writes docs/performance.md.
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench import bodies, cells, goals, nginx, paced, page, results, scripted, seed, server
from bench.cells import Cell, Load, Target
from bench.processes import Running, cores, fetch, rss_mb

FRAMES = 100
INTERVAL_S = 0.01
HEADERS = {"content-type": "application/json", "authorization": bodies.KEY}
VARIANTS = {
    "bare": (server.bare, {}),
    "asgi": (server.bare, {"api": {"hot_lane": False}}),
    "full": (server.full, {}),
}
"""bare: everything off that can be; asgi: bare without the hot lane; full: all that is on by default."""
MODELS = {"openai": f"openai/{bodies.OPENAI_MODEL}", "anthropic": f"anthropic/{bodies.ANTHROPIC_MODEL}"}
ALONE = {"openai": (1,), "anthropic": ()}
"""Other concurrencies than the usual one that a quick run measures."""
UPSTREAM_PATHS = {"openai": bodies.CHAT, "anthropic": bodies.MESSAGES}


@dataclass(frozen=True)
class Run:
    """One run of the benchmark: what is asked for and where it works."""

    folder: Path
    quick: bool
    seconds: float
    rounds: int
    variants: Sequence[str]
    command: str
    cells: list[Cell] = field(default_factory=list)
    rss_mb: dict[str, dict[str, float]] = field(default_factory=dict)
    cases: list[dict[str, Any]] = field(default_factory=list)

    @contextmanager
    def up(self, upstream: Running, *, buffering: bool = True) -> Iterator[dict[str, Running]]:
        """Start nginx and every variant of the server in front of ``upstream``."""
        with ExitStack() as stack:
            core = cores().proxy
            found = {
                "direct": upstream,
                "nginx": stack.enter_context(
                    nginx.proxy(upstream.url, self.folder, core=core, buffering=buffering)
                ),
            }
            for name in self.variants:
                make, more = VARIANTS[name]
                config = make(upstream.url, self.folder, **more)
                found[name] = stack.enter_context(
                    server.serving(name, config, self.folder, core=core, command=self.command)
                )
            idle = {name: rss_mb(running.pid) for name, running in found.items()}
            yield found
            for name, running in found.items():
                if name != "direct":
                    seen = self.rss_mb.setdefault(name, {"idle": round(idle[name], 1)})
                    seen["after"] = round(max(seen.get("after", 0.0), rss_mb(running.pid)), 1)


def targets(
    found: dict[str, Running], route: str, body: dict[str, Any], names: Sequence[str]
) -> list[Target]:
    """Return who is asked what: the server as it is, the others on the path that it asks upstream."""
    made = []
    for name in names:
        if name in found:
            plain = name in ("direct", "nginx")
            made.append(
                Target(
                    name,
                    found[name].url,
                    found[name].pid,
                    UPSTREAM_PATHS[route] if plain else bodies.CHAT,
                    bodies.question(MODELS[route], **body),
                    HEADERS,
                )
            )
    for target in made:
        check(target)
    return made


def check(target: Target) -> None:
    """End the script when a target does not answer as it should: its speed would mean nothing."""
    status, said = fetch(target.url + target.path, target.body, target.headers)
    whole = b'"tool_calls"' in said or b"tool_use" in said or b"Hello!" in said
    if status != 200 or not (whole or b"word42" in said):
        sys.exit(f"{target.name} answered {status}: {said[:500].decode(errors='replace')}")


def whole(run: Run, route: str) -> None:
    """Measure whole answers on one route: CPU at 64 connections by size, latency by concurrency."""
    tools = {"tools": [bodies.TOOL]} if route == "anthropic" else {}
    core = cores().load
    with nginx.mock(run.folder, core=core) as upstream, run.up(upstream) as running:
        everyone = ["direct", "nginx", *run.variants]
        for kb in (0.5,) if run.quick else (0.5, 20, 200):
            names = everyone[run.quick :] if kb == 0.5 else ["nginx", "bare", "full"]
            asked = targets(running, route, {"kb": kb, **tools}, names)
            rounds = run.rounds if kb == 0.5 else max(1, run.rounds - 3)
            load = Load(route, kb, goals.AT, rounds, run.seconds)
            run.cells.extend(cells.whole(asked, load, run.folder, core))
        asked = targets(running, route, {"kb": 0.5, **tools}, everyone)
        for connections in ALONE[route] if run.quick else (1, 16, 256):
            load = Load(route, 0.5, connections, max(1, run.rounds - 3), max(1, run.seconds - 1))
            run.cells.extend(cells.whole(asked, load, run.folder, core))


def forward(run: Run) -> None:
    """OpenAI in, OpenAI upstream."""
    whole(run, "openai")


def translated(run: Run) -> None:
    """OpenAI in, Anthropic upstream, with tools."""
    whole(run, "anthropic")


def streams(run: Run) -> None:
    """Paced streams, passed through and translated."""
    upstream = paced.paced(run.folder, core=cores().load, frames=FRAMES, interval_s=INTERVAL_S)
    with upstream as mock, run.up(mock, buffering=False) as running:
        for route in MODELS:
            asked = targets(running, route, {"stream": True}, ["direct", "nginx", *run.variants])
            for connections in (16,) if run.quick else (16, goals.AT):
                load = Load(route, 0.5, connections, max(1, run.rounds - 4), run.seconds)
                run.cells.extend(cells.streamed(asked, load, FRAMES))


def structured(run: Run) -> None:
    """The three structured cases."""
    with ExitStack() as stack:
        upstream = stack.enter_context(scripted.scripted(run.folder, seed.script(), core=cores().load))
        config = server.full(upstream.url, run.folder)
        ours = stack.enter_context(
            server.serving("full", config, run.folder, core=cores().proxy, command=run.command)
        )
        asked = [("direct", upstream, bodies.OPENAI_MODEL), ("full", ours, MODELS["openai"])]
        for connections in (1,) if run.quick else (1, 16):
            run.cases.extend(seed.measure(asked, connections=connections, seconds=run.seconds))


SCENARIOS = {"forward": forward, "translated": translated, "streams": streams, "structured": structured}


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default=",".join(SCENARIOS), help=f"default: {','.join(SCENARIOS)}")
    parser.add_argument("--variants", default=",".join(VARIANTS), help=f"default: {','.join(VARIANTS)}")
    parser.add_argument(
        "--quick", action="store_true", help="a minute and a half instead of eleven: fewer, shorter rounds"
    )
    parser.add_argument("--seconds", type=float, help="of each round (default: 2, quick: 1)")
    parser.add_argument("--rounds", type=int, help="default: 7, quick: 3")
    parser.add_argument("--write", action="store_true", help="write the tables of docs/performance.md")
    parser.add_argument("--server-command", default=server.COMMAND, help=f"default: {server.COMMAND}")
    return parser.parse_args()


def main() -> int:
    """Measure, print, keep the results."""
    asked, before = options(), results.machine()
    chosen = asked.only.split(",")
    os.sched_setaffinity(0, {cores().load})
    variants = asked.variants.split(",")
    if "asgi" in variants and not server.knows("api", "hot_lane"):
        print("asgi: this server has no hot lane to turn off; left out")
        variants.remove("asgi")
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        seconds = asked.seconds or (1 if asked.quick else 2)
        rounds = asked.rounds or (3 if asked.quick else 7)
        run = Run(Path(folder), asked.quick, seconds, rounds, variants, asked.server_command)
        for name in chosen:
            SCENARIOS[name](run)
    found = {
        "cells": [cell.json() for cell in run.cells],
        "rss_mb": run.rss_mb,
        "structured": run.cases,
    }
    judged = goals.of(run.cells) + (seed.goals(run.cases) if run.cases else [])
    partial = asked.quick or chosen != list(SCENARIOS)
    results.save("gateway", found, judged, before, quick=partial)
    if asked.write:
        print(f"written: {page.write()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
