"""Open files: as many as the process may have, and a word about it."""

import asyncio
import sys

import pytest

SCRIPT = """
import logging, resource, sys
logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s", stream=sys.stdout)
resource.setrlimit(resource.RLIMIT_NOFILE, ({soft}, {hard}))
from llm_server.cli.limits import raise_open_files
raise_open_files()
print(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
"""


@pytest.mark.parametrize(
    ("soft", "hard", "told"),
    [
        (256, 8192, ["INFO The limit on open files is raised from 256 to 8192."]),
        (8192, 8192, []),
        (
            256,
            1024,
            [
                "INFO The limit on open files is raised from 256 to 1024.",
                "WARNING Only 1024 files may be open at once, two for each stream; see `ulimit -Hn`.",
            ],
        ),
    ],
)
async def test_the_limit_is_raised_and_told(soft: int, hard: int, told: list[str]) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", SCRIPT.format(soft=soft, hard=hard), stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate()
    assert out.decode().splitlines() == [*told, str(hard)]


MEMORY = """
from pathlib import Path
from llm_server.cli.limits import give_memory_back
if {asked}:
    give_memory_back()
def resident():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) // 1024
seen = b"x" * 31_000_000
del seen
before = resident()
large, small = [], []
for _ in range(8):
    large.append(b"x" * 20_000_000)
    small.append(b"x" * 100_000)
del large
print(resident() - before)
"""


@pytest.mark.parametrize("asked", [True, False])
async def test_what_large_bodies_took_goes_back_to_the_system(asked: bool) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", MEMORY.format(asked=asked), stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate()
    assert (int(out) < 20) == asked
