"""What the benchmark of the gateway must show, from its cells."""

from collections.abc import Sequence
from statistics import median

from bench.cells import Cell, find, ratios
from bench.results import Goal

AT = 64
"""Connections at which ratios are judged."""


def of(cells: Sequence[Cell]) -> list[Goal]:
    """Return a goal for everything that was measured; what was not is left out."""
    goals = [
        _ratio(cells, "whole", "openai", "bare", 2.8, "forward, bare, hot lane"),
        _ratio(cells, "whole", "openai", "asgi", 4.5, "forward, bare, plain ASGI"),
        _added_latency(cells),
        _ratio(cells, "whole", "anthropic", "bare", 5.5, "translated with tools, bare"),
        _ratio(cells, "stream", "openai", "bare", 1.6, "stream passed through, bare"),
        _ratio(cells, "stream", "anthropic", "bare", 2.5, "stream translated, bare"),
        *_first_byte(cells),
    ]
    return [goal for goal in goals if goal]


def _ratio(cells: Sequence[Cell], kind: str, route: str, target: str, limit: float, name: str) -> Goal | None:
    measured = {"kind": kind, "route": route, "kb": 0.5}
    for connections in (AT, 16):  # a quick run has fewer streams
        ours = find(cells, target=target, connections=connections, **measured)
        yardstick = find(cells, target="nginx", connections=connections, **measured)
        if ours and yardstick:
            value = median(ratios(ours, yardstick))
            return Goal(f"CPU, {name}, {connections} connections", value, limit, "x nginx")
    return None


def added_ms(cells: Sequence[Cell], cell: Cell, figure: str) -> float:
    """Return what ``cell`` adds to the same request sent to the upstream directly, in milliseconds."""
    direct = find(
        cells, kind=cell.kind, route=cell.route, kb=cell.kb, connections=cell.connections, target="direct"
    )
    return cell.median(figure) - direct.median(figure) if direct else float("nan")


def _added_latency(cells: Sequence[Cell]) -> Goal | None:
    alone = {"kind": "whole", "route": "openai", "kb": 0.5, "connections": 1}
    ours, nginx = (find(cells, target=name, **alone) for name in ("bare", "nginx"))
    if not ours or not nginx:
        return None
    value = added_ms(cells, ours, "p50_ms") / max(0.001, added_ms(cells, nginx, "p50_ms"))
    return Goal("added p50 at one connection, forward, bare", value, 2.5, "x what nginx adds")


def _first_byte(cells: Sequence[Cell]) -> list[Goal]:
    cell = find(cells, kind="stream", route="openai", target="bare", connections=16)
    direct = find(cells, kind="stream", route="openai", target="direct", connections=16)
    if not cell or not direct:
        return []
    step = cell.median("step_share") - direct.median("step_share")
    return [
        Goal("added time to first byte p50, 16 streams", added_ms(cells, cell, "first_p50_ms"), 0.5, "ms"),
        Goal("reads that come after a step of 40 ms, more than directly", step, 0.01, "of all"),
    ]
