"""Schemas made to cost much cost little: each in a process that the system ends where it takes more."""

import json
import subprocess
import sys
from typing import Any

import pytest

from tests.repository.tree import ROOT
from tests.structured.hostile import BORNE, REFUSED


@pytest.fixture(scope="module")
def outcomes() -> dict[str, Any]:
    """Return what every schema came to, tried in a program without threads."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.structured.hostile"],
        cwd=ROOT,
        env={"PYTHONPATH": ":".join(sys.path), "HOME": "/nowhere"},
        check=True,
        capture_output=True,
        text=True,
    )
    told: dict[str, Any] = json.loads(done.stdout)
    return told


@pytest.mark.parametrize("name", REFUSED)
def test_it_is_refused_at_once_in_little_memory(outcomes: dict[str, Any], name: str) -> None:
    assert outcomes[name] == ["invalid_request"] * 3


@pytest.mark.parametrize("name", BORNE)
def test_it_is_judged_by_and_compiled_or_said_to_be_no_grammar(outcomes: dict[str, Any], name: str) -> None:
    loaded, judged, compiled = outcomes[name]
    assert (loaded, judged) == ("done", "done")
    assert compiled in {"done", "unsupported"}
