"""Cohere's errors into ours: a status, and a body ``{"message": ...}`` with or without an ``id``.

Source: https://docs.cohere.com/reference/errors. There are no machine-readable codes: the status is all.
"""

from collections.abc import Mapping

from msgspec import DecodeError, json

from llm_server.contract import ErrorKind, ServerError
from llm_server.providers.dialects.failures import Said, explain, kind_of, retry_after_s

STATUS_KINDS: dict[int, ErrorKind] = {
    498: ErrorKind.CONTENT_REJECTED,  # "blocked input or output"
    499: ErrorKind.UPSTREAM_ERROR,  # "request cancelled": not by us, or nobody would read this
}
"""Statuses that mean here what they mean nowhere else."""


def decode_error(status: int, headers: Mapping[str, str], body: bytes) -> ServerError:
    """Return what an error answer means; never raises, whatever the body."""
    kind = STATUS_KINDS.get(status) or kind_of(status)
    return explain(kind, status, Said(message=_message(body)), retry_after_s(headers))


def _message(body: bytes) -> str:
    try:
        payload = json.decode(body)
    except (DecodeError, UnicodeDecodeError, RecursionError):
        return ""
    said = payload.get("message") if isinstance(payload, dict) else None
    return said if isinstance(said, str) else ""
