"""How do two thousand streams fare that are open at once on one process? Errors, memory, fairness.

The upstream sends a frame a second on each stream. Fairness looks at the frames that every stream got while
all of them were open: the slowest and the fastest as a share of the median.
"""

import argparse
import os
import resource
import sys
import tempfile
from pathlib import Path
from typing import Any

from bench import bodies, holding, paced, page, results, server
from bench.processes import cores, rss_mb
from bench.results import Goal
from bench.streams import compose

INTERVAL_S = 1.0
RSS_MB = 200.0
FAIR = 0.9


def measure(count: int, frames: int, folder: Path) -> dict[str, float]:
    """Return what was seen of ``count`` streams through the server, and its memory when idle."""
    wide: dict[str, Any] = {"pool": {"max_connections": 2 * count}}
    if server.knows("pool", "adaptive"):
        wide["pool"]["adaptive"] = {
            "enabled": False
        }  # every stream is to be open, not the best number of them
    with (
        paced.paced(folder, core=cores().load, frames=frames, interval_s=INTERVAL_S) as upstream,
        server.serving("ours", server.full(upstream.url, folder, **wide), folder, core=cores().proxy) as ours,
    ):
        idle = rss_mb(ours.pid)
        body = bodies.question(f"openai/{bodies.OPENAI_MODEL}", stream=True)
        headers = {"content-type": "application/json", "authorization": bodies.KEY}
        request = compose(ours.url, bodies.CHAT, body, headers)
        held = holding.hold(ours.url, request, count, frames, lambda: rss_mb(ours.pid))
        return {**held, "rss_idle_mb": round(idle, 1)}


def goals(held: dict[str, float]) -> list[Goal]:
    """Return what must be shown."""
    name = f"{held['streams']:,} open streams"
    return [
        Goal(f"{name}, errors", held["errors"], 0),
        Goal(f"{name}, RSS", held["rss_mb"], RSS_MB, "MB"),
        Goal(f"{name}, slowest", held["slowest_share"], FAIR, "of the median's frames", most=False),
    ]


def main() -> int:
    """Measure, print, keep the results."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--streams", type=int, default=2000)
    parser.add_argument("--frames", type=int, help="seconds that a stream lasts (default: 40, quick: 20)")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--write", action="store_true", help="write the tables of docs/performance.md")
    options, before = parser.parse_args(), results.machine()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # the server needs two for each stream
    cores()
    os.sched_setaffinity(0, {cores().load})
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        held = measure(options.streams, options.frames or (20 if options.quick else 40), Path(folder))
    print(f"  {held}")
    results.save(
        "open_streams", {"held": held}, goals(held), before, quick=options.quick or options.streams != 2000
    )
    if options.write:
        print(f"written: {page.write()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
