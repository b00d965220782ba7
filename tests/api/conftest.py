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
from llm_server.catalog import Listing
from llm_server.contract import Target
from llm_server.pipeline import Counted, Observed, Routed
from llm_server.routing import FixedOrder, RoutingConfig
from llm_server.testing import FakeObserver, FakeProvider
from tests.serving import serving

Serve = Callable[..., Awaitable[aiohttp.ClientSession]]


@pytest.fixture
def provider() -> FakeProvider:
    return FakeProvider()


@pytest.fixture
def observer() -> FakeObserver:
    return FakeObserver()


def build(provider: FakeProvider, observer: FakeObserver, config: ApiConfig | None = None) -> Server:
    """Return an application whose one provider is ``provider``, called ``fake``; ``both`` is an alias."""
    aliases = {"both": (Target("fake", "echo"),)}
    routing = FixedOrder(RoutingConfig(aliases={"both": ("fake/echo",)}), {"fake"}, {})
    providers = {"fake": provider}
    handler = Observed(Counted(Routed(routing, providers)), observer)
    door = Door(handler, observer, config or ApiConfig())
    listing = Listing(providers, aliases)
    return application(door, Backstage(providers, listing, lambda _: (b"x 1\n", "text/plain"), "9.9"))


@pytest.fixture
async def serve(provider: FakeProvider, observer: FakeObserver) -> AsyncGenerator[Serve, None]:
    """Return a function that serves the application and returns a client for it."""
    async with AsyncExitStack() as stack:

        async def start(**limits: float) -> aiohttp.ClientSession:
            app = build(provider, observer, ApiConfig.model_validate(limits))
            url = await stack.enter_async_context(serving(app))
            return await stack.enter_async_context(aiohttp.ClientSession(url))

        yield start


@pytest.fixture
async def client(serve: Serve) -> aiohttp.ClientSession:
    return await serve()
