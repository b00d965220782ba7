"""Health and metrics."""

from collections.abc import Callable, Mapping

from fastapi import APIRouter, Request, Response

from llm_server.api.schemas.control import Health, Part, Readiness
from llm_server.contract import Provider, State

Metrics = Callable[[str], tuple[bytes, str]]
"""Takes the ``Accept`` header, returns the exposition and its content type."""


def readiness(providers: Mapping[str, Provider], version: str) -> Readiness:
    """Return the state of every part: starting while any starts, degraded when any has failed."""
    parts = []
    for name, provider in sorted(providers.items()):
        state, message = provider.state()
        parts.append(Part(name=name, state=state.value, message=message))
    states = {part.state for part in parts}
    starting, failed = State.STARTING.value in states, State.FAILED.value in states
    status = "starting" if starting else "degraded" if failed else "ready"
    return Readiness.model_validate({"status": status, "version": version, "parts": parts})


def router(providers: Mapping[str, Provider], metrics: Metrics | None, version: str) -> APIRouter:
    """Return ``/health``, ``/health/live``, ``/health/ready`` and, with ``metrics``, ``/metrics``."""
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
        found = readiness(providers, version)
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
