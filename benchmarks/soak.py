"""Does anything stay behind? Many requests, a fifth of them streams that are given up; then a look inside.

Memory is sampled after every slice and its slope fitted by least squares. Afterwards, with everything
answered, the gauges must be at zero, and tasks, sockets and the entries of all maps back to their numbers
before.
"""

import argparse
import asyncio
import os
import re
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from bench import bodies, figures, leaving, nginx, paced, page, results, server, watched, wrk
from bench.processes import Running, cores, fetch, open_files, rss_mb
from bench.results import Goal
from bench.streams import compose

CANCELLED = 0.2
SLICE_S = 4
SETTLES_WITHIN_S = 20.0
WARM_UP = 0.2
"""Share of the samples that are left out: caches and the allocator's arenas fill."""
WARM_REQUESTS = 5000
"""Requests at least before the first look."""
NOISE_BYTES = 2.0
"""Bytes a request that count as none: the smallest Python object, lost every tenth request, would be more."""
HEADERS = {"content-type": "application/json", "authorization": bodies.KEY}
SETTLING = ("gauges", "tasks", "files", "entries")
GAUGES = (
    "llm_server_requests_in_flight",
    "llm_server_pool_busy_connections",
    "llm_server_pool_waiting_requests",
)


class Soaked(NamedTuple):
    """The server under test with its two kinds of load and the file of its census."""

    ours: Running
    census: Path
    sent: Path
    stream: bytes


@contextmanager
def up(folder: Path) -> Iterator[Soaked]:
    """Start the upstreams and the server, with everything on that is by default."""
    census = folder / "census.json"
    command = server.COMMAND.replace("-m llm_server", f"-m bench.watched {census}")
    with (
        nginx.mock(folder, core=cores().load) as mock,
        paced.paced(folder, core=cores().load, frames=20, interval_s=0.005) as slow,
    ):
        # Idle connections go soon, and with them all that belongs to them: what is left is left for good.
        short = {"server": {"keepalive_timeout_s": 5}, "pool": {"keepalive_s": 5}}
        config = server.full(mock.url, folder, **short)
        config["providers"]["slow"] = {
            "base_url": f"{slow.url}/v1", "api_key": "sk-slow-0123456789", "models": [bodies.OPENAI_MODEL]
        }  # fmt: skip
        with server.serving("ours", config, folder, core=cores().proxy, command=command) as ours:
            body = bodies.question(f"slow/{bodies.OPENAI_MODEL}", stream=True)
            sent = wrk.script(folder, "soak", bodies.question(f"openai/{bodies.OPENAI_MODEL}"), HEADERS)
            yield Soaked(ours, census, sent, compose(ours.url, bodies.CHAT, body, HEADERS))


async def _slice(soaked: Soaked, seconds: int, tally: leaving.Tally, owed: int) -> wrk.Load:
    """Load for some seconds; ``owed`` callers leave meanwhile."""
    whole = asyncio.create_task(
        asyncio.to_thread(
            wrk.load, soaked.ours.url + bodies.CHAT, soaked.sent,
            connections=16, seconds=seconds, core=cores().load,
        )
    )  # fmt: skip
    left = tally.left
    await leaving.leave(soaked.ours.url, soaked.stream, tally, lambda: tally.left - left < owed)
    return await whole


def soak(soaked: Soaked, requests: int, seconds: int) -> dict[str, Any]:
    """Send ``requests``; return the samples of memory by requests done, and what failed."""
    tally, whole, failed = leaving.Tally(), 0, 0
    samples: list[tuple[int, float]] = []
    while whole + tally.left < requests:
        rate = whole / max(1, len(samples))  # of a slice; the first has none yet
        owed = int((whole + rate) * CANCELLED / (1 - CANCELLED)) - tally.left
        load = asyncio.run(_slice(soaked, seconds, tally, max(leaving.TOGETHER, owed)))
        whole, failed = whole + load.requests, failed + load.failed
        samples.append((whole + tally.left, round(rss_mb(soaked.ours.pid), 3)))
        if len(samples) % 10 == 0:
            print(
                f"  {samples[-1][0]:,} requests, {tally.left:,} of them left, RSS {samples[-1][1]} MB",
                flush=True,
            )
    return {
        "requests": whole + tally.left, "left": tally.left,
        "failed": failed, "left_unserved": tally.failed, "rss": samples,
    }  # fmt: skip


