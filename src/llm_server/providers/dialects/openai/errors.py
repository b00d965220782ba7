"""Errors of OpenAI and of the many that copied its API, each with a body of its own.

Sources: https://platform.openai.com/docs/guides/error-codes/api-errors;
https://learn.microsoft.com/azure/ai-foundry/openai/concepts/content-filter (``innererror``);
https://console.groq.com/docs/errors; https://openrouter.ai/docs/api-reference/errors (numbers as codes,
moderation); https://docs.vllm.ai (``{"object": "error"}``); FastAPI's ``{"detail": ...}``.
"""

from collections.abc import Mapping
from typing import Any

from msgspec import DecodeError, json

from llm_server.contract import ErrorKind, ServerError
from llm_server.providers.dialects.failures import Said, explain, kind_of, retry_after_s

CODE_KINDS: dict[str, ErrorKind] = {
    "billing_hard_limit_reached": ErrorKind.UPSTREAM_QUOTA,
    "billing_not_active": ErrorKind.UPSTREAM_QUOTA,
    "content_filter": ErrorKind.CONTENT_REJECTED,
    "content_policy_violation": ErrorKind.CONTENT_REJECTED,
    "context_length_exceeded": ErrorKind.CONTEXT_OVERFLOW,
    "DeploymentNotFound": ErrorKind.MODEL_NOT_FOUND,
    "insufficient_quota": ErrorKind.UPSTREAM_QUOTA,
    "invalid_api_key": ErrorKind.UPSTREAM_AUTH,
    "invalid_model": ErrorKind.MODEL_NOT_FOUND,
    "invalid_prompt": ErrorKind.CONTENT_REJECTED,
    "model_decommissioned": ErrorKind.MODEL_NOT_FOUND,
    "model_not_available": ErrorKind.MODEL_NOT_FOUND,
    "model_not_found": ErrorKind.MODEL_NOT_FOUND,
    "rate_limit_exceeded": ErrorKind.UPSTREAM_RATE_LIMITED,
    "ResponsibleAIPolicyViolation": ErrorKind.CONTENT_REJECTED,
    "server_is_overloaded": ErrorKind.UPSTREAM_OVERLOADED,
    "slow_down": ErrorKind.UPSTREAM_OVERLOADED,
    "unsupported_country_region_territory": ErrorKind.UPSTREAM_AUTH,
    # Mistral's numbers; this one: too many tokens for the model.
    "3051": ErrorKind.CONTEXT_OVERFLOW,
    # Fireworks answers 412 for an account that is suspended over money.
    "PRECONDITION_FAILED": ErrorKind.UPSTREAM_QUOTA,
    # Groq answers 400 when its model wrote a broken tool call or broken JSON: not the caller's fault.
    "json_validate_failed": ErrorKind.UPSTREAM_INVALID,
    "tool_use_failed": ErrorKind.UPSTREAM_INVALID,
}
"""Documented codes that say more than the HTTP status."""

TYPE_STATUS: dict[str, int] = {
    "authentication_error": 401,
    "insufficient_quota": 429,
    "invalid_request_error": 400,
    "BadRequestError": 400,
    "not_found_error": 404,
    "overloaded_error": 529,
    "permission_error": 403,
    "rate_limit_error": 429,
    "requests": 429,
    "service_unavailable": 503,
    "service_unavailable_error": 503,
    "tokens": 429,
}
"""The status that an error inside a stream would have had as an answer; any other type is a failure."""


def decode_error(status: int, headers: Mapping[str, str], body: bytes) -> ServerError:
    """Return what an error answer means; never raises, whatever the body."""
    try:
        error = error_of(json.decode(body))
    except (DecodeError, UnicodeDecodeError, RecursionError):
        error = {}
    return _explained(status, error, retry_after_s(headers))


def in_band(error: Any) -> ServerError:
    """Return what an error object inside a stream, or inside an answer with status 200, means."""
    found = error_of({"error": error})
    code = found.get("code")
    status = (
        code
        if isinstance(code, int) and 400 <= code < 600
        else TYPE_STATUS.get(_text(found.get("type")), 500)
    )
    return _explained(status, found, None)


def error_of(payload: Any) -> dict[str, Any]:
    """Return the error object in a decoded body of any known form, empty when there is none."""
    if isinstance(payload, list):
        payload = payload[0] if payload else None
    if not isinstance(payload, dict):
        return {}
    error = payload.get("error")
    if isinstance(error, dict):
        return error
    if isinstance(error, str):
        return {**payload, "message": error}
    return {**payload, "message": payload.get("message", payload.get("detail"))}


def _explained(status: int, error: dict[str, Any], after_s: float | None) -> ServerError:
    inner = error.get("innererror") or error.get("inner_error")
    codes = [inner.get("code") if isinstance(inner, dict) else None, error.get("code"), error.get("type")]
    named = [code for code in codes if isinstance(code, str) and code]
    kind = next((CODE_KINDS[code] for code in named if code in CODE_KINDS), kind_of(status))
    metadata = error.get("metadata")
    if isinstance(metadata, dict) and "flagged_input" in metadata:
        kind = ErrorKind.CONTENT_REJECTED  # OpenRouter's moderation answers 403
    said = Said(
        message=_text(error.get("message")),
        code=named[0] if named else "",
        param=_text(error.get("param")) or None,
    )
    return explain(kind, status, said, after_s)


def _text(value: Any) -> str:
    """Return ``value`` as words: objects and lists (validation details) as JSON."""
    if value is None or isinstance(value, str):
        return value or ""
    return json.encode(value).decode()
