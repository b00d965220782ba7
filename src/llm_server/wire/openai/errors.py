"""Errors in OpenAI's form.

Types and codes as OpenAI documents them (https://developers.openai.com/api/docs/guides/error-codes); where it
has no word, the kind's own.
"""

import msgspec
from msgspec import UNSET, Struct, UnsetType

from llm_server.contract import ErrorKind, Problem, ServerError

WORDS: dict[ErrorKind, tuple[str, str | None]] = {
    ErrorKind.INVALID_REQUEST: ("invalid_request_error", None),
    ErrorKind.UNSUPPORTED: ("invalid_request_error", "unsupported_value"),
    ErrorKind.CONTEXT_OVERFLOW: ("invalid_request_error", "context_length_exceeded"),
    ErrorKind.CONTENT_REJECTED: ("invalid_request_error", "content_policy_violation"),
    ErrorKind.UNAUTHENTICATED: ("authentication_error", "invalid_api_key"),
    ErrorKind.FORBIDDEN: ("permission_error", "insufficient_permissions"),
    ErrorKind.NOT_FOUND: ("invalid_request_error", "not_found"),
    ErrorKind.MODEL_NOT_FOUND: ("invalid_request_error", "model_not_found"),
    ErrorKind.METHOD_NOT_ALLOWED: ("invalid_request_error", "method_not_allowed"),
    ErrorKind.CONFLICT: ("invalid_request_error", "conflict"),
    ErrorKind.TOO_LARGE: ("invalid_request_error", "request_too_large"),
    ErrorKind.CLIENT_CLOSED: ("invalid_request_error", "client_closed"),
    ErrorKind.RATE_LIMITED: ("rate_limit_error", "rate_limit_exceeded"),
    ErrorKind.BUDGET_EXCEEDED: ("insufficient_quota", "insufficient_quota"),
    ErrorKind.OVERLOADED: ("rate_limit_error", "overloaded"),
    ErrorKind.UNAVAILABLE: ("server_error", "unavailable"),
    ErrorKind.DEADLINE: ("server_error", "deadline"),
    ErrorKind.INTERNAL: ("server_error", "internal"),
    ErrorKind.OUTPUT_INVALID: ("invalid_output_error", "output_invalid"),
    ErrorKind.UPSTREAM_AUTH: ("server_error", "upstream_auth"),
    ErrorKind.UPSTREAM_QUOTA: ("server_error", "upstream_quota"),
    ErrorKind.UPSTREAM_RATE_LIMITED: ("rate_limit_error", "rate_limit_exceeded"),
    ErrorKind.UPSTREAM_OVERLOADED: ("server_error", "upstream_overloaded"),
    ErrorKind.UPSTREAM_ERROR: ("server_error", "upstream_error"),
    ErrorKind.UPSTREAM_UNREACHABLE: ("server_error", "upstream_unreachable"),
    ErrorKind.UPSTREAM_TIMEOUT: ("server_error", "upstream_timeout"),
    ErrorKind.UPSTREAM_TRUNCATED: ("server_error", "upstream_truncated"),
    ErrorKind.UPSTREAM_INVALID: ("server_error", "upstream_invalid"),
}
"""``type`` and ``code`` of each kind."""


class ErrorDetail(Struct, frozen=True):
    """What went wrong; ``param`` is the field at fault; ``problems`` and ``raw_text`` where there are."""

    message: str
    type: str
    param: str | None
    code: str | None
    problems: tuple[Problem, ...] | UnsetType = UNSET
    raw_text: str | UnsetType = UNSET


class ErrorBody(Struct, frozen=True):
    """The body of an error answer, and the data of an error in a stream."""

    error: ErrorDetail


def encode_error(error: ServerError, request_id: str = "") -> bytes:
    """Return the body that says ``error``; OpenAI names the request in a header only."""
    del request_id
    kind, code = WORDS[error.kind]
    raw_text = UNSET if error.raw_text is None else error.raw_text
    detail = ErrorDetail(error.message, kind, error.param, code, error.problems or UNSET, raw_text)
    return msgspec.json.encode(ErrorBody(detail))
