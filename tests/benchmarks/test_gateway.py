"""The benchmarks run: a second of each kind of load through nginx and the server as they are."""

from pathlib import Path

import gateway
import pytest
from bench import cells, server
from bench.processes import Running


@pytest.fixture
def run(tmp_path: Path) -> gateway.Run:
    return gateway.Run(tmp_path, quick=True, seconds=1, rounds=1, variants=["bare"], command=server.COMMAND)


def test_whole_answers_are_measured_beside_nginx(run: gateway.Run) -> None:
    gateway.forward(run)
    assert {(cell.target, cell.connections) for cell in run.cells} == {
        ("nginx", 64), ("bare", 64), ("direct", 1), ("nginx", 1), ("bare", 1),
    }  # fmt: skip
    for cell in run.cells:
        (figures,) = cell.rounds
        assert figures["requests"] > 0
        assert figures["failed"] == 0
        assert 0 < figures["cpu_s"] < 2 * figures["wall_s"]
    ours, nginx = (cells.find(run.cells, target=name, connections=64) for name in ("bare", "nginx"))
    assert ours is not None
    assert nginx is not None
    assert cells.ratios(ours, nginx)[0] > 1, "nginx only passes bytes on"
    assert run.rss_mb["bare"]["idle"] > run.rss_mb["nginx"]["idle"]


def test_streams_are_measured_beside_nginx(run: gateway.Run) -> None:
    gateway.streams(run)
    for cell in run.cells:
        (figures,) = cell.rounds
        assert figures["requests"] >= 16
        assert figures["failed"] == 0
        assert figures["frames"] >= 100 * figures["requests"]
    assert {(cell.route, cell.target) for cell in run.cells} == {
        (route, target) for route in gateway.MODELS for target in ("direct", "nginx", "bare")
    }


def test_a_target_that_answers_wrongly_ends_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateway, "fetch", lambda *_: (200, b'{"choices": []}'))
    with pytest.raises(SystemExit, match="bare answered 200"):
        gateway.check(gateway.Target("bare", "http://127.0.0.1:1", 1, "/", b"{}", {}))


def test_targets_are_asked_on_the_paths_that_they_have(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateway, "check", lambda target: None)
    here = Running(None, "http://127.0.0.1:1", Path())  # type: ignore[arg-type]  # its process is not asked
    monkeypatch.setattr(Running, "pid", 1)
    found = gateway.targets(
        {"direct": here, "bare": here}, "anthropic", {"kb": 0.5}, ["direct", "nginx", "bare"]
    )
    assert [(target.name, target.path) for target in found] == [
        ("direct", "/v1/messages"), ("bare", "/v1/chat/completions"),
    ]  # fmt: skip
