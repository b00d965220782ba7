"""One server for all tests of a module that only ask: in front of every vendor and its whole corpus."""

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial

import anthropic
import openai
import pytest
import pytest_asyncio

from tests.end_to_end.front import Front, asked_case, fronting, provider
from tests.end_to_end.sdks import anthropic_sdk, openai_sdk
from tests.serving import over_both_transports, transport
from tests.upstreams.cases import VENDORS
from tests.upstreams.server import upstream
from tests.upstreams.upstream import Upstream

__all__ = ["transport"]

BOTH = ("anthropic_sdk", "failing", "fidelity", "leaving", "oddities", "openai_sdk", "waiting")
"""Modules that run through the hot lane and through plain ASGI. What the others test is behind both."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Serve by both transports where that makes a difference."""
    if metafunc.module.__name__.rpartition(".test_")[2] in BOTH:
        metafunc.fixturenames.insert(0, "transport")
        over_both_transports(metafunc)


@dataclass(frozen=True)
class World:
    """A server in front of every vendor; a model is called ``vendor/case``."""

    front: Front
    upstreams: Mapping[str, Upstream]
    openai: openai.AsyncOpenAI
    anthropic: anthropic.AsyncAnthropic

    @property
    def url(self) -> str:
        """The server's base URL."""
        return self.front.url


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(transport: str) -> AsyncIterator[World]:
    async with AsyncExitStack() as stack:
        ups = {v: await stack.enter_async_context(upstream(partial(asked_case, v))) for v in VENDORS}
        front = await stack.enter_async_context(fronting({v: provider(up, v) for v, up in ups.items()}))
        first = await stack.enter_async_context(openai_sdk(front.url))
        second = await stack.enter_async_context(anthropic_sdk(front.url))
        yield World(front, ups, first, second)
