"""The measured server: its configurations, and its process."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from bench import bodies
from bench.processes import STARTS_WITHIN_S, Running, fetch, free_port, started

ROOT = Path(__file__).resolve().parent.parent.parent
COMMAND = "{python} -m llm_server serve --host 127.0.0.1 --port {port} --config {config}"
QUIET = {"metrics": False, "request_log": False, "log_level": "error"}


def settings(upstream: str, folder: Path, **more: Any) -> dict[str, Any]:
    """Return a configuration with both dialects at ``upstream``; sections in ``more`` replace those here."""
    return {
        "engine": {"enabled": False, "data_dir": str(folder / "data")},
        "discover": False,
        "providers": {
            "openai": {
                "base_url": f"{upstream}/v1",
                "api_key": "sk-upstream-0123456789",
                "models": [bodies.OPENAI_MODEL],
            },
            "anthropic": {
                "base_url": upstream,
                "api_key": "sk-ant-upstream-0123456789",
                "models": [bodies.ANTHROPIC_MODEL],
            },
        },
        **more,
    }


def bare(upstream: str, folder: Path, **more: Any) -> dict[str, Any]:
    """Return the configuration with everything off that can be off."""
    return settings(upstream, folder, telemetry=QUIET, **more)


def full(upstream: str, folder: Path, **more: Any) -> dict[str, Any]:
    """Return the configuration with all that is on by default: metrics, log, retries, limits, checks."""
    return settings(upstream, folder, **more)


def environment() -> dict[str, str]:
    """Return the server's environment: sources that ``PYTHONPATH`` names go before those beside this file."""
    found = {key: value for key, value in os.environ.items() if not key.startswith("LLM_SERVER")}
    sources = (
        found.get("PYTHONPATH"),
        str(ROOT / "src"),
        str(ROOT / "benchmarks"),
    )  # the last: bench.watched
    return {**found, "PYTHONPATH": os.pathsep.join(filter(None, sources))}


@cache
def schema() -> dict[str, Any]:
    """Return the JSON Schema of the server's configuration, as the server itself tells it."""
    command = [sys.executable, "-m", "llm_server.settings.schema"]
    told = subprocess.run(command, env=environment(), capture_output=True, check=True).stdout
    found: dict[str, Any] = json.loads(told)
    return found


def knows(section: str, name: str) -> bool:
    """Say whether this version of the server has a setting."""
    shape = schema()["properties"].get(section, {})
    references = (each["$ref"] for each in (shape, *shape.get("allOf", ())) if "$ref" in each)
    target = schema().get("$defs", {}).get(next(references, "").rpartition("/")[2], shape)
    return name in target.get("properties", {})


@contextmanager
def serving(
    name: str, config: Mapping[str, Any], folder: Path, *, core: int, command: str = COMMAND
) -> Iterator[Running]:
    """Run the server with ``config`` on ``core``; yields when it says that it is ready."""
    port = free_port()
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(dict(config)))
    words = [word.format(python=sys.executable, port=port, config=path) for word in command.split()]
    url = f"http://127.0.0.1:{port}"
    with started(words, url, core=core, log=folder / f"{name}.log", environment=environment()) as running:
        deadline = time.monotonic() + STARTS_WITHIN_S
        while fetch(f"{url}/health/ready")[0] != 200:
            if time.monotonic() > deadline:
                sys.exit(f"the server is not ready:\n{running.log.read_text()[-2000:]}")
            time.sleep(0.05)
        yield running
