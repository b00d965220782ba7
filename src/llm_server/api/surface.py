"""Which hot routes there are, as data."""

from collections.abc import Iterator
from typing import NamedTuple

from starlette.routing import Route

from llm_server.api.endpoint import Door, Endpoint
from llm_server.wire import (
    ANTHROPIC_COUNT,
    ANTHROPIC_MESSAGES,
    OPENAI_CHAT,
    OPENAI_COMPLETIONS,
    OPENAI_EMBEDDINGS,
)
from llm_server.wire.codec import Codec


class Hot(NamedTuple):
    """A hot route: its path below ``/v1``, and who decodes it."""

    path: str
    codec: Codec


HOT = (
    Hot("/chat/completions", OPENAI_CHAT),
    Hot("/completions", OPENAI_COMPLETIONS),
    Hot("/embeddings", OPENAI_EMBEDDINGS),
    Hot("/messages", ANTHROPIC_MESSAGES),
    Hot("/messages/count_tokens", ANTHROPIC_COUNT),
)

BATCHED = {f"/v1{path}": codec for path, codec in HOT if path != "/messages/count_tokens"}
"""The endpoints whose requests may stand in a batch, and who reads and writes their bodies."""


def endpoints(door: Door) -> dict[str, Endpoint]:
    """Return every hot path and its endpoint: with and without ``/v1``, and under the dialect's own mount."""
    found: dict[str, Endpoint] = {}
    for hot in HOT:
        endpoint = Endpoint(f"/v1{hot.path}", hot.codec, door)
        for prefix in ("/v1", "", f"/{hot.codec.dialect}/v1", f"/{hot.codec.dialect}"):
            found[prefix + hot.path] = endpoint
    return found


def routes(hot: dict[str, Endpoint]) -> Iterator[Route]:
    """Yield the hot paths as ordinary routes too: for 405 answers, and for servers without the look-up."""
    for path, endpoint in hot.items():
        yield Route(path, endpoint, methods=["POST"], include_in_schema=False)
