"""Fetch the official JSON-Schema-Test-Suite for the tests: the files of drafts 7 and 2020-12.

No package holds the suite alone; the source distribution of ``jsonschema`` carries it. It is kept beside the
interpreter that runs the tests, in ``share/json-schema-test-suite``, and fetched once.
"""

import hashlib
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

REQUIREMENT = "jsonschema==4.26.0"
SHA256 = "0c26707e2efad8aa1bfc5b7ce170f3fccc2e4918ff85989ba9ffa9facb2be326"
DRAFTS = ("draft7", "draft2020-12")
FOLDER = Path(sys.prefix) / "share" / "json-schema-test-suite"


def download(folder: Path) -> Path:
    """Fetch the source distribution through pip, which knows the index and certificates set up here."""
    options = ["--disable-pip-version-check", "--quiet", "--quiet", "--no-deps", "--no-binary=jsonschema"]
    command = [sys.executable, "-m", "pip", "download", *options, f"--dest={folder}", REQUIREMENT]
    subprocess.run(command, check=True)
    return next(folder.glob("jsonschema-*.tar.gz"))


def unpack(archive: Path, target: Path) -> None:
    """Write the suite's files of :data:`DRAFTS` under ``target``; nothing else of the archive is read."""
    with tarfile.open(archive) as files:
        for member in files:
            _, _, path = member.name.partition("/json/tests/")
            source = files.extractfile(member) if path.startswith(DRAFTS) else None
            if source is not None:
                place = target / path
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_bytes(source.read())


def main() -> int:
    """Fetch, verify and unpack the suite unless it is there."""
    if FOLDER.is_dir():
        return 0
    print("Fetching the JSON Schema test suite ...")
    with tempfile.TemporaryDirectory() as folder:
        archive = download(Path(folder))
        found = hashlib.sha256(archive.read_bytes()).hexdigest()
        if found != SHA256:
            print(f"{archive.name} has the hash {found}, not {SHA256}", file=sys.stderr)
            return 1
        unfinished = FOLDER.with_name(FOLDER.name + ".new")
        unpack(archive, unfinished)
        unfinished.rename(FOLDER)
    return 0


if __name__ == "__main__":
    sys.exit(main())
