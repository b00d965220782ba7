"""Configurations as files of a temporary directory."""

from collections.abc import Callable, Mapping
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from llm_server.settings import Loaded, SettingsError, load

Load = Callable[..., Loaded]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stand in an empty directory: no file of the developer's is found."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def loaded(here: Path) -> Load:
    """Load a text as ``llm-server.yaml``, with only the given environment and flags."""

    def load_text(text: str = "", env: Mapping[str, str] | None = None, **flags: tuple[str, Any]) -> Loaded:
        (here / "llm-server.yaml").write_text(dedent(text), encoding="utf-8")
        return load({name.replace("__", "."): flag for name, flag in flags.items()}, env=env or {})

    return load_text


@pytest.fixture
def complaints(loaded: Load) -> Callable[..., list[str]]:
    """Load a text that has problems; return their lines."""

    def complain(text: str = "", env: Mapping[str, str] | None = None, **flags: tuple[str, Any]) -> list[str]:
        with pytest.raises(SettingsError) as caught:
            loaded(text, env, **flags)
        assert [str(problem) for problem in caught.value.problems] == str(caught.value).splitlines()
        return str(caught.value).splitlines()

    return complain
