"""A thousand distinct schemas leave the memory of the process, native memory included, flat."""

import subprocess
import sys
from pathlib import Path

FLAT_MB = 15
PROGRAM = """
import json
from pathlib import Path

from msgspec import Raw

from llm_server.contract import OutputFormat
from llm_server.structured.grammar import compile_output
from llm_server.structured.schema import load
from llm_server.structured.validation import Validator


def resident_mb():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 // 1_000_000  # proc(5)


def use(number):
    long = number % 50 + 60
    names = {f"p{number}_{at}": {"type": "string", "pattern": f"^[a-z]{{{at},{long}}}$"} for at in range(20)}
    text = json.dumps({"type": "object", "properties": names, "required": list(names)}).encode()
    assert Validator.of(load(text)).problems({})
    assert compile_output(OutputFormat(kind="json_schema", schema=Raw(text))).guarantee == "exact"


sizes = []
for number in range(1_500):
    use(number)
    if number in (499, 1_499):
        sizes.append(resident_mb())
print(*sizes)
"""


def test_a_thousand_more_schemas_take_no_more_memory_and_no_disk(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        cwd=tmp_path,
        env={"HOME": str(tmp_path), "PYTHONPATH": ":".join(sys.path)},
        check=True,
        capture_output=True,
        text=True,
    )
    before, after = map(int, done.stdout.split())
    assert after <= before + FLAT_MB
    assert list(tmp_path.iterdir()) == []
