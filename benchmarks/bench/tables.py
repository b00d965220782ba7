"""The tables of docs/performance.md: for each benchmark, from its kept result to sections of the page."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import median
from typing import Any

from bench import goals
from bench.cells import Cell, cpu_us, find, ratios

Row = Sequence[object]
Found = Mapping[str, Any]


def table(header: Row, rows: Iterable[Row]) -> str:
    """Return a Markdown table; the first column is text, the others are numbers."""
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def measured_on(found: Found) -> str:
    """Return the line that says when and on what a section was measured."""
    on = found["machine"]
    return (
        f"Measured {found['taken']} on {on['cores']} cores of {on['cpu']}, Linux {on['kernel']}, Python "
        f"{on['python']}, uvloop {on['uvloop']}, nginx {on['nginx']}; "
        f"load average before: {on['load_before']}."
    )


def gateway(found: Found) -> dict[str, str]:
    """Return the sections of the gateway benchmark."""
    cells = [Cell(**value) for value in found["cells"]]
    parts = {
        "cpu": [measured_on(found), _by_target(cells, "whole"), _speed(cells)],
        "latency": [_latency(cells)],
        "streams": [_by_target(cells, "stream"), _streams(cells)],
        "memory": [_memory(found)],
        "structured": [_structured(found["structured"])],
    }
    return {name: "\n\n".join(part) for name, part in parts.items()}


def _cost(ours: Cell | None, nginx: Cell | None) -> str:
    """Return ratio, its range over the rounds and the CPU time of a cell."""
    if ours is None or nginx is None:
        return "-"
    used = median(cpu_us(ours))
    amount = f"{used / 1000:.2f} ms" if ours.kind == "stream" else f"{used:.0f} µs"
    if ours is nginx:
        return amount
    found = ratios(ours, nginx)
    return f"**{median(found):.2f}** ({min(found):.2f} to {max(found):.2f}), {amount}"


def _by_target(cells: Sequence[Cell], kind: str) -> str:
    judged = [
        cell
        for cell in cells
        if cell.kind == kind
        and cell.target != "direct"
        and (kind == "stream" or cell.connections == goals.AT)
    ]
    names = list(dict.fromkeys(cell.target for cell in judged))
    rows = []
    for route, kb, connections in dict.fromkeys((cell.route, cell.kb, cell.connections) for cell in judged):
        where = {"route": route, "kb": kb, "connections": connections}
        row = {name: find(judged, target=name, **where) for name in names}
        costs = (_cost(row[name], row["nginx"]) for name in names)
        rows.append((f"{route}, {kb:g} KB, {connections}", *costs))
    return table(("upstream, body, connections", *names), rows)


def _speed(cells: Sequence[Cell]) -> str:
    rows = [
        (
            f"{cell.route}, {cell.target}",
            f"{1e6 / median(cpu_us(cell)):,.0f}",
            f"{median(each['requests'] / each['wall_s'] for each in cell.rounds):,.0f}",
        )
        for cell in cells
        if (cell.kind, cell.kb, cell.connections) == ("whole", 0.5, goals.AT) and cell.target != "direct"
    ]
    return table(("upstream, target", "requests per CPU second", "requests/s seen"), rows)


def _latency(cells: Sequence[Cell]) -> str:
    chosen = sorted(
        (cell for cell in cells if cell.kind == "whole" and cell.kb == 0.5 and cell.target != "direct"),
        key=lambda cell: (cell.route != "openai", cell.connections),
    )
    rows = [
        (
            f"{cell.route}, {cell.target}",
            cell.connections,
            *(f"{goals.added_ms(cells, cell, figure):.3f}" for figure in ("p50_ms", "p95_ms", "p99_ms")),
        )
        for cell in chosen
    ]
    return table(("upstream, target", "connections", "added p50 ms", "p95", "p99"), rows)


def _streams(cells: Sequence[Cell]) -> str:
    rows = [
        (
            f"{cell.route}, {cell.target}, {cell.connections} streams",
            f"{1e6 * median(each['cpu_s'] / max(1, each['frames']) for each in cell.rounds):.1f}",
            f"{goals.added_ms(cells, cell, 'first_p50_ms'):.3f}",
            f"{cell.median('gap_p50_ms'):.2f}",
            f"{cell.median('gap_p99_ms'):.2f}",
            f"{cell.median('step_share'):.2%}",
        )
        for cell in cells
        if cell.kind == "stream" and cell.target != "direct"
    ]
    header = (
        "upstream, target", "CPU µs a frame", "added first byte p50 ms",
        "gap p50 ms", "gap p99 ms", "40 ms steps",
    )  # fmt: skip
    return table(header, rows)


def _memory(found: Found) -> str:
    rows = [
        (name, f"{value['idle']:.1f}", f"{value['after']:.1f}") for name, value in found["rss_mb"].items()
    ]
    return table(("target", "RSS idle MB", "after the load MB"), rows)


def _structured(rows: Sequence[Found]) -> str:
    lines = []
    for row in rows:
        direct = next(
            each for each in rows
            if each["target"] == "direct" and all(each[key] == row[key] for key in ("case", "connections"))
        )  # fmt: skip
        if row is not direct:
            taken, given = row["tokens"]
            lines.append(
                (
                    f"{row['case']}, {taken} tokens in, {given} out",
                    row["connections"],
                    f"{direct['valid']} of {direct['asked']}",
                    f"{row['valid']} of {row['asked']}",
                    *(f"{row[name] - direct[name]:.2f}" for name in ("p50_ms", "p95_ms", "p99_ms")),
                    f"{row['cpu_ms']:.3f}",
                )
            )
    header = (
        "case", "connections", "valid from the upstream", "valid from the server",
        "added p50 ms", "p95", "p99", "CPU ms a valid answer",
    )  # fmt: skip
    return table(header, lines)


def overload(found: Found) -> dict[str, str]:
    """Return the section of the overload benchmark."""
    rows = [
        (
            f"{row['times_capacity']:g} x {found['capacity']:g}/s",
            f"{row['goodput']:.0f}/s",
            *(f"{share:.1%}" for share in row["served"].values()),
            f"{row['refused']} of {row['arrivals']}",
            f"{row['unserved_p99_ms']:.0f}",
            f"{row['refused_p50_ms']:.2f}",
            f"{row['refused_p99_ms']:.2f}",
            f"{row['good_p50_ms']:.0f} / {row['good_p99_ms']:.0f}",
        )
        for row in found["rows"]
    ]
    header = (
        "arrivals", "goodput", *(f"{name} served" for name in found["rows"][0]["served"]),
        "refused", "no answer in time, p99 ms", "refusal p50 ms", "p99", "answer p50 / p99 ms",
    )  # fmt: skip
    return {"overload": f"{measured_on(found)}\n\n{table(header, rows)}"}


def open_streams(found: Found) -> dict[str, str]:
    """Return the section of the open streams."""
    held = found["held"]
    rows = [
        ("streams, errors", f"{held['streams']:,}, {held['errors']}"),
        ("all open at once for", f"{held['open_at_once_s']:.0f} s"),
        ("RSS idle, at its peak", f"{held['rss_idle_mb']:.0f} MB, {held['rss_mb']:.0f} MB"),
        ("frames of the slowest and the fastest stream, as shares of the median",
         f"{held['slowest_share']:.2f}, {held['fastest_share']:.2f}"),
        ("time to the first frame p50", f"{held['first_p50_ms']:.1f} ms"),
    ]  # fmt: skip
    return {"open-streams": f"{measured_on(found)}\n\n{table(('what', 'measured'), rows)}"}


def soak(found: Found) -> dict[str, str]:
    """Return the section of the soak."""
    before, after, fitted = found["before"], found["after"], found["slope"]
    rows = [
        (name, f"{before[key]:,}", f"{after[key]:,}")
        for name, key in (
            ("RSS MB", "rss_mb"), ("tasks", "tasks"), ("open files", "files"),
            ("in flight + busy + waiting", "gauges"), ("objects", "objects"),
            ("entries of all containers", "entries"),
        )
    ]  # fmt: skip
    said = (
        f"{found['requests']:,} requests, {found['left']:,} of them streams that were given up; "
        f"{found['failed'] + found['left_unserved']} failed. The slope of the resident memory is "
        f"{fitted['slope']:.3f} ± {fitted['margin']:.3f} bytes a request."
    )
    return {"soak": f"{measured_on(found)}\n\n{said}\n\n{table(('what', 'before', 'after'), rows)}"}


def startup(found: Found) -> dict[str, str]:
    """Return the section of the start-up."""
    rows = [(name, f"{value:.3f}", found["targets"].get(name, "")) for name, value in found["median"].items()]
    return {"startup": f"{measured_on(found)}\n\n{table(('figure', 'median', 'target'), rows)}"}


RENDERERS: dict[str, Callable[[Found], dict[str, str]]] = {
    "gateway": gateway,
    "open_streams": open_streams,
    "overload": overload,
    "soak": soak,
    "startup": startup,
}
"""By the name of the kept result; in the order of the page."""
