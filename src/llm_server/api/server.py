"""The ASGI application: hot routes before FastAPI's router, everything else through it."""

from collections.abc import Callable, Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from llm_server.api.body import too_large
from llm_server.api.config import ApiConfig
from llm_server.api.endpoint import Endpoint
from llm_server.api.headers import course, retry
from llm_server.api.identity import IDENTITY, request_id
from llm_server.contract import ErrorKind, ServerError
from llm_server.wire import ANTHROPIC_MESSAGES, OPENAI_CHAT
from llm_server.wire.structure import check_structure

_KINDS = {
    401: ErrorKind.UNAUTHENTICATED,
    403: ErrorKind.FORBIDDEN,
    404: ErrorKind.NOT_FOUND,
    405: ErrorKind.METHOD_NOT_ALLOWED,
    413: ErrorKind.TOO_LARGE,
}

_BARE = frozenset({"models", "files", "batches"})
"""First steps of control paths that clients also ask for without ``/v1``."""
_UPLOADS = ("POST", "/v1/files")
"""The one control route that reads its own body, piece by piece and within limits of its own."""

MAX_CONTROL_BYTES = 2 * 1024 * 1024
"""Largest body of a route that is not hot: FastAPI parses it in one go, while nobody else is served."""


class Server(FastAPI):
    """FastAPI with a dictionary in front: a hot path costs one look-up instead of the router's work.

    Args:
        hot: endpoints by path, all ``POST``; by its bytes a path is found in ``lane``.
        config: limits, for the connections too.
        describe: adds the hot routes to the document, called when it is first asked for.
        options: passed to FastAPI.
    """

    def __init__(
        self,
        hot: Mapping[str, Endpoint],
        config: ApiConfig,
        *,
        describe: Callable[["Server"], None],
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self._hot = hot
        self.lane = {path.encode(): endpoint for path, endpoint in hot.items()}
        self.config = config
        self._describe = describe
        self.add_exception_handler(ServerError, _on_server_error)
        self.add_exception_handler(HTTPException, _on_http_error)
        self.add_exception_handler(RequestValidationError, _on_invalid)
        self.add_exception_handler(Exception, _on_bug)

    def openapi(self) -> dict[str, Any]:
        """Return the OpenAPI document, made once."""
        if self.openapi_schema is None:
            self._describe(self)
        return super().openapi()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection event."""
        if scope["type"] == "http" and scope["method"] == "POST":
            endpoint = self._hot.get(scope["path"])
            if endpoint is not None:
                await endpoint(scope, receive, send)
                return
        if scope["type"] == "http":
            identity = request_id()
            scope = {**scope, "path": canonical(scope["path"]), IDENTITY: identity}
            send = _named(send, identity)
            if (scope["method"], scope["path"]) != _UPLOADS:
                receive = _strict(receive)
        await super().__call__(scope, receive, send)


class _BodyError(HTTPException):
    """A body that is refused. FastAPI lets only this kind of error out of its reading of bodies."""

    def __init__(self, error: ServerError) -> None:
        super().__init__(error.kind.status, error.message)
        self.error = error


def _strict(receive: Receive) -> Receive:
    """Return ``receive`` that refuses a body as hot routes do, above :data:`MAX_CONTROL_BYTES` too.

    FastAPI's own reading takes the last of several equal names, and ``NaN``.
    """
    parts: list[bytes] = []
    size = 0

    async def strict() -> Message:
        nonlocal size
        message = await receive()
        part: bytes = message.get("body", b"")
        size += len(part)
        if size > MAX_CONTROL_BYTES:
            raise _BodyError(too_large(MAX_CONTROL_BYTES))
        parts.append(part)
        if size and message["type"] == "http.request" and not message.get("more_body", False):
            _check(b"".join(parts))
            parts.clear()
        return message

    return strict


def _check(body: bytes) -> None:
    try:
        fault = check_structure(body)
    except ServerError as error:
        raise _BodyError(error) from None
    if fault:
        message = f"The body is not valid JSON: {fault}."
        raise _BodyError(ServerError(ErrorKind.INVALID_REQUEST, message))


def canonical(path: str) -> str:
    """Return the path that a control route has: without a dialect's mount, and under ``/v1``."""
    for mount in ("/openai", "/anthropic"):
        if path.startswith(f"{mount}/"):
            path = path[len(mount) :]
    return f"/v1{path}" if path.startswith("/") and path.split("/")[1] in _BARE else path


def _named(send: Send, identity: str) -> Send:
    """Return ``send`` with the request's id put into the answer's headers."""
    names = [(b"x-request-id", identity.encode()), (b"request-id", identity.encode())]

    async def named(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", ()), *names]
        await send(message)

    return named


def _answer(request: Request, error: ServerError) -> Response:
    """Return ``error`` in the dialect that the caller seems to speak: by path, then by header."""
    anthropic = "/messages" in request.scope["path"] or "anthropic-version" in request.headers
    codec = ANTHROPIC_MESSAGES if anthropic else OPENAI_CHAT
    body = codec.error(error, request.scope[IDENTITY])
    response = Response(body, error.kind.status, media_type="application/json")
    response.raw_headers += retry(error)
    if (ctx := getattr(request.state, "context", None)) is not None:  # the route went through the pipeline
        response.raw_headers += course(ctx)
    return response


async def _on_server_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, ServerError)
    return _answer(request, error)


async def _on_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if isinstance(error, _BodyError):
        return _answer(request, error.error)
    kind = _KINDS.get(error.status_code, ErrorKind.INVALID_REQUEST)
    path = request.scope["path"][:128]
    messages = {
        ErrorKind.NOT_FOUND: f"There is no {path} here; /docs lists every route.",
        ErrorKind.METHOD_NOT_ALLOWED: f"{request.method} is not allowed on {path}; /docs lists every route.",
    }
    return _answer(request, ServerError(kind, messages.get(kind, str(error.detail))))


async def _on_invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    where = ".".join(str(step) for step in first["loc"][1:])
    return _answer(request, ServerError(ErrorKind.INVALID_REQUEST, f"{where}: {first['msg']}", param=where))


async def _on_bug(request: Request, _error: Exception) -> Response:
    return _answer(request, ServerError(ErrorKind.INTERNAL, "Internal error; see the server's log."))
