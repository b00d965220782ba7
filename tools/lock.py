"""Write ``locks/*.txt``: every package that an installation needs, pinned, with the hashes of its files.

``dev`` is resolved first, for everything at once; the smaller sets take their versions from it, so one
package has one version everywhere but in :data:`APART`. The files name no index: they hold wherever the
packages come from. Needs ``uv`` on the path (``make lock`` puts it there). ``--upgrade`` moves to the newest
versions.
"""

import subprocess
import sys
from pathlib import Path

LOCKS = Path("locks")
SETS: dict[str, tuple[str, ...]] = {
    "dev": (
        "pyproject.toml",
        *(f"--extra={extra}" for extra in ("local", "openvino", "language")),
        *(f"--group={group}" for group in ("test", "lint", "build")),
    ),
    "base": ("pyproject.toml",),
    "local": ("pyproject.toml", "--extra=local"),
    "build": ("--group=build",),
    "clients": ("--group=clients",),
    "profile": ("--group=profile",),
}
"""What each file is resolved from: base is a bare ``pip install .``, build makes the wheel."""
APART = ("dev", "clients", "profile")
"""Sets that choose their versions themselves: the largest, and those with environments of their own."""

STYLE = (
    "--universal",
    "--python-version=3.11",
    "--generate-hashes",
    "--no-annotate",
    "--no-header",
    "--quiet",
)
HEADER = "# Written by `make lock` from pyproject.toml; do not edit.\n"


def write(name: str, wanted: tuple[str, ...], upgrade: tuple[str, ...]) -> None:
    """Resolve one set into its file; raises ``CalledProcessError`` when there is no solution."""
    path = LOCKS / f"{name}.txt"
    agreed = () if name in APART else (f"--constraints={LOCKS / 'dev.txt'}",)
    command = ("uv", "pip", "compile", *wanted, *STYLE, *agreed, *upgrade)
    subprocess.run([*command, f"--output-file={path}"], check=True)
    path.write_text(HEADER + path.read_text(encoding="utf-8").removeprefix(HEADER), encoding="utf-8")


def main() -> None:
    """Write every set."""
    LOCKS.mkdir(exist_ok=True)
    for name, wanted in SETS.items():
        write(name, wanted, tuple(sys.argv[1:]))


if __name__ == "__main__":
    main()
