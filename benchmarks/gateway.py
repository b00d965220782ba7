"""What does the server cost beside nginx, which only passes bytes on? CPU, latency, memory; whole and streamed.

nginx is the mock upstream, and on a core of its own the yardstick; the server has that core in its turn. wrk and the
streams' client load from the other core. Targets take turns, round after round, so that all meet the same machine;
CPU time is utime and stime of all processes of a target. The ratio to nginx is the figure to look at.

``--only`` chooses scenarios, ``--quick`` takes about a minute, ``--write`` puts the tables into docs/performance.md.
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import bodies, cells, nginx, paced, server
from bench.cells import Cell, Load, Target
from bench.processes import Running, cores, fetch

FRAMES = 100
INTERVAL_S = 0.01
HEADERS = {"content-type": "application/json", "authorization": bodies.KEY}
VARIANTS = {
    "bare": (server.bare, {}),
    "asgi": (server.bare, {"api": {"hot_lane": False}}),
    "full": (server.full, {}),
}
"""bare: everything off that can be; asgi: bare without the hot lane; full: everything on that is by default."""
MODELS = {"openai": f"openai/{bodies.OPENAI_MODEL}", "anthropic": f"anthropic/{bodies.ANTHROPIC_MODEL}"}
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
            yield found


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


def whole(run: Run, route: str) -> list[Cell]:
    """Measure whole answers on one route: CPU at 64 connections for every size, latency at every concurrency."""
    tools = {"tools": [bodies.TOOL]} if route == "anthropic" else {}
    found: list[Cell] = []
    core = cores().load
    with nginx.mock(run.folder, core=core) as upstream, run.up(upstream) as running:
        everyone = ["direct", "nginx", *run.variants]
        for kb in (0.5,) if run.quick else (0.5, 20, 200):
            names = everyone if kb == 0.5 else ["nginx", "bare", "full"]
            asked = targets(running, route, {"kb": kb, **tools}, names)
            rounds = run.rounds if kb == 0.5 else max(1, run.rounds - 2)
            found += cells.whole(asked, Load(route, kb, 64, rounds, run.seconds), run.folder, core)
        asked = targets(running, route, {"kb": 0.5, **tools}, everyone)
        for connections in (1,) if run.quick else (1, 16, 256):
            load = Load(route, 0.5, connections, max(1, run.rounds - 2), max(1, run.seconds - 1))
            found += cells.whole(asked, load, run.folder, core)
    return found


def forward(run: Run) -> list[Cell]:
    """OpenAI in, OpenAI upstream."""
    return whole(run, "openai")


def translated(run: Run) -> list[Cell]:
    """OpenAI in, Anthropic upstream, with tools."""
    return whole(run, "anthropic")


def streams(run: Run) -> list[Cell]:
    """Paced streams, passed through and translated."""
    found: list[Cell] = []
    core = cores().load
    upstream = paced.paced(run.folder, core=core, frames=FRAMES, interval_s=INTERVAL_S)
    with upstream as mock, run.up(mock, buffering=False) as running:
        for route in MODELS:
            names = ["direct", "nginx", *run.variants]
            asked = targets(running, route, {"stream": True}, names)
            for connections in (16,) if run.quick else (16, 64):
                load = Load(route, 0.5, connections, max(1, run.rounds - 2), run.seconds)
                found += cells.streamed(asked, load, FRAMES)
    return found


SCENARIOS = {"forward": forward, "translated": translated, "streams": streams}


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default=",".join(SCENARIOS), help=f"default: {','.join(SCENARIOS)}")
    parser.add_argument("--variants", default=",".join(VARIANTS), help=f"default: {','.join(VARIANTS)}")
    parser.add_argument("--quick", action="store_true", help="about a minute: fewer cells, shorter rounds")
    parser.add_argument("--seconds", type=float, help="of each round (default: 3, quick: 2)")
    parser.add_argument("--rounds", type=int, help="default: 5, quick: 3")
    parser.add_argument("--server-command", default=server.COMMAND, help=f"default: {server.COMMAND}")
    return parser.parse_args()


def main() -> int:
    """Measure and print."""
    asked = options()
    os.sched_setaffinity(0, {cores().load})
    variants = asked.variants.split(",")
    if "asgi" in variants and not server.knows("api", "hot_lane"):
        print("asgi: this server has no hot lane to turn off; left out")
        variants.remove("asgi")
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        run = Run(
            Path(folder),
            asked.quick,
            asked.seconds or (2 if asked.quick else 3),
            asked.rounds or (3 if asked.quick else 5),
            variants,
            asked.server_command,
        )
        for name in asked.only.split(","):
            SCENARIOS[name](run)
    return 0


if __name__ == "__main__":
    sys.exit(main())
