"""Health and metrics."""

from fastapi import APIRouter, Request, Response

from llm_server.api.backstage import Backstage
from llm_server.api.schemas.control import Health, Part, Readiness
from llm_server.contract import State


def readiness(backstage: Backstage) -> Readiness:
    """Return the state of every part: starting while any starts, degraded when any has failed.

    A hosted provider is never starting or failed; its message is what went wrong the last time it was asked.
    """
    parts = []
    for name, provider in sorted(backstage.providers.items()):
        state, message = provider.state()
        told = message or backstage.listing.failures.get(name, "")
        parts.append(Part(name=name, state=state.value, message=told))
    states = {part.state for part in parts}
    starting, failed = State.STARTING.value in states, State.FAILED.value in states
    status = "starting" if starting else "degraded" if failed else "ready"
    return Readiness.model_validate({"status": status, "version": backstage.version, "parts": parts})


def router(backstage: Backstage) -> APIRouter:
    """Return ``/health``, ``/health/live``, ``/health/ready`` and, with metrics, ``/metrics``."""
    version, metrics = backstage.version, backstage.metrics
    routes = APIRouter(tags=["operations"])

    @routes.get("/health")
    async def health() -> Health:
        """Say that the process answers, and its version."""
        return Health(version=version)

    @routes.get("/health/live")
    async def live() -> Health:
        """Say that the process is alive: restart it when this fails."""
        return Health(version=version)

    @routes.get("/health/ready", responses={503: {"model": Readiness, "description": "Still starting."}})
    async def ready(response: Response) -> Readiness:
        """Say whether to send traffic, and the state of every provider and engine."""
        found = readiness(backstage)
        response.status_code = 503 if found.status == "starting" else 200
        return found

    if metrics is None:
        return routes

    @routes.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
    async def scrape(request: Request) -> Response:
        """Return the metrics in Prometheus' text format."""
        body, content_type = metrics(request.headers.get("accept", ""))
        return Response(body, headers={"content-type": content_type})

    return routes
