"""What ``docs/batches.md`` shows works as it stands."""

import asyncio
import re
import subprocess
import sys
from contextlib import AsyncExitStack
from pathlib import Path

from tests.end_to_end.front import fronting, provider
from tests.repository.tree import ROOT
from tests.upstreams.batch_apis import FileVendor
from tests.upstreams.cases import load
from tests.upstreams.server import scripted, upstream

PAGE = (ROOT / "docs" / "batches.md").read_text(encoding="utf-8")
FIRST, SECOND = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
MODEL = "local/smollm2-135m"
ADDRESS = "http://127.0.0.1:8000"


async def run(program: str, url: str, folder: Path) -> str:
    """Run an example as a person would, against the server at ``url``; return what it prints."""
    assert ADDRESS in program
    script = folder / "example.py"
    script.write_text(program.replace(ADDRESS, url).replace(MODEL, "up/m"))
    command = [sys.executable, str(script)]
    done = await asyncio.to_thread(
        subprocess.run, command, check=False, capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0, done.stderr
    return str(done.stdout)


async def test_the_example_prints_an_answer_for_each_question(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        up = await stack.enter_async_context(scripted(load("openai", "text")))
        front = await stack.enter_async_context(fronting({"up": provider(up, "openai")}))
        told = await run(FIRST, front.url, tmp_path)
    answer = load("openai", "text").answer["text"]
    assert told.splitlines() == [f"question-{at} {answer}" for at in range(3)]


async def test_the_providers_own_api_is_used_as_shown(tmp_path: Path) -> None:
    vendor = FileVendor()
    begin = FIRST.partition("batch = client")[0]
    async with AsyncExitStack() as stack:
        up = await stack.enter_async_context(upstream(vendor))
        quick = {"provider_poll_s": 0.01}
        front = await stack.enter_async_context(fronting({"up": provider(up, "openai")}, batches=quick))
        await run(begin + SECOND, front.url, tmp_path)
        await up.until(lambda: vendor.made == 1)
        await front.until_metric(1, "llm_server_batches_total", status="completed")


def test_every_setting_that_the_page_names_exists() -> None:
    from llm_server.batching.offline.config import BatchesConfig

    named = set(re.findall(r"`batches\.(\w+)`", PAGE))
    assert named
    assert named <= BatchesConfig.model_fields.keys()
