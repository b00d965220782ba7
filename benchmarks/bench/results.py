"""Raw results: a JSON file for each benchmark, the last whole run kept in the repository."""

import json
import os
import platform
import subprocess
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from bench.processes import program

FOLDER = Path(__file__).resolve().parent.parent / "results"
QUICK = FOLDER / "quick"
"""Not kept: git ignores it."""


@dataclass(frozen=True)
class Goal:
    """What must be shown: a figure and its limit, from above (``most``) or from below."""

    name: str
    value: float
    limit: float
    unit: str = ""
    most: bool = True

    @property
    def met(self) -> bool:
        return self.value <= self.limit if self.most else self.value >= self.limit

    def __str__(self) -> str:
        sign = "<=" if self.most else ">="
        verdict = "MET" if self.met else "MISSED"
        return f"{verdict:6} {self.name}: {self.value:.4g} {self.unit} (target {sign} {self.limit:g})"


def machine() -> dict[str, Any]:
    """Describe what the figures were measured on."""
    info = Path("/proc/cpuinfo").read_text()
    models = [line.partition(":")[2].strip() for line in info.splitlines() if line.startswith("model name")]
    nginx = subprocess.run([program("nginx"), "-v"], capture_output=True, text=True, check=True).stderr
    return {
        "cpu": models[0] if models else platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "load_before": round(os.getloadavg()[0], 2),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "uvloop": version("uvloop"),
        "nginx": nginx.strip().rpartition("/")[2],
    }


def save(
    name: str, found: Mapping[str, Any], goals: list[Goal], before: Mapping[str, Any], *, quick: bool
) -> Path:
    """Write the result of one benchmark, print its goals; return the file.

    ``before`` is :func:`machine` as it was before the benchmark itself loaded it.
    """
    folder = QUICK if quick else FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    value = {
        "taken": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "machine": before,
        "goals": [asdict(goal) for goal in goals],
        **found,
    }
    path = folder / f"{name}.json"
    path.write_text(json.dumps(value, indent=1) + "\n")
    for goal in goals:
        print(goal)
    print(f"raw results: {path}")
    return path


def load(name: str) -> dict[str, Any] | None:
    """Return the kept result of a benchmark, or ``None`` when it was never run whole."""
    path = FOLDER / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else None
