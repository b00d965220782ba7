"""Run a scripted upstream on loopback: it answers as scripted, breaks where told, and reports what it saw.

async with scripted(load("openai", "text", "stream")) as up:
    ...  # point a client at up.url
    assert up.requests[0].json()["stream"] is True

async with vendor("openai") as up:  # a whole vendor, routed by path
    ...
"""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.upstreams.cases import Form, Refusal, exists, load
from tests.upstreams.upstream import Answer, Connection, Request, Responder, Upstream


@asynccontextmanager
async def upstream(responder: Responder) -> AsyncIterator[Upstream]:
    """Run an upstream that asks ``responder`` what to answer to each request.

    Raises:
        BaseExceptionGroup: at the end, what went wrong inside scripts, so that no test passes by accident.
    """
    up = Upstream(responder)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(up), "127.0.0.1", 0)
    up.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield up
    finally:
        server.close()
        for connection in tuple(up.connections):
            connection.close()
        await up.wait_closed()
        await up.until(lambda: up.in_flight == 0)
        await server.wait_closed()
    if up.failures:
        raise BaseExceptionGroup("the scripted upstream failed", up.failures)


@asynccontextmanager
async def scripted(*answers: Answer) -> AsyncIterator[Upstream]:
    """Run an upstream that gives these answers in turn, whatever is asked; the last one repeats."""
    left = list(answers)

    def next_answer(_: Request) -> Answer:
        return left.pop(0) if len(left) > 1 else left[0]

    async with upstream(next_answer) as up:
        yield up


ROUTES: tuple[tuple[str, str], ...] = (
    (r"/messages/count_tokens$|:countTokens$", "count_tokens"),
    (r"/messages$", "messages"),
    (r":(stream)?[gG]enerateContent$", "generate"),
    (r":batchEmbedContents$|/embeddings$|/embed$", "embeddings"),
    (r"/chat/completions$|/v2/chat$|/chat$", "chat"),
    (r"/completions$", "completions"),
    (r"/tags$", "tags"),
    (r"/models$", "models"),
)
"""Path endings of all vendors, first match wins, and the operation that each asks for."""

DEFAULT_CASES = {
    "chat": "text",
    "messages": "text",
    "generate": "text",
    "completions": "completion",
    "embeddings": "embeddings",
    "models": "models",
    "count_tokens": "count_tokens",
    "tags": "tags",
}


@asynccontextmanager
async def vendor(name: str, **chosen: str | Answer) -> AsyncIterator[Upstream]:
    """Run an upstream that answers as a whole vendor, by path.

    ``chosen`` names the case of an operation (``chat="tools"``) or gives its answer; others are the plain
    ones.
    The streamed form is served when the request asks for a stream. An unknown path is 404.
    """

    def route(request: Request) -> Answer:
        operation = next((op for pattern, op in ROUTES if re.search(pattern, request.path)), "")
        pick = chosen.get(operation, DEFAULT_CASES.get(operation, ""))
        if not isinstance(pick, str):
            return pick
        if request.path == "/api/chat":
            pick = f"native_{pick}"
        elif operation == "embeddings" and request.json().get("encoding_format") == "base64":
            pick = f"{pick}_base64" if exists(name, f"{pick}_base64", "whole") else pick
        form: Form = "stream" if wants_stream(request) else "whole"
        return load(name, pick, form) if exists(name, pick, form) else _NOT_FOUND

    async with upstream(route) as up:
        yield up


def wants_stream(request: Request) -> bool:
    """Whether a request asks for a stream: by its body, or by its path (Gemini)."""
    if ":stream" in request.path:
        return True
    return bool(request.body) and request.json().get("stream") is True


_NOT_FOUND = Refusal(
    vendor="",
    name="no_such_path",
    status=404,
    headers={"content-type": "application/json"},
    body=b'{"error":{"message":"the scripted vendor has no case for this request"}}',
    trust="recalled",
    source="none: a request that the test did not mean to send",
)
