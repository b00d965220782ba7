"""See that the Debian programs that tests and benchmarks start are there; install the missing ones when root.

One row for each program, with the package that has it and the test that needs it. Without the rights to
install, the exact command to run is printed and the exit status is 1: no test skips for a missing program.
"""

import os
import shutil
import subprocess
import sys

PROGRAMS = {
    "curl": "curl",  # tests/pool: another reader of the same answers
    "git": "git",  # tests/repository: the files of the project are those that git tracks
    "nginx": "nginx",  # benchmarks: the mock upstream and the yardstick; tests/benchmarks
    "wrk": "wrk",  # benchmarks: the load; tests/benchmarks
    "make": "make",  # tests/repository: the commands that the documents name exist
    "shellcheck": "shellcheck",  # tests/repository: .ci/run and the Makefile's shell
}
"""Program to Debian package."""

SBIN = ("/usr/local/sbin", "/usr/sbin", "/sbin")
"""Where Debian keeps servers; these folders are not on every user's path."""


def missing(path: str) -> list[str]:
    """Return the packages, sorted, whose program is neither on ``path`` nor in the system folders."""
    search = os.pathsep.join((path, *SBIN))
    return sorted({package for name, package in PROGRAMS.items() if not shutil.which(name, path=search)})


def main() -> int:
    """Install what is missing, or say how; return the exit status."""
    packages = missing(os.environ.get("PATH", os.defpath))
    if not packages:
        return 0
    if os.geteuid() or not shutil.which("apt-get"):
        print(f"The tests need: sudo apt-get install --yes {' '.join(packages)}", file=sys.stderr)
        return 1
    print(f"Installing for the tests: {' '.join(packages)}")
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in (["update"], ["install", "--yes", "--no-install-recommends", *packages]):
        subprocess.run(
            ["apt-get", "-qq", *command],
            env=quiet,
            check=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