def gauges(url: str) -> float:
    """Return the sum of the gauges that must be zero when nothing is asked."""
    status, body = fetch(f"{url}/metrics")
    text = body.decode()
    if status != 200 or GAUGES[0] not in text:
        sys.exit(f"the server tells no metrics: {status}")
    names = "|".join(GAUGES)
    return sum(
        float(value) for value in re.findall(rf"^(?:{names})(?:{{[^}}]*}})? (\S+)$", text, re.MULTILINE)
    )


def look(soaked: Soaked, before: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return what lives in the server when it has had its time, or once that is no more than ``before``."""
    deadline = time.monotonic() + SETTLES_WITHIN_S
    found: dict[str, Any] = {}
    while True:
        found = {
            **watched.take(soaked.ours.pid, soaked.census),
            "gauges": gauges(soaked.ours.url),
            "files": open_files(soaked.ours.pid),
            "rss_mb": round(rss_mb(soaked.ours.pid), 2),
        }
        settled = before and all(found[name] <= before[name] for name in SETTLING)
        if settled or time.monotonic() > deadline:
            return found
        time.sleep(1)


def run(requests: int, folder: Path) -> dict[str, Any]:
    """Warm the server up, look, soak, look again."""
    seconds = SLICE_S if requests >= 200_000 else 1
    with up(folder) as soaked:
        warm = soak(soaked, max(WARM_REQUESTS, requests // 20), seconds)
        before = look(soaked)
        print(f"  after {warm['requests']:,} requests to warm up: {short(before)}")
        found = soak(soaked, requests, seconds)
        after = look(soaked, before)
        print(f"  after {found['requests']:,} more: {short(after)}")
        more = grown(before, after)
        print(f"  grown: {more}")
        return {**found, "before": before, "after": after, "grown": more}


def short(found: dict[str, Any]) -> str:
    """Return the figures of a look in a line."""
    return ", ".join(f"{name} {value}" for name, value in found.items() if name != "types")


def grown(before: dict[str, Any], after: dict[str, Any]) -> dict[str, int]:
    """Return the types that grew most, and by how many objects: where to look."""
    more = {name: count - before["types"].get(name, 0) for name, count in after["types"].items()}
    return {name: count for name, count in sorted(more.items(), key=lambda item: -item[1])[:10] if count > 0}


def line(found: dict[str, Any]) -> figures.Slope:
    """Return the slope of the memory in bytes a request, without the warm-up."""
    samples = found["rss"][int(len(found["rss"]) * WARM_UP) :]
    return figures.slope([float(done) for done, _ in samples], [1e6 * mb for _, mb in samples])


def goals(found: dict[str, Any]) -> list[Goal]:
    """Return what must be shown."""
    before, after, fitted = found["before"], found["after"], line(found)
    per_request = (after["entries"] - before["entries"]) / found["requests"]
    return [
        Goal("soak, RSS slope less its margin", fitted.slope - fitted.margin, NOISE_BYTES, "bytes a request"),
        Goal("soak, failed requests", found["failed"] + found["left_unserved"], 0),
        Goal("soak, in flight, busy or waiting afterwards", after["gauges"], 0),
        Goal("soak, tasks more than before", after["tasks"] - before["tasks"], 0),
        Goal("soak, open files more than before", after["files"] - before["files"], 0),
        Goal("soak, entries of maps and lists more than before", per_request, 0.001, "a request"),
    ]


def main() -> int:
    """Soak, print, keep the results."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--requests", type=int, default=1_000_000, help="default: 1000000")
    parser.add_argument("--write", action="store_true", help="write the tables of docs/performance.md")
    options, before = parser.parse_args(), results.machine()
    cores()
    os.sched_setaffinity(0, {cores().load})
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        found = run(options.requests, Path(folder))
    fitted = line(found)
    print(f"  slope {fitted.slope:.3f} +- {fitted.margin:.3f} bytes a request")
    found["slope"] = fitted._asdict()
    for seen in (found["before"], found["after"]):
        del seen["types"]  # thousands of numbers that nobody reads; what grew is kept
    results.save("soak", found, goals(found), before, quick=options.requests < 1_000_000)
    if options.write:
        print(f"written: {page.write()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
