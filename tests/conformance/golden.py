"""Golden requests: what goes to an upstream for a fixed call, or that it was refused and nothing went."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llm_server.contract import Context, ErrorKind, ServerError
from llm_server.pipeline.routed import Routed
from llm_server.routing import FixedOrder, RoutingConfig
from llm_server.testing import outcome
from tests.conformance.calls import Asked
from tests.conformance.enrolled import KEY, Enrolled, provider
from tests.upstreams.cases import load
from tests.upstreams.server import vendor
from tests.upstreams.upstream import Request

GOLDEN = Path(__file__).parent / "golden"

VOLATILE = {"host", "content-length", "user-agent", "accept", "accept-encoding", "connection"}
"""Headers that HTTP or its client writes: no part of what is said to the vendor."""

ELDER = {"anthropic": "claude-sonnet-4-5", "gemini": "gemini-2.5-flash"}
"""A model of an earlier generation, where the dialect speaks to it in another way."""


def model_for(who: Enrolled, asked: Asked) -> str:
    """Return the vendor's own model for a call: the first that it lists, the last for embeddings."""
    listed = [name.removeprefix("models/") for name in load(who.vendor, "models").answer["models"]]
    return str(listed[-1 if asked.embeds else 0])


async def captured(who: Enrolled, asked: Asked, model: str) -> dict[str, Any]:
    """Ask over loopback through the router and the real provider; return what the vendor was sent."""
    ctx = Context(request_id="r-1")
    async with vendor(who.vendor) as up, provider(who, up) as given:
        routed = Routed(FixedOrder(RoutingConfig(), {given.name}, {}), {given.name: given})
        _, error = await outcome(routed(asked.call(f"{given.name}/{model}"), ctx))
        if error is not None and not up.requests:
            return refused(error)
        # The vendor's script may have no answer to such a request; what it was sent is what counts.
        assert error is None or error.kind is ErrorKind.MODEL_NOT_FOUND, error
        return {
            "requests": [written(request) for request in sorted(up.requests, key=_body)],
            "dropped": ctx.dropped,
        }


def refused(error: ServerError) -> dict[str, Any]:
    """Return a refusal as a golden file has it; only the caller's own faults are refusals."""
    assert error.kind in {ErrorKind.UNSUPPORTED, ErrorKind.INVALID_REQUEST}
    return {"refused": {"kind": error.kind, "message": error.message, "param": error.param}}


def written(request: Request) -> dict[str, Any]:
    """Return a request as a golden file has it, with the place of the key marked."""
    return {
        "method": request.method,
        "target": request.target,
        "headers": {
            name: value.replace(KEY, "<key>")
            for name, value in sorted(request.raw_headers)
            if name not in VOLATILE
        },
        "body": json.loads(request.body) if request.body else None,
    }


def _body(request: Request) -> bytes:
    return request.body


def path_of(who: Enrolled, caller: str, name: str) -> Path:
    """Return where a golden request is kept."""
    return GOLDEN / who.id / caller / f"{name}.json"


def text_of(value: Mapping[str, Any]) -> str:
    """Return a golden file's text; the order of keys is part of it."""
    return json.dumps(value, indent=1, ensure_ascii=False) + "\n"
