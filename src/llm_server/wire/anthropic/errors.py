"""Errors in Anthropic's form.

Types as documented (https://platform.claude.com/docs/en/api/errors); its clients choose their exception by
HTTP status.
"""

import msgspec
from msgspec import UNSET, Struct, UnsetType

from llm_server.contract import ErrorKind, Problem, ServerError

WORDS: dict[ErrorKind, str] = {
    ErrorKind.INVALID_REQUEST: "invalid_request_error",
    ErrorKind.UNSUPPORTED: "invalid_request_error",
    ErrorKind.CONTEXT_OVERFLOW: "invalid_request_error",
    ErrorKind.CONTENT_REJECTED: "invalid_request_error",
    ErrorKind.UNAUTHENTICATED: "authentication_error",
    ErrorKind.FORBIDDEN: "permission_error",
    ErrorKind.NOT_FOUND: "not_found_error",
    ErrorKind.MODEL_NOT_FOUND: "not_found_error",
    ErrorKind.METHOD_NOT_ALLOWED: "invalid_request_error",
    ErrorKind.CONFLICT: "invalid_request_error",
    ErrorKind.TOO_LARGE: "request_too_large",
    ErrorKind.CLIENT_CLOSED: "api_error",
    ErrorKind.RATE_LIMITED: "rate_limit_error",
    ErrorKind.BUDGET_EXCEEDED: "billing_error",
    ErrorKind.OVERLOADED: "rate_limit_error",
    ErrorKind.UNAVAILABLE: "overloaded_error",
    ErrorKind.DEADLINE: "timeout_error",
    ErrorKind.INTERNAL: "api_error",
    ErrorKind.OUTPUT_INVALID: "invalid_request_error",
    ErrorKind.UPSTREAM_AUTH: "api_error",
    ErrorKind.UPSTREAM_QUOTA: "overloaded_error",
    ErrorKind.UPSTREAM_RATE_LIMITED: "rate_limit_error",
    ErrorKind.UPSTREAM_OVERLOADED: "overloaded_error",
    ErrorKind.UPSTREAM_ERROR: "api_error",
    ErrorKind.UPSTREAM_UNREACHABLE: "api_error",
    ErrorKind.UPSTREAM_TIMEOUT: "timeout_error",
    ErrorKind.UPSTREAM_TRUNCATED: "api_error",
    ErrorKind.UPSTREAM_INVALID: "api_error",
}
"""``error.type`` of each kind."""


class ErrorDetail(Struct, frozen=True):
    """What went wrong. ``problems`` and ``raw_text`` only where there are."""

    type: str
    message: str
    problems: tuple[Problem, ...] | UnsetType = UNSET
    raw_text: str | UnsetType = UNSET


class ErrorBody(Struct, frozen=True, kw_only=True, omit_defaults=True, tag="error"):
    """The body of an error answer, and without ``request_id`` the data of an error in a stream."""

    error: ErrorDetail
    request_id: str = ""


def encode_error(error: ServerError, request_id: str = "") -> bytes:
    """Return the body that says ``error``."""
    raw_text = UNSET if error.raw_text is None else error.raw_text
    detail = ErrorDetail(WORDS[error.kind], error.message, error.problems or UNSET, raw_text)
    return msgspec.json.encode(ErrorBody(error=detail, request_id=request_id))
