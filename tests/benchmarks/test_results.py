"""Ratios, goals and the page: what is said follows from the raw results."""

import json
from pathlib import Path

import pytest
from bench import cells, goals, page, results, server, tables
from bench.cells import Cell
from bench.results import Goal

from tests.repository.tree import ROOT

WHOLE = {"failed": 0, "wall_s": 2.0, "p50_ms": 1.0, "p95_ms": 2.0, "p99_ms": 3.0, "rss_mb": 50.0}
STREAM = {
    "failed": 0, "wall_s": 2.0, "first_p50_ms": 1.0, "gap_p50_ms": 10.0, "gap_p99_ms": 12.0,
    "step_share": 0.0, "rss_mb": 50.0,
}  # fmt: skip


def cell(kind: str, route: str, target: str, connections: int, rounds: list[dict[str, float]]) -> Cell:
    base = WHOLE if kind == "whole" else STREAM
    return Cell(kind, route, target, 0.5, connections, [{**base, **each} for each in rounds])


def used(*cpu_s: float) -> list[dict[str, float]]:
    return [{"requests": 1000, "frames": 102_000, "cpu_s": each} for each in cpu_s]


def measured(whole: float = 0.05, stream: float = 0.04) -> list[Cell]:
    found = []
    for kind, cost in (("whole", whole), ("stream", stream)):
        for route in ("openai", "anthropic"):
            for connections in (1, 16, 64):
                for target, factor, late in (("direct", 0, 0), ("nginx", 0.02, 0.05), ("bare", cost, 0.1)):
                    rounds = [
                        {**each, "p50_ms": 1 + late, "first_p50_ms": 1 + late}
                        for each in used(factor, factor, factor)
                    ]
                    found.append(cell(kind, route, target, connections, rounds))
    return found


def test_a_ratio_is_taken_round_by_round() -> None:
    nginx = cell("whole", "openai", "nginx", 64, used(0.02, 0.04, 0.02))
    ours = cell("whole", "openai", "bare", 64, used(0.05, 0.10, 0.06))
    assert cells.cpu_us(ours) == pytest.approx([50, 100, 60])
    assert cells.ratios(ours, nginx) == pytest.approx([2.5, 2.5, 3.0])


def test_rounds_without_requests_do_not_divide_by_nothing() -> None:
    silent = cell("whole", "openai", "bare", 64, [{"requests": 0, "cpu_s": 0.1}])
    assert cells.cpu_us(silent) == [100_000]
    assert cells.ratios(silent, cell("whole", "openai", "nginx", 64, [{"requests": 0, "cpu_s": 0}])) == []


def test_every_goal_is_judged_from_its_cells() -> None:
    found = {goal.name: goal for goal in goals.of(measured())}
    assert found["CPU, forward, bare, hot lane, 64 connections"].value == pytest.approx(2.5)
    assert found["CPU, stream translated, bare, 64 connections"].value == pytest.approx(2.0)
    assert found["added p50 at one connection, forward, bare"].value == pytest.approx(2.0)
    assert found["added time to first byte p50, 16 streams"].value == pytest.approx(0.1)
    assert {name for name, goal in found.items() if not goal.met} == {
        "CPU, stream passed through, bare, 64 connections"
    }


def test_what_was_not_measured_is_not_judged() -> None:
    assert goals.of([]) == []
    assert len(goals.of([each for each in measured() if each.kind == "whole"])) == 3


def test_a_quick_run_judges_its_streams_at_sixteen() -> None:
    quick = [each for each in measured() if each.connections != 64]
    assert "CPU, stream passed through, bare, 16 connections" in {goal.name for goal in goals.of(quick)}


@pytest.mark.parametrize(
    ("value", "most", "met"), [(1, True, True), (2, True, False), (1, False, True), (0, False, False)]
)
def test_a_goal_has_a_limit_on_one_side(value: float, most: bool, met: bool) -> None:
    goal = Goal("speed", value, 1, "x", most=most)
    assert goal.met is met
    assert str(goal).startswith("MET" if met else "MISSED")


def test_results_are_kept_and_those_of_short_runs_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(results, "FOLDER", tmp_path)
    monkeypatch.setattr(results, "QUICK", tmp_path / "quick")
    goal = Goal("speed", 3, 2, "x")
    results.save("some", {"rows": [1]}, [goal], {"cores": 2}, quick=True)
    assert results.load("some") is None
    results.save("some", {"rows": [1]}, [goal], {"cores": 2}, quick=False)
    kept = results.load("some")
    assert kept is not None
    assert (kept["rows"], kept["machine"], Goal(**kept["goals"][0])) == ([1], {"cores": 2}, goal)
    assert "MISSED speed: 3 x (target <= 2)" in capsys.readouterr().out


def test_the_machine_is_described() -> None:
    assert {"cpu", "cores", "load_before", "python", "nginx", "uvloop", "kernel"} <= results.machine().keys()


def test_a_section_is_replaced_and_the_rest_stays() -> None:
    text = (
        "# Page\n\n<!-- begin one -->\nold\n<!-- end one -->\n\n<!-- begin two -->\n<!-- end two -->\nend\n"
    )
    once = page.fill(text, {"one": r"new \1", "two": "| table |"})
    assert once == (
        "# Page\n\n<!-- begin one -->\nnew \\1\n<!-- end one -->\n\n"
        "<!-- begin two -->\n| table |\n<!-- end two -->\nend\n"
    )
    assert page.fill(once, {"one": r"new \1", "two": "| table |"}) == once


def test_a_section_without_a_place_is_an_error() -> None:
    with pytest.raises(ValueError, match="0 places for three"):
        page.fill("<!-- begin one -->\n<!-- end one -->", {"three": ""})


def test_the_tables_say_ratio_range_and_amount() -> None:
    found = {"machine": {}, "cells": [each.json() for each in measured()], "rss_mb": {}, "structured": []}
    found["machine"] = dict.fromkeys(
        ("cores", "cpu", "kernel", "python", "uvloop", "nginx", "load_before"), "?"
    )
    sections = tables.gateway({**found, "taken": "today"})
    assert "| openai, 0.5 KB, 64 | 20 µs | **2.50** (2.50 to 2.50), 50 µs |" in sections["cpu"]
    assert "| openai, bare | 1 | 0.100 |" in sections["latency"]
    assert "**2.00** (2.00 to 2.00), 0.04 ms" in sections["streams"]


def test_the_page_says_what_the_kept_results_say() -> None:
    assert page.PAGE == ROOT / "docs" / "performance.md"
    text = page.PAGE.read_text(encoding="utf-8")
    assert page.rendered(text) == text, "write it anew: `--write`, or `python -m bench.page`"


def test_every_kept_result_is_whole_and_shown() -> None:
    for path in results.FOLDER.glob("*.json"):
        assert path.stem in tables.RENDERERS
        assert json.loads(path.read_text())["goals"]


@pytest.mark.parametrize(
    ("section", "name", "known"),
    [
        ("api", "max_body_bytes", True),
        ("pool", "adaptive", True),
        ("api", "no_such", False),
        ("no_such", "x", False),
    ],
)
def test_a_setting_is_known_or_not(section: str, name: str, known: bool) -> None:
    assert server.knows(section, name) is known
