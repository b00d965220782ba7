"""The real model, installed once per machine, and engines that run it."""

import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import pytest_asyncio

from llm_server.contract import State
from llm_server.engine import EngineConfig, ModelConfig
from llm_server.engine.provider import EngineProvider
from tests.engine.calling import MODEL, installed

# Outlines has no release for Python 3.14 or later; neither has the extra that brings it.
collect_ignore_glob = ["test_outlines*.py", "test_transformers*.py"] if sys.version_info >= (3, 14) else []


@pytest.fixture(scope="session")
def model_file() -> Path:
    """The installed model file."""
    return installed()


Configure = Callable[..., EngineConfig]


@pytest.fixture(scope="session")
def configure(model_file: Path) -> Configure:
    """Make a small configuration of the real model."""

    def configure(**changes: object) -> EngineConfig:
        small = {
            "models": (ModelConfig(name=MODEL, context=256, path=model_file),),
            "threads": 1,
            "slots": 3,
            "queue": 2,
            "drain_timeout_s": 0.0,
        }
        return EngineConfig.model_validate(small | changes)

    return configure


@pytest_asyncio.fixture(loop_scope="package", scope="package", params=["xllamacpp", "openvino"])
async def provider(request: pytest.FixtureRequest, configure: Configure) -> AsyncIterator[EngineProvider]:
    """A running engine, of each runtime."""
    engine = EngineProvider(configure(runtime=request.param))
    await engine.start()
    assert engine.state() == (State.READY, "")
    yield engine
    await engine.close()
