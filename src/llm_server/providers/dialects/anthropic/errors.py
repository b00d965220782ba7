"""Anthropic's errors: ``{"type": "error", "error": {"type", "message", "details"}}``.

Source: https://platform.claude.com/docs/en/api/errors; the types are those of the ``anthropic`` SDK 2.12.
"""

from collections.abc import Mapping
from typing import Any

from msgspec import DecodeError, json

from llm_server.contract import ErrorKind, ServerError
from llm_server.providers.dialects.failures import Said, explain, kind_of, retry_after_s

TYPE_STATUS: dict[str, int] = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "timeout_error": 504,
    "gateway_timeout_error": 504,
    "overloaded_error": 529,
}
"""The status that each type has as an answer: what an error inside a stream means. Any other is a failure."""

CODE_KINDS: dict[str, ErrorKind] = {
    "enforced_spend_limit_reached": ErrorKind.UPSTREAM_QUOTA,
}
"""Documented ``details.error_code`` values that say more than the status."""


def decode_error(status: int, headers: Mapping[str, str], body: bytes) -> ServerError:
    """Return what an error answer means; never raises, whatever the body."""
    try:
        payload = json.decode(body)
    except (DecodeError, UnicodeDecodeError, RecursionError):
        payload = None
    return _explained(status, _error_of(payload), retry_after_s(headers))


def in_band(payload: Any) -> ServerError:
    """Return what an ``error`` event inside a stream means."""
    error = _error_of(payload)
    return _explained(TYPE_STATUS.get(str(error.get("type")), 500), error, None)


def _error_of(payload: Any) -> dict[str, Any]:
    error = payload.get("error") if isinstance(payload, dict) else None
    return error if isinstance(error, dict) else {}


def _explained(status: int, error: dict[str, Any], after_s: float | None) -> ServerError:
    details = error.get("details")
    code = details.get("error_code") if isinstance(details, dict) else None
    code = code if isinstance(code, str) else ""
    message, kind = error.get("message"), error.get("type")
    said = Said(
        message=message if isinstance(message, str) else "",
        code=code or (kind if isinstance(kind, str) else ""),
    )
    return explain(CODE_KINDS.get(code, kind_of(status)), status, said, after_s)
