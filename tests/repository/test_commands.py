"""The commands that people and machines are told to run exist and are what they are said to be."""

import os
import re
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.repository.tree import ROOT, files
from tools import budgets, programs

MAKEFILE = (ROOT / "Makefile").read_text()
FROM_MAKE = {"MAKEFLAGS", "MFLAGS", "MAKELEVEL", "GNUMAKEFLAGS"}
TARGETS = set(re.findall(r"^([a-z-]+):.*##", MAKEFILE, re.MULTILINE))


def run(*command: str, **options: str) -> subprocess.CompletedProcess[str]:
    # As from a shell: a make above would have its own flags, and lines about folders, passed on.
    environment = {name: value for name, value in os.environ.items() if name not in FROM_MAKE} | options
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("path", files(".md"), ids=lambda path: path.name)
def test_every_make_target_that_a_document_names_exists(path: Path) -> None:
    assert set(re.findall(r"`make ([a-z-]+)", path.read_text())) <= TARGETS


@pytest.mark.parametrize("path", files(".md"), ids=lambda path: path.name)
def test_every_relative_link_of_a_document_leads_somewhere(path: Path) -> None:
    links = re.findall(r"\]\((?!https?://|#|mailto:)([^)#]+)", path.read_text())
    assert [link for link in links if not (path.parent / link).exists()] == []


def test_every_target_is_understood_by_make(tmp_path: Path) -> None:
    for target in TARGETS:
        dry = run("make", "--dry-run", f"VENV={tmp_path / 'venv'}", target)
        assert dry.returncode == 0, dry.stderr


def test_tests_run_on_several_cores_and_the_arguments_come_last(tmp_path: Path) -> None:
    dry = run("make", "--dry-run", f"VENV={tmp_path / 'venv'}", "test", "ARGS=tests/wire -x -n0")
    *_, program = dry.stdout.splitlines()
    assert program.split()[1:3] == ["-m", "pytest"]
    assert "--numprocesses=3" in program
    assert program.endswith(" tests/wire -x -n0")


def test_without_a_python_make_says_what_to_install(tmp_path: Path) -> None:
    failed = run("make", f"VENV={tmp_path / 'venv'}", "PYTHONS=no-such-python", "lint")
    assert failed.returncode != 0
    assert "apt-get install python3 python3-venv" in failed.stderr


def test_continuous_integration_runs_lint_and_test_and_nothing_else() -> None:
    script = (ROOT / ".ci" / "run").read_text()
    assert re.findall(r"^make (\w+)", script, re.MULTILINE) == ["lint", "test"]
    assert os.access(ROOT / ".ci" / "run", os.X_OK)


@pytest.mark.parametrize(("lint", "test"), [(0, 0), (1, 0), (0, 2), (1, 1)])
def test_continuous_integration_runs_both_parts_and_fails_with_either(
    tmp_path: Path, lint: int, test: int
) -> None:
    made = tmp_path / "make"
    made.write_text(f'#!/bin/sh\necho "ran $1"\n[ "$1" = lint ] && exit {lint}\nexit {test}\n')
    made.chmod(0o755)
    done = run("bash", ".ci/run", PATH=f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    assert done.stdout.splitlines() == ["ran lint", "ran test"]
    assert bool(done.returncode) == bool(lint or test)


def test_shell_scripts_are_clean() -> None:
    checked = run("shellcheck", ".ci/run")
    assert checked.returncode == 0, checked.stdout


def test_commit_hooks_run_programs_that_the_lock_has() -> None:
    (repo,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert repo["repo"] == "local"
    for hook in repo["hooks"]:
        program, *rest = hook["entry"].split()
        assert hook["language"] == "system"
        assert program in (".venv/bin/ruff", "make")
        assert program != "make" or rest[-1] in TARGETS


def test_a_program_that_is_there_is_not_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(programs, "PROGRAMS", {"here": "package-a", "absent": "package-b"})
    monkeypatch.setattr(programs, "SBIN", ())
    (tmp_path / "here").touch(mode=0o755)
    assert programs.missing(str(tmp_path)) == ["package-b"]


def test_without_rights_the_command_to_run_is_printed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(programs, "PROGRAMS", {"no-such-a": "package-b", "no-such-b": "package-a"})
    monkeypatch.setattr(programs.os, "geteuid", lambda: 1000)
    assert programs.main() == 1
    assert "sudo apt-get install --yes package-a package-b" in capsys.readouterr().err


def test_the_budgets_that_contributors_read_are_those_that_are_measured() -> None:
    rows = re.findall(r"^\| .*? \| (\d+) \| (\d+) \|$", (ROOT / "CONTRIBUTING.md").read_text(), re.MULTILINE)
    assert [(int(target), int(limit)) for target, limit in rows] == [b[1:3] for b in budgets.BUDGETS]


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150
