"""Instructor and LangChain get typed answers, unmodified, from scripted vendors and the embedded model.

Their pins exclude the newest SDKs, so they run in an environment of their own (``locks/clients.txt``).
"""

import asyncio
import json
import sys
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from llm_server.engine import ModelConfig
from tests.end_to_end.front import fronting, provider
from tests.engine.calling import MODEL, installed
from tests.structured.accepting import sent_format
from tests.structured.vendors import MODELS, script
from tests.upstreams.server import upstream
from tests.upstreams.upstream import Answer, Request

PYTHON = Path(sys.prefix) / "clients" / "bin" / "python"
SCRIPTS = Path(__file__).parent / "clients"
ADA = {"name": "Ada", "age": 36, "mood": "glad"}

TYPED = {
    "with_instructor": ("tools", "tools-strict", "json-schema", "partial", "anthropic-tools"),
    "with_langchain": (
        "json-schema",
        "function-calling",
        "streamed",
        "anthropic-function-calling",
        "anthropic-json-schema",
    ),
}
"""The ways in which a client says the schema: the server answers for the form."""
TOLD = {"with_instructor": ("json", "anthropic-json"), "with_langchain": ("json-mode",)}
"""The ways in which the schema stands in the prompt: what comes back is between the client and the model."""


async def run(client: str, url: str, *asked: str) -> dict[str, Any]:
    """Run a client's script in its own environment; returns its answers by ``way:model``."""
    process = await asyncio.create_subprocess_exec(
        PYTHON,
        SCRIPTS / f"{client}.py",
        url,
        *asked,
        env={"LANGSMITH_TRACING": "false", "PYTHONDONTWRITEBYTECODE": "1"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()[-4000:]
    told: dict[str, Any] = json.loads(out)
    return told


def ada(vendor: str, request: Request) -> Answer:
    """Answer with ``ADA`` in the form that was sent."""
    sent = sent_format(request.json())
    wrapped = sent is not None and "value" in sent["properties"]
    return script(vendor, request, json.dumps({"value": ADA} if wrapped else ADA))


@pytest.mark.parametrize("client", TYPED)
async def test_every_way_works_at_every_vendor_and_with_the_embedded_model(client: str) -> None:
    hosted = [f"{way}:{vendor}/{MODELS[vendor]}" for vendor in MODELS for way in TYPED[client] + TOLD[client]]
    embedded = [f"{way}:local/{MODEL}" for way in TYPED[client]]
    model = ModelConfig(name=MODEL, context=1024, path=installed())
    engine = {"enabled": True, "models": [model], "threads": 1, "slots": 1}
    async with AsyncExitStack() as stack:
        ups = {vendor: await stack.enter_async_context(upstream(partial(ada, vendor))) for vendor in MODELS}
        vendors = {vendor: provider(up, vendor) for vendor, up in ups.items()}
        front = await stack.enter_async_context(fronting(vendors, engine=engine))
        while (await front.http.get("/health/ready")).status != 200:
            pass
        told = await run(client, front.url, *hosted, *embedded)
    assert {each: told[each] for each in hosted} == dict.fromkeys(hosted, ADA)
    assert told.keys() == {*hosted, *embedded}
