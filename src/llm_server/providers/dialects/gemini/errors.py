"""Google's errors into ours: ``{"error": {code, message, status, details}}``, alone or in a list.

Sources: https://ai.google.dev/gemini-api/docs/troubleshooting (statuses); https://google.aip.dev/193
(``ErrorInfo``); https://github.com/googleapis/googleapis/blob/master/google/rpc/error_details.proto
(``RetryInfo``).
"""

from collections.abc import Mapping
from typing import Any

from msgspec import DecodeError, json

from llm_server.contract import ErrorKind, ServerError
from llm_server.providers.dialects.failures import Said, explain, kind_of, retry_after_s

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
    except (DecodeError, UnicodeDecodeError, RecursionError):
        error = None
    return _explained(status, error or {}, headers)


def in_band(payload: Any) -> ServerError | None:
    """Return the error that a decoded event or body carries instead of an answer, or ``None``."""
    error = error_of(payload)
    if error is None:
        return None
    code = error.get("code")
    return _explained(code if isinstance(code, int) else 500, error, {})


def error_of(payload: Any) -> dict[str, Any] | None:
    """Return the error object in a decoded body: the body's own, or that of a list's first element."""
    if isinstance(payload, list):
        payload = payload[0] if payload else None
    error = payload.get("error") if isinstance(payload, dict) else None
    return error if isinstance(error, dict) else None


def _explained(status: int, error: dict[str, Any], headers: Mapping[str, str]) -> ServerError:
    details = error.get("details")
    entries = [entry for entry in details if isinstance(entry, dict)] if isinstance(details, list) else []
    reasons = [entry.get("reason") for entry in entries if entry.get("@type") == _ERROR_INFO]
    codes = [code for code in (*reasons, error.get("status")) if isinstance(code, str)]
    kind = next((CODE_KINDS[code] for code in codes if code in CODE_KINDS), kind_of(status))
    message = error.get("message")
    said = Said(message=message if isinstance(message, str) else "", code=codes[0] if codes else "")
    delay = _retry_delay(entries)
    return explain(kind, status, said, retry_after_s(headers) if delay is None else delay)


def _retry_delay(entries: list[dict[str, Any]]) -> float | None:
    """Return the seconds of a ``RetryInfo``, whose ``retryDelay`` is a protobuf Duration (``"34.07s"``)."""
    for entry in entries:
        delay = entry.get("retryDelay")
        if entry.get("@type") == _RETRY_INFO and isinstance(delay, str):
            return retry_after_s({"retry-after": delay.removesuffix("s")})
    return None
