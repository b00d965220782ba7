"""What does the server do when three times as many requests come as the upstream can answer?

The upstream serves 20 requests at once, 100 ms each, which makes 200 a second; twice as many may wait there
and the rest is answered 429. Requests arrive at random (Poisson), however the server fares, as interactive,
default and batch. Goodput counts answers within 2 seconds. The server is told nothing of the upstream's
capacity.
"""

import argparse
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from bench import bodies, overload, page, results, scripted, server
from bench.processes import cores
from bench.streams import compose

SLOTS, SERVICE_S = 20, 0.1
CAPACITY = SLOTS / SERVICE_S
TIMES = (0.5, 1.0, 3.0)
PRIORITY = "x-llm-server-priority"
SCRIPT = scripted.Script({scripted.ALWAYS: [scripted.completion("Well.")]}, SLOTS, SERVICE_S, 2 * SLOTS)


def configuration(upstream: str, folder: Path) -> dict[str, Any]:
    """Return everything on, and every caller free to say how urgent it is."""
    return server.full(upstream, folder, api={"priority_header": "any"})


def measure(seconds: float, folder: Path) -> list[dict[str, Any]]:
    """Return a row for every load."""
    rows = []
    body = bodies.question(f"openai/{bodies.OPENAI_MODEL}")
    for times in TIMES:
        with (
            scripted.scripted(folder, SCRIPT, core=cores().load) as upstream,
            server.serving("ours", configuration(upstream.url, folder), folder, core=cores().proxy) as ours,
        ):
            headers = {"content-type": "application/json", "authorization": bodies.KEY}
            requests = {
                kind: compose(ours.url, bodies.CHAT, body, {**headers, PRIORITY: kind})
                for kind in overload.CLASSES
            }
            found = overload.arrive(ours.url, requests, times * CAPACITY, seconds)
            row = {"times_capacity": times, **overload.summary(found, seconds, seconds / 4)}
            rows.append(row)
            print(
                f"  {times:g} x capacity: goodput {row['goodput']:g}/s, served {row['served']}, statuses "
                f"{row['statuses']} {row['odd']}, rejections p50 {row['refused_p50_ms']} "
                f"p99 {row['refused_p99_ms']} ms",
                flush=True,
            )
    return rows


def main() -> int:
    """Measure, print, keep the results."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, help="of each load (default: 20, quick: 8)")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--write", action="store_true", help="write the tables of docs/performance.md")
    options, before = parser.parse_args(), results.machine()
    cores()
    os.sched_setaffinity(0, {cores().load})
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        rows = measure(options.seconds or (8 if options.quick else 20), Path(folder))
    quick = options.quick or options.seconds is not None
    results.save("overload", {"capacity": CAPACITY, "rows": rows}, overload.goals(rows), before, quick=quick)
    if options.write:
        print(f"written: {page.write()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
