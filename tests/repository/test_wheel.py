"""The wheel holds the typed package, its licence and its command, and nothing of the repository around it."""

import subprocess
import sys
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

from tests.repository.tree import ROOT, files


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """The wheel that a clean checkout builds, with the locked backend and no index."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    for path in files():
        target = source / path.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    build = "import sys, hatchling.build as b; print(b.build_wheel(sys.argv[1]))"
    run = subprocess.run(
        [sys.executable, "-c", build, str(folder)], cwd=source, check=True, capture_output=True, text=True
    )
    return zipfile.ZipFile(folder / run.stdout.strip().splitlines()[-1])


def test_it_holds_every_file_of_the_package_and_nothing_else(wheel: zipfile.ZipFile) -> None:
    source = ROOT / "src"
    own = {p.relative_to(source).as_posix() for p in files() if p.is_relative_to(source)}
    packed = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert packed == own
    assert "llm_server/py.typed" in packed


def test_it_carries_licence_and_command(wheel: zipfile.ZipFile) -> None:
    info = {Path(name).name: wheel.read(name).decode() for name in wheel.namelist() if ".dist-info/" in name}
    assert "Apache License" in info["LICENSE"]
    assert "llm-server = llm_server.cli:main" in info["entry_points.txt"]
    metadata = Parser().parsestr(info["METADATA"])
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata["Requires-Python"] == ">=3.11"
    assert {"local", "openvino"} <= set(metadata.get_all("Provides-Extra", []))
