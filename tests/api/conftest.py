"""An application over a fake provider, served on loopback."""

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack

import aiohttp
import pytest

from llm_server.api.application import application
from llm_server.api.backstage import Backstage
from llm_server.api.config import ApiConfig
from llm_server.api.endpoint import Door
from llm_server.api.server import Server
from llm_server.api.structured import Structure
from llm_server.catalog import Listing
from llm_server.contract import Observer, Target
from llm_server.pipeline import Counted, Observed, Registered, Routed
from llm_server.pipeline.attempts import Timing
from llm_server.routing import FixedOrder, RoutingConfig
from llm_server.structured import inference
from llm_server.structured.abilities import abilities
from llm_server.structured.registry import Registry
from llm_server.structured.stage import Structured
from llm_server.structured.transforms import Conversions
from llm_server.testing import FakeObserver, FakeProvider, FakeSchemas
from tests.serving import over_both_transports, serving, transport

__all__ = ["transport"]

Serve = Callable[..., Awaitable[aiohttp.ClientSession]]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Whatever is served is served by both transports."""
    if "transport" in metafunc.fixturenames:
        over_both_transports(metafunc)


@pytest.fixture
def provider() -> FakeProvider:
    return FakeProvider()


@pytest.fixture
def observer() -> FakeObserver:
    return FakeObserver()


async def _at_once(_: float) -> None:
    """Wait for nothing: how long it is before another attempt is the pipeline's to test."""


AT_ONCE = Timing(sleep=_at_once)


def build(provider: FakeProvider, observer: Observer, config: ApiConfig | None = None) -> Server:
    """Return an application whose one provider is ``provider``, called ``fake``; ``both`` is an alias."""
    aliases = {"both": (Target("fake", "echo"),)}
    routing = FixedOrder(RoutingConfig.model_validate({"aliases": {"both": "fake/echo"}}), {"fake"}, {})
    stage = Structured(provider)
    providers = {"fake": stage}
    schemas = Registry(FakeSchemas().opened)
    handler = Observed(Counted(Registered(Routed(routing, providers, AT_ONCE), schemas)), observer)
    door = Door(handler, observer, config or ApiConfig())
    listing = Listing(providers, aliases)
    structure = Structure(Conversions(), inference, lambda _: abilities(stage, "echo"), listing)
    metrics = (b"x 1\n", "text/plain")
    return application(door, Backstage(providers, listing, lambda _: metrics, "9.9", schemas, structure))


@pytest.fixture
async def serve(
    provider: FakeProvider, observer: FakeObserver, transport: str
) -> AsyncGenerator[Serve, None]:
    """Return a function that serves the application and returns a client for it."""
    async with AsyncExitStack() as stack:

        async def start(idle_s: float = 5, **limits: float | str) -> aiohttp.ClientSession:
            app = build(provider, observer, ApiConfig.model_validate(limits))
            url = await stack.enter_async_context(serving(app, idle_s=idle_s))
            return await stack.enter_async_context(aiohttp.ClientSession(url))

        yield start


@pytest.fixture
async def client(serve: Serve) -> aiohttp.ClientSession:
    return await serve()
