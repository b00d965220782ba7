"""Put the routes together into one ASGI application."""

from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any

from msgspec import Struct

from llm_server.api import models, operations
from llm_server.api.endpoint import Door
from llm_server.api.pages import add_docs
from llm_server.api.server import Server
from llm_server.api.surface import endpoints, routes
from llm_server.contract import Provider

Lifespan = Callable[[Any], AbstractAsyncContextManager[None]]


class Backstage(Struct, frozen=True):
    """What the control-plane routes look at."""

    providers: Mapping[str, Provider]
    listing: models.Listing
    metrics: operations.Metrics | None
    version: str


def application(door: Door, backstage: Backstage, lifespan: Lifespan | None = None) -> Server:
    """Return the application: hot routes that lead into ``door``, control routes that look ``backstage``.

    ``lifespan`` starts and stops what stands behind both.
    """
    hot = endpoints(door)
    server = Server(
        hot,
        describe=_describe,
        title="LLM Server",
        version=backstage.version,
        description="Every model behind the APIs that applications already speak.",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
    )
    add_docs(server)
    server.router.routes.extend(routes(hot))
    server.include_router(models.router(backstage.listing))
    server.include_router(operations.router(backstage.providers, backstage.metrics, backstage.version))
    return server


def _describe(server: Server) -> None:
    # Not at the top: see the module's docstring.
    from llm_server.api.documents import document

    document(server)
