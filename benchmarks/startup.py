"""How fast does a base install answer, and how much memory does it hold when idle? (Linux)

A fresh virtual environment gets the base package (no extras, locked versions). The server is started in it
with no key, no model and an empty home, on a free port; time runs from ``exec`` to the first 200 of
``/health/ready``.
"""

import argparse
import json
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

from bench import page, results
from bench.processes import cpu_s, rss_mb
from bench.results import Goal

ROOT = Path(__file__).resolve().parent.parent
TARGETS = {"ready_s": 1.0, "idle_mb": 120.0}
RUNS = 5
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
    """Start the server with a bare environment; stop it with SIGTERM and insist on exit status 0.

    What it prints goes to a file, which is shown when the server fails: figures stand alone on the terminal.
    """
    environment = {"PATH": os.defpath, "HOME": str(home), "LANG": "C.UTF-8"}
    with Path(home, "server.log").open("w+") as log:
        process = subprocess.Popen(command, env=environment, cwd=home, stdout=log, stderr=subprocess.STDOUT)
        try:
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            status = process.wait(GIVE_UP_S)
            if status:
                log.seek(0)
                print(log.read()[-4000:], file=sys.stderr)
    if status:
        raise SystemExit(f"the server ended with status {status}")


def ready(url: str, process: subprocess.Popen[bytes]) -> bool:
    """Ask once; raises ``SystemExit`` when the server is gone."""
    if process.poll() is not None:
        raise SystemExit(f"the server ended with status {process.returncode} before it was ready")
    try:
        with urllib.request.urlopen(url, timeout=GIVE_UP_S) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, ConnectionError):
        return False


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
        return Sample(ready_s, used, rss_mb(process.pid))


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
    parser.add_argument("--runs", type=int, default=RUNS, help=f"counted starts (default: {RUNS})")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--write", action="store_true", help="write the tables of docs/performance.md")
    options, before = parser.parse_args(), results.machine()
    figures = measure(options.runs)
    found = {"runs": options.runs, "median": figures, "targets": TARGETS}
    if options.json:
        print(json.dumps(found))
        return 0
    print(f"base install, no key, no model: median of {options.runs} starts")
    for name, value in figures.items():
        print(f"  {name:<8}{value:>9.3f}")
    goals = [
        Goal("start-up to the first 200 of /health/ready", figures["ready_s"], TARGETS["ready_s"], "s"),
        Goal("RSS of an idle server without a model", figures["idle_mb"], TARGETS["idle_mb"], "MB"),
    ]
    results.save("startup", found, goals, before, quick=options.runs < RUNS)
    if options.write:
        print(f"written: {page.write()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
