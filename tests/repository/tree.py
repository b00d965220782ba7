"""The files of the project: what git tracks or would track."""

import subprocess
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


@cache
def files(suffix: str = "") -> tuple[Path, ...]:
    """Return every file of the project whose name ends with ``suffix``, without what .gitignore names."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split("\0")
    found = sorted(ROOT / name for name in listed if name.endswith(suffix) and name)
    return tuple(path for path in found if path.is_file())


def python(*folders: str) -> list[Path]:
    """Return the Python files in the named top folders."""
    return [path for path in files(".py") if path.relative_to(ROOT).parts[0] in folders]
