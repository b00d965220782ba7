"""Whole requests as fast as they are answered: wrk, told by a script what to send and how to report."""

import json
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from bench.processes import program

SCRIPT = """
wrk.method = "POST"
{headers}
local file = io.open("{body}", "rb")
wrk.body = file:read("*a")
file:close()
done = function(summary, latency, requests)
  local e = summary.errors
  io.write(string.format(
    'RESULT {{"requests": %d, "wall_s": %f, "failed": %d, "p50_ms": %f, "p95_ms": %f, "p99_ms": %f}}\\n',
    summary.requests, summary.duration / 1e6, e.connect + e.read + e.write + e.status + e.timeout,
    latency:percentile(50) / 1e3, latency:percentile(95) / 1e3, latency:percentile(99) / 1e3))
end
"""
"""A fixed request is composed once, so the script costs nothing a request: github.com/wg/wrk, SCRIPTING."""


class Load(NamedTuple):
    """What wrk saw: answers, those that were errors, seconds, percentiles of the time to the whole answer."""

    requests: int
    failed: int
    wall_s: float
    p50_ms: float
    p95_ms: float
    p99_ms: float


def script(folder: Path, name: str, body: bytes, headers: Mapping[str, str]) -> Path:
    """Write what wrk sends; return its path."""
    (folder / f"{name}.body").write_bytes(body)
    lines = "\n".join(f'wrk.headers["{key}"] = "{value}"' for key, value in headers.items())
    path = folder / f"{name}.lua"
    path.write_text(SCRIPT.format(headers=lines, body=folder / f"{name}.body"))
    return path


def parse(output: str) -> Load:
    """Return the result that the script printed; raises ``ValueError`` when there is none."""
    found = re.search(r"^RESULT (.*)$", output, re.MULTILINE)
    if found is None:
        raise ValueError(f"wrk told no result: {output[-500:]}")
    return Load(**json.loads(found[1]))


def load(url: str, sent: Path, *, connections: int, seconds: float, core: int) -> Load:
    """Keep ``connections`` busy for ``seconds`` (whole ones: wrk takes no others)."""
    command = [program("taskset"), "-c", str(core), program("wrk"), "-t1", f"-c{connections}"]
    run = subprocess.run(
        [*command, f"-d{max(1, round(seconds))}s", "--timeout", "30s", "-s", str(sent), url],
        capture_output=True,
        text=True,
        check=True,
    )
    return parse(run.stdout)
