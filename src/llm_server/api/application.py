"""Put the routes together into one ASGI application."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

from llm_server.api import batches, files, models, operations, pools, registry, structured
from llm_server.api.backstage import Backstage
from llm_server.api.endpoint import Door
from llm_server.api.pages import add_docs
from llm_server.api.server import Server
from llm_server.api.surface import endpoints, routes

Lifespan = Callable[[Any], AbstractAsyncContextManager[None]]


def application(door: Door, backstage: Backstage, lifespan: Lifespan | None = None) -> Server:
    """Return the application: hot routes that lead into ``door``, control routes that look ``backstage``.

    ``lifespan`` starts and stops what stands behind both.
    """
    hot = endpoints(door)
    server = Server(
        hot,
        door.config,
        describe=_describe,
        title="LLM Server",
        version=backstage.version,
        description="Every model behind the APIs that applications already speak.",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        # A redirect would be built from the caller's Host header.
        redirect_slashes=False,
    )
    add_docs(server)
    server.router.routes.extend(routes(hot))
    server.include_router(models.router(backstage.listing))
    server.include_router(registry.router(backstage.schemas))
    server.include_router(structured.router(door, backstage.structure))
    server.include_router(pools.router(backstage.pools))
    if backstage.offline is not None:
        server.include_router(files.router(backstage.offline.files))
        server.include_router(batches.router(backstage.offline.batches))
    server.include_router(operations.router(backstage))
    return server


def _describe(server: Server) -> None:
    # Not at the top: see the module's docstring.
    from llm_server.api.documents import document

    document(server)
