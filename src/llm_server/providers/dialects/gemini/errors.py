"""Google's errors into ours: ``{"error": {code, message, status, details}}``, alone or in a list.

Sources: https://ai.google.dev/gemini-api/docs/troubleshooting (statuses);
https://google.aip.dev/193 (``ErrorInfo``);
https://github.com/googleapis/googleapis/blob/master/google/rpc/error_details.proto (``RetryInfo``).
"""

from collections.abc import Mapping
from typing import Any

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
    503: ErrorKind.UPSTREAM_OVERLOADED,
    504: ErrorKind.UPSTREAM_TIMEOUT,
}
"""HTTP status to kind; other 4xx are the request's fault, the rest the upstream's."""

CODE_KINDS: dict[str, ErrorKind] = {
    # These come with 400 although the request is fine: our key is bad, or our account lacks billing.
    "API_KEY_INVALID": ErrorKind.UPSTREAM_AUTH,
    "API_KEY_EXPIRED": ErrorKind.UPSTREAM_AUTH,
    "FAILED_PRECONDITION": ErrorKind.UPSTREAM_AUTH,
}
"""``error.status`` or an ``ErrorInfo.reason`` that tells more than the HTTP status."""

_RETRY_INFO = "type.googleapis.com/google.rpc.RetryInfo"
_ERROR_INFO = "type.googleapis.com/google.rpc.ErrorInfo"


def decode_error(status: int, headers: Mapping[str, str], body: bytes) -> ServerError:
    """Return what an error answer means; never raises, whatever the body."""
    try:
        error = error_of(json.decode(body))
    except (DecodeError, UnicodeDecodeError):
        error = None
    return _explain(status, error or {}, _seconds(headers.get("retry-after", "")))


def in_band(payload: Any) -> ServerError | None:
    """Return the error that an event of a stream carries instead of an answer, or ``None``."""
    error = error_of(payload)
    if error is None:
        return None
    code = error.get("code")
    return _explain(code if isinstance(code, int) else 500, error, None)


def error_of(payload: Any) -> dict[str, Any] | None:
    """Return the error object in a decoded body: the body's own, or that of a list's first element."""
    if isinstance(payload, list):
        payload = payload[0] if payload else None
    error = payload.get("error") if isinstance(payload, dict) else None
    return error if isinstance(error, dict) else None


def _explain(status: int, error: dict[str, Any], retry_after_s: float | None) -> ServerError:
    details = error.get("details")
    entries = [entry for entry in details if isinstance(entry, dict)] if isinstance(details, list) else []
    kind = _kind(status, error, entries)
    said = error.get("message")
    said = said if isinstance(said, str) else ""
    # What is wrong with the request is for its caller, anything else is for the operator.
    ours = kind.block is not Block.CALLER
    message = f"The provider answered with status {status}." if ours or not said else said
    after = _retry_delay(entries)
    return ServerError(
        kind, message, retry_after_s=retry_after_s if after is None else after, detail=said if ours else ""
    ).at("", status)


def _kind(status: int, error: dict[str, Any], entries: list[dict[str, Any]]) -> ErrorKind:
    reasons = [entry.get("reason") for entry in entries if entry.get("@type") == _ERROR_INFO]
    for code in (*reasons, error.get("status")):
        if isinstance(code, str) and code in CODE_KINDS:
            return CODE_KINDS[code]
    fallback = ErrorKind.INVALID_REQUEST if 400 <= status < 500 else ErrorKind.UPSTREAM_ERROR
    return STATUS_KINDS.get(status, fallback)


def _retry_delay(entries: list[dict[str, Any]]) -> float | None:
    """Return the seconds of a ``RetryInfo``, whose ``retryDelay`` is a protobuf Duration (``"34.07s"``)."""
    for entry in entries:
        delay = entry.get("retryDelay")
        if entry.get("@type") == _RETRY_INFO and isinstance(delay, str):
            return _seconds(delay.removesuffix("s"))
    return None


def _seconds(text: str) -> float | None:
    try:
        seconds = float(text)
    except ValueError:
        return None
    return seconds if 0 <= seconds < float("inf") else None
