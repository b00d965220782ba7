"""What docs/structured-output.md shows is what happens."""

import json
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import aiohttp
import pytest

from llm_server.settings import load
from llm_server.structured.expressions import FUNCTIONS
from llm_server.structured.transformers import BUILT_IN
from llm_server.testing import FakeProvider
from tests.api.test_structured import saying

PAGE = (Path(__file__).parents[2] / "docs" / "structured-output.md").read_text()
BLOCKS = re.findall(r"^```(http|json)\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
ROUTE = re.compile(r"`(GET|POST|PUT|DELETE) (/[^` ]*)`")


def missing(shown: Any, told: Any) -> Any:
    """Return what of ``shown`` is not in ``told``: an object may have more properties than are shown."""
    if isinstance(shown, dict) and isinstance(told, dict):
        wrong = {name: missing(each, told.get(name)) for name, each in shown.items()}
        return {name: each for name, each in wrong.items() if each} or None
    return None if shown == told else (shown, told)


async def test_every_request_is_answered_as_shown(
    client: aiohttp.ClientSession, provider: FakeProvider
) -> None:
    provider.script = saying('{"name": "Ada ", "age": 36}')
    told: Any = None
    for kind, text in BLOCKS:
        if kind == "json":
            assert missing(json.loads(text), told) is None
            continue
        line, _, body = text.partition("\n")
        method, path = line.split()
        sent = json.loads(body) if body else None
        if sent and "model" in sent:
            sent["model"] = "fake/echo"
        async with client.request(method, path, json=sent) as response:
            answer = await response.text()
        assert response.ok, answer
        told = json.loads(answer) if response.content_type == "application/json" else answer
    assert len(BLOCKS) > 8


async def test_every_route_is_there(client: aiohttp.ClientSession) -> None:
    async with client.get("/openapi.json") as response:
        paths = (await response.json())["paths"]
    named = [(method, path) for method, path in ROUTE.findall(PAGE) if path.startswith("/v1")]
    assert len(named) > 4
    assert [(method, path) for method, path in named if method.lower() not in paths.get(path, {})] == []


def test_the_configuration_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("rules", "cleaning"):
        module = ModuleType(f"my_package.{name}")
        module.__dict__.update(balanced=lambda value: None, redact=lambda value: value)
        monkeypatch.setitem(sys.modules, f"my_package.{name}", module)
    rules_of, engine_of = re.findall(r"^```yaml\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    file = tmp_path / "llm-server.yaml"
    file.write_text(engine_of)
    assert load(config=file, env={}).settings.engine.runtime == "transformers"
    file.write_text(rules_of)
    rules = load(config=file, env={}).settings.structured.rules
    assert rules[1].forbidden == ("lorem ipsum", r"\bTODO\b")
    assert len(rules) == 5


def test_nothing_is_left_out() -> None:
    assert [name for name in (*BUILT_IN, *FUNCTIONS) if f"`{name}`" not in PAGE] == []
