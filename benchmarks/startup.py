"""How fast does a base install answer, and how much memory does it hold when idle? (Linux)

A fresh virtual environment gets the base package (no extras, locked versions). The server is started in it
with no key, no model and an empty home, on a free port; time runs from ``exec`` to the first 200 of
``/health/ready``.
"""

import argparse
import json
import math
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
TARGETS = {"ready_s": 1.0, "idle_mb": 120.0}
GIVE_UP_S = 30.0
SETTLE_S = 1.0
"""How long the server stands idle before its memory is read."""


class Sample(NamedTuple):
    """One start: wall and processor seconds to ready, resident megabytes (10**6 bytes) when idle."""

    ready_s: float
    cpu_s: float
    idle_mb: float


def install(folder: Path) -> Path:
    """Install the base package into a new environment in ``folder``; return its ``llm-server``."""
    venv.create(folder / "venv", with_pip=True)
    pip = [str(folder / "venv/bin/python"), "-m", "pip", "install", "-qq", "--disable-pip-version-check"]
    subprocess.run([*pip, "--require-hashes", "--no-deps", "-r", str(ROOT / "locks/base.txt")], check=True)
    source = folder / "source"  # a copy: building must not write into the tree
    shutil.copytree(ROOT / "src", source / "src", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    subprocess.run([*pip, "--no-deps", str(source)], check=True)
    return folder / "venv/bin/llm-server"


@contextmanager
def running(command: list[str], home: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Start the server with a bare environment; stop it with SIGTERM and insist on exit status 0."""
    environment = {"PATH": os.defpath, "HOME": str(home), "LANG": "C.UTF-8"}
    process = subprocess.Popen(command, env=environment, cwd=home, stdout=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        status = process.wait(GIVE_UP_S)
    if status:
        raise SystemExit(f"the server ended with status {status}")


def ready(url: str, process: subprocess.Popen[bytes]) -> bool:
    """Ask once; raises ``SystemExit`` when the server is gone."""
    if process.poll() is not None:
        raise SystemExit(f"the server ended with status {process.returncode} before it was ready")
    try:
        with urllib.request.urlopen(url, timeout=GIVE_UP_S) as answer:
            return answer.status == 200
    except (urllib.error.URLError, ConnectionError):
        return False


def cpu_s(pid: int) -> float:
    """Return the processor seconds, user and system, of ``pid``; proc(5), stat fields 14 and 15."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident_mb(pid: int) -> float:
    """Return the resident memory of ``pid``; proc(5), statm field 2."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def start_once(program: Path, home: Path) -> Sample:
    """Start the server once and measure it."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    began = time.perf_counter()
    with running([str(program), "serve", "--host", "127.0.0.1", "--port", str(port)], home) as process:
        while not ready(f"http://127.0.0.1:{port}/health/ready", process):
            if time.perf_counter() - began > GIVE_UP_S:
                raise SystemExit(f"the server was not ready within {GIVE_UP_S} s")
            time.sleep(0.002)
        ready_s, used = time.perf_counter() - began, cpu_s(process.pid)
        time.sleep(SETTLE_S)
        return Sample(ready_s, used, resident_mb(process.pid))


def measure(runs: int) -> dict[str, float]:
    """Return the median of every figure over ``runs`` starts; a first start, not counted, warms the disk."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder, "home")
        home.mkdir()
        program = install(Path(folder))
        samples = [start_once(program, home) for _ in range(runs + 1)][1:]
    return {name: round(statistics.median(getattr(s, name) for s in samples), 3) for name in Sample._fields}


def main() -> int:
    """Print the figures beside their targets."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=5, help="counted starts (default: 5)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    figures = measure(options.runs)
    if options.json:
        print(json.dumps({"runs": options.runs, "median": figures, "targets": TARGETS}))
        return 0
    print(f"base install, no key, no model: median of {options.runs} starts")
    for name, value in figures.items():
        target = TARGETS.get(name, math.inf)
        verdict = (
            "" if math.isinf(target) else f"   target {target:g}, {'met' if value <= target else 'MISSED'}"
        )
        print(f"  {name:<8}{value:>9.3f}{verdict}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
