"""Several workers share their numbers: real processes, one of which is killed."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

WORKER = """
import sys, time
from pathlib import Path
from llm_server.contract import Attempt, Context, State, Usage
from llm_server.telemetry.config import TelemetryConfig
from llm_server.telemetry.metrics import Metrics, Sources

sources = Sources(lambda: {"p": {"open": 2, "limit": 10}}, lambda: {"p": State.READY})
metrics = Metrics(TelemetryConfig(), "1", sources=sources, shared=Path(sys.argv[1]))

def context():
    now_s = time.perf_counter()
    attempt = Attempt(provider="p", model="m", started_s=now_s, ended_s=now_s)
    return Context(request_id="r", route="/x", started_s=now_s, attempts=[attempt])

for command in sys.stdin:
    match command.strip():
        case "request":
            done = context()
            metrics.started(done)
            metrics.finished(done, Usage(input_tokens=5), None)
        case "begin":
            metrics.started(context())
        case "refresh":
            metrics.refresh()
        case "close":
            metrics.close()
        case "scrape":
            sys.stdout.write(metrics.render()[0].decode())
    print("done", flush=True)
"""


class Worker:
    def __init__(self, shared: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-W", "error", "-c", WORKER, str(shared)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(shared)},
        )

    def do(self, command: str) -> str:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()
        lines = list(iter(self.process.stdout.readline, "done\n"))
        assert self.process.poll() is None
        return "".join(lines)

    def scrape(self) -> dict[tuple[str, ...], float]:
        families = text_string_to_metric_families(self.do("scrape"))
        return {(s.name, *s.labels.values()): s.value for family in families for s in family.samples}

    def end(self, *, kill: bool = False) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        if kill:
            self.process.kill()
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[[], Worker]]:
    with ExitStack() as stack:

        def start_worker() -> Worker:
            worker = Worker(tmp_path)
            stack.callback(worker.end, kill=True)
            return worker

        yield start_worker


def test_a_scrape_of_one_worker_answers_for_all(start: Callable[[], Worker]) -> None:
    one, other = start(), start()
    for worker in (one, one, other):
        worker.do("request")
    one.do("begin")
    other.do("begin")
    for worker in (one, other):
        worker.do("refresh")
    for worker in (one, other):
        got = worker.scrape()
        assert sum(v for key, v in got.items() if key[0] == "llm_server_requests_total") == 3
        assert sum(v for key, v in got.items() if key[0] == "llm_server_tokens_total") == 15
        assert got["llm_server_requests_in_flight", "/x"] == 2
        assert not [key for key in got if key[0].startswith(("process_", "python_"))]
    assert other.scrape()["llm_server_pool_open_connections", "p"] == 4
    assert other.scrape()["llm_server_provider_state", "p", "ready"] == 2
    assert other.scrape()["llm_server_build_info", "1"] == 1


def test_a_killed_worker_leaves_the_gauges_but_its_counts_stay(start: Callable[[], Worker]) -> None:
    one, other = start(), start()
    for worker in (one, other):
        worker.do("request")
        worker.do("begin")
    one.do("refresh")
    one.do("request")  # lost with it: what a worker did not hand over yet
    one.end(kill=True)
    got = other.scrape()
    assert got["llm_server_requests_in_flight", "/x"] == 1
    assert sum(v for key, v in got.items() if key[0] == "llm_server_requests_total") == 2


def test_a_worker_that_closes_takes_its_gauges_with_it(start: Callable[[], Worker]) -> None:
    one, other = start(), start()
    one.do("begin")
    one.do("close")
    assert ("llm_server_requests_in_flight", "/x") not in other.scrape()
    one.end()
    assert one.process.returncode == 0
