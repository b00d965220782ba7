"""What each refusal of each vendor means: reviewed by hand, vendor by vendor.

Status decides the kind and a documented code may refine it; prose never does. So some rows have a kind that a
person who reads their message would not choose: those are in ``PROSE_ONLY``, each with what is lost.
"""

from collections.abc import Mapping

from llm_server.contract import ErrorKind as K

SHARED: Mapping[str, K] = {
    "bad_request": K.INVALID_REQUEST,
    "invalid_auth": K.UPSTREAM_AUTH,
    "missing_auth": K.UPSTREAM_AUTH,
    "permission": K.UPSTREAM_AUTH,
    "billing": K.UPSTREAM_QUOTA,
    "model_not_found": K.MODEL_NOT_FOUND,
    "context_length": K.CONTEXT_OVERFLOW,
    "content_policy": K.CONTENT_REJECTED,
    "too_large": K.TOO_LARGE,
    "rate_limit": K.UPSTREAM_RATE_LIMITED,
    "server_error": K.UPSTREAM_ERROR,
    "overloaded": K.UPSTREAM_OVERLOADED,
    "bad_gateway_html": K.UPSTREAM_ERROR,
    "gateway_timeout_html": K.UPSTREAM_TIMEOUT,
    "empty_body": K.UPSTREAM_ERROR,
}
"""Rows that most vendors have under one name."""

OWN: Mapping[str, K] = {
    "anthropic/spend_limit": K.UPSTREAM_QUOTA,
    "cohere/cancelled": K.UPSTREAM_ERROR,
    "deepseek/insufficient_balance": K.UPSTREAM_QUOTA,
    "deepseek/invalid_parameters": K.INVALID_REQUEST,
    "fireworks/suspended": K.UPSTREAM_QUOTA,  # 412 PRECONDITION_FAILED
    "fireworks/stream_options": K.INVALID_REQUEST,
    "gemini/deadline": K.UPSTREAM_TIMEOUT,
    "gemini/region": K.UPSTREAM_AUTH,
    "groq/flex_capacity": K.UPSTREAM_OVERLOADED,
    "groq/too_large": K.UPSTREAM_RATE_LIMITED,  # 413 with rate_limit_exceeded: this account's tokens a minute
    "mistral/capacity": K.UPSTREAM_OVERLOADED,
    "mistral/invalid_auth_gateway": K.UPSTREAM_AUTH,
    "ollama/native_not_found": K.MODEL_NOT_FOUND,
    "ollama/no_tools": K.INVALID_REQUEST,
    "openai/insufficient_quota": K.UPSTREAM_QUOTA,
    "openrouter/insufficient_credits": K.UPSTREAM_QUOTA,
    "openrouter/provider_error": K.UPSTREAM_ERROR,
    "openrouter/timeout": K.UPSTREAM_TIMEOUT,
    "together/model_not_serverless": K.MODEL_NOT_FOUND,  # 400 model_not_available
    "vllm/server_error_text": K.UPSTREAM_ERROR,
}
"""Rows of one vendor."""

PROSE_ONLY: Mapping[str, K] = {
    "anthropic/content_policy": K.INVALID_REQUEST,
    "anthropic/context_length": K.INVALID_REQUEST,
    "anthropic/credit_balance": K.INVALID_REQUEST,  # 400 invalid_request_error: only prose tells whose money
    "cohere/context_length": K.INVALID_REQUEST,
    "deepseek/content_policy": K.INVALID_REQUEST,
    "deepseek/context_length": K.INVALID_REQUEST,
    "deepseek/model_not_found": K.INVALID_REQUEST,
    "fireworks/context_length": K.INVALID_REQUEST,
    "gemini/context_length": K.INVALID_REQUEST,
    "lmstudio/context_length": K.INVALID_REQUEST,
    "together/context_length": K.UPSTREAM_AUTH,  # 403, which everywhere else speaks of credentials
    "vllm/context_length": K.INVALID_REQUEST,
    "vllm/context_length_old": K.INVALID_REQUEST,
    "xai/context_length": K.INVALID_REQUEST,
    "xai/invalid_auth": K.INVALID_REQUEST,  # 400: a bad key looks like a bad request
}
"""Refusals that only their prose tells from a bad request; the caller is shown that prose."""

RETRY_AFTER_S: Mapping[str, float] = {
    "anthropic/rate_limit": 13.0,
    "azure/rate_limit": 5.843,
    "gemini/rate_limit": 34.4,
    "groq/rate_limit": 5.0,
    "openai/overloaded": 5.0,
    "openai/rate_limit": 0.644,
}
"""When a vendor wants to be asked again, where it says so."""


def kind_of(vendor: str, name: str) -> K | None:
    """Return the kind of a vendor's refusal, ``None`` where nobody has reviewed it yet."""
    own = f"{vendor}/{name}"
    return PROSE_ONLY.get(own) or OWN.get(own) or SHARED.get(name)
