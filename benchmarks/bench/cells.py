"""What was measured, as cells: one target under one load, some rounds each; targets take turns."""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from bench import streams, wrk
from bench.figures import percentile
from bench.processes import cpu_s, rss_mb

STEP_MS = (36.0, 46.0)
"""Where gaps gather when Nagle's algorithm meets a delayed acknowledgement: Linux, TCP_DELACK_MIN, 40 ms."""


class Target(NamedTuple):
    """Somebody who is asked: its name, where it listens, its process, and what it is sent where."""

    name: str
    url: str
    pid: int
    path: str
    body: bytes
    headers: Mapping[str, str]


class Load(NamedTuple):
    """How a cell is loaded."""

    route: str
    kb: float
    connections: int
    rounds: int
    seconds: float


@dataclass
class Cell:
    """One target under one load. ``kind`` is ``whole`` or ``stream``; a round is a table of figures."""

    kind: str
    route: str
    target: str
    kb: float
    connections: int
    rounds: list[dict[str, float]] = field(default_factory=list)

    def median(self, name: str) -> float:
        """Return the median of a figure over the rounds."""
        return median(each[name] for each in self.rounds)

    def json(self) -> dict[str, Any]:
        return asdict(self)


def whole(targets: Sequence[Target], load: Load, folder: Path, core: int) -> list[Cell]:
    """Ask every target in turn, round after round, for whole answers."""
    cells = [Cell("whole", load.route, each.name, load.kb, load.connections) for each in targets]
    sent = [wrk.script(folder, f"sent-{each.name}", each.body, each.headers) for each in targets]
    for number in range(load.rounds):
        for target, cell, script in zip(targets, cells, sent, strict=True):
            if not number:
                wrk.load(target.url + target.path, script, connections=load.connections, seconds=1, core=core)
            used = cpu_s(target.pid)
            seen = wrk.load(
                target.url + target.path, script,
                connections=load.connections, seconds=load.seconds, core=core,
            )  # fmt: skip
            used = cpu_s(target.pid) - used
            cell.rounds.append(
                {**seen._asdict(), "cpu_s": round(used, 6), "rss_mb": round(rss_mb(target.pid), 2)}
            )
    report(cells)
    return cells


def streamed(targets: Sequence[Target], load: Load, frames: int) -> list[Cell]:
    """Ask every target in turn, round after round, for streams."""
    cells = [Cell("stream", load.route, each.name, load.kb, load.connections) for each in targets]
    for _ in range(load.rounds):
        for target, cell in zip(targets, cells, strict=True):
            request = streams.compose(target.url, target.path, target.body, dict(target.headers))
            used = cpu_s(target.pid)
            seen = streams.load(
                target.url, request, connections=load.connections, seconds=load.seconds, frames=frames
            )
            used = cpu_s(target.pid) - used
            cell.rounds.append(
                {**summary(seen), "cpu_s": round(used, 6), "rss_mb": round(rss_mb(target.pid), 2)}
            )
    report(cells)
    return cells


def summary(seen: streams.Streams) -> dict[str, float]:
    """Return the figures of a load of streams: ``requests`` are whole streams."""
    low, high = STEP_MS
    step = sum(low <= gap <= high for gap in seen.gaps_ms)
    figures = {
        "requests": seen.streams,
        "failed": seen.failed,
        "frames": seen.frames,
        "wall_s": seen.wall_s,
        "first_p50_ms": percentile(seen.first_ms, 0.5),
        "first_p95_ms": percentile(seen.first_ms, 0.95),
        "first_p99_ms": percentile(seen.first_ms, 0.99),
        "gap_p50_ms": percentile(seen.gaps_ms, 0.5),
        "gap_p99_ms": percentile(seen.gaps_ms, 0.99),
        "gap_max_ms": max(seen.gaps_ms, default=0.0),
        "step_share": step / max(1, len(seen.gaps_ms)),
        "whole_p50_ms": percentile(seen.whole_ms, 0.5),
    }
    return {name: round(value, 4) for name, value in figures.items()}


def cpu_us(cell: Cell) -> list[float]:
    """Return the CPU microseconds a request (or a stream) of every round."""
    return [1e6 * each["cpu_s"] / max(1, each["requests"]) for each in cell.rounds]


def ratios(cell: Cell, yardstick: Cell) -> list[float]:
    """Return, for every round, the CPU time a request of ``cell`` as a multiple of the yardstick's."""
    pairs = zip(cpu_us(cell), cpu_us(yardstick), strict=True)
    return [ours / theirs for ours, theirs in pairs if theirs]


def find(cells: Iterable[Cell], **wanted: Any) -> Cell | None:
    """Return the first cell with these values, or ``None``: not everything is measured every time."""
    return next(iter(select(cells, **wanted)), None)


def select(cells: Iterable[Cell], **wanted: Any) -> Iterator[Cell]:
    """Yield the cells with these values."""
    for cell in cells:
        if all(getattr(cell, name) == value for name, value in wanted.items()):
            yield cell


def report(cells: Sequence[Cell]) -> None:
    """Print a line for each cell; the ratio to nginx first."""
    yardstick = find(cells, target="nginx")
    for cell in cells:
        if cell.target == "direct":
            continue
        ratio = median(ratios(cell, yardstick)) if yardstick else 0.0
        first = "first_p50_ms" if cell.kind == "stream" else "p50_ms"
        failed = sum(each["failed"] for each in cell.rounds)
        what = f"{cell.kind:6} {cell.route:9} {cell.kb:5g} KB {cell.connections:4} conn. {cell.target:6}"
        cost = f"{ratio:6.2f} x nginx {median(cpu_us(cell)):9.1f} us CPU"
        bad = f"  {failed:g} FAILED" if failed else ""
        print(
            f"{time.strftime('%H:%M:%S')} {what} {cost}  {first} {cell.median(first):8.3f}{bad}", flush=True
        )
