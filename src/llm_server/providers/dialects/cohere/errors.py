"""Cohere's errors into ours: a status, and a body ``{"message": ...}`` with or without an ``id``.

Source: https://docs.cohere.com/reference/errors. There are no machine-readable codes: the status is all
there is.
"""

from collections.abc import Mapping

from msgspec import DecodeError, json

from llm_server.contract import Block, ErrorKind, ServerError

STATUS_KINDS: dict[int, ErrorKind] = {
    400: ErrorKind.INVALID_REQUEST,
    401: ErrorKind.UPSTREAM_AUTH,
    402: ErrorKind.UPSTREAM_QUOTA,
    403: ErrorKind.UPSTREAM_AUTH,
    404: ErrorKind.MODEL_NOT_FOUND,
    408: ErrorKind.UPSTREAM_TIMEOUT,
    413: ErrorKind.TOO_LARGE,
    429: ErrorKind.UPSTREAM_RATE_LIMITED,
    498: ErrorKind.CONTENT_REJECTED,  # "blocked input or output"
    499: ErrorKind.UPSTREAM_ERROR,  # "request cancelled": not by us, or nobody would read this
    503: ErrorKind.UPSTREAM_OVERLOADED,
    504: ErrorKind.UPSTREAM_TIMEOUT,
}
"""HTTP status to kind; other 4xx are the request's fault, the rest the upstream's."""


def decode_error(status: int, headers: Mapping[str, str], body: bytes) -> ServerError:
    """Return what an error answer means; never raises, whatever the body."""
    fallback = ErrorKind.INVALID_REQUEST if 400 <= status < 500 else ErrorKind.UPSTREAM_ERROR
    return failure(
        STATUS_KINDS.get(status, fallback),
        f"The provider answered with status {status}.",
        _message(body),
        _seconds(headers.get("retry-after", "")),
    ).at("", status)


def failure(kind: ErrorKind, summary: str, said: str, retry_after_s: float | None = None) -> ServerError:
    """Return an error of ``kind``.

    What Cohere said is for the caller where the request is at fault, else for the operator, and ``summary``
    is for the caller.
    """
    if kind.block is Block.CALLER and said:
        return ServerError(kind, said, retry_after_s=retry_after_s)
    return ServerError(kind, summary, retry_after_s=retry_after_s, detail=said)


def _message(body: bytes) -> str:
    try:
        payload = json.decode(body)
    except (DecodeError, UnicodeDecodeError):
        return ""
    said = payload.get("message") if isinstance(payload, dict) else None
    return said if isinstance(said, str) else ""


def _seconds(text: str) -> float | None:
    try:
        seconds = float(text)
    except ValueError:
        return None
    return seconds if 0 <= seconds < float("inf") else None
