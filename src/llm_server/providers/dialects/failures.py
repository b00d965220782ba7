"""From an upstream's error answer to ours: what every dialect has in common.

Status decides the kind, a documented code may refine it, prose never does. What is wrong with the request is
told in the vendor's words; anything else in ours, with the vendor's in ``detail`` for the operator.
"""

import re
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime

from msgspec import Struct

from llm_server.contract import Block, ErrorKind, ServerError

STATUS_KINDS: dict[int, ErrorKind] = {
    400: ErrorKind.INVALID_REQUEST,
    401: ErrorKind.UPSTREAM_AUTH,
    402: ErrorKind.UPSTREAM_QUOTA,
    403: ErrorKind.UPSTREAM_AUTH,
    404: ErrorKind.MODEL_NOT_FOUND,
    405: ErrorKind.UPSTREAM_ERROR,
    407: ErrorKind.UPSTREAM_ERROR,
    408: ErrorKind.UPSTREAM_TIMEOUT,
    413: ErrorKind.TOO_LARGE,
    422: ErrorKind.INVALID_REQUEST,
    429: ErrorKind.UPSTREAM_RATE_LIMITED,
    # Groq's flex tier without capacity (https://console.groq.com/docs/errors).
    498: ErrorKind.UPSTREAM_OVERLOADED,
    503: ErrorKind.UPSTREAM_OVERLOADED,
    504: ErrorKind.UPSTREAM_TIMEOUT,
    # Cloudflare's, in front of many vendors: connection and answer timed out.
    522: ErrorKind.UPSTREAM_TIMEOUT,
    524: ErrorKind.UPSTREAM_TIMEOUT,
    # Anthropic's (https://platform.claude.com/docs/en/api/errors).
    529: ErrorKind.UPSTREAM_OVERLOADED,
}
"""HTTP status to kind; other 4xx are the request's fault, the rest the upstream's."""

OURS: dict[ErrorKind, str] = {
    ErrorKind.UPSTREAM_AUTH: "The provider refused this server's credentials.",
    ErrorKind.UPSTREAM_QUOTA: "This server's quota or credit at the provider is used up.",
    ErrorKind.UPSTREAM_RATE_LIMITED: "The provider limits this server's requests.",
    ErrorKind.UPSTREAM_OVERLOADED: "The provider is overloaded.",
    ErrorKind.UPSTREAM_TIMEOUT: "The provider took too long to answer.",
    ErrorKind.UPSTREAM_INVALID: "The provider's model gave an answer that the provider could not use.",
    ErrorKind.UPSTREAM_ERROR: "The provider failed.",
    ErrorKind.MODEL_NOT_FOUND: "The provider does not know this model.",
    ErrorKind.TOO_LARGE: "The request is too large for the provider.",
}
"""What the caller is told in our words."""

ADVICE: dict[ErrorKind, str] = {
    ErrorKind.UPSTREAM_AUTH: "The operator of this server has to check its api_key.",
    ErrorKind.UPSTREAM_QUOTA: "Choose another provider until its operator has raised it.",
    ErrorKind.UPSTREAM_RATE_LIMITED: "Try again later.",
    ErrorKind.UPSTREAM_OVERLOADED: "Try again later.",
    ErrorKind.UPSTREAM_TIMEOUT: "Try again later.",
    ErrorKind.UPSTREAM_UNREACHABLE: "Try again later; the operator of this server should check its base_url.",
}
"""What helps against a failure that is not the caller's, for whoever reads its message."""

MAX_SAID = 2000
"""Characters of a vendor's message that are passed on."""

_OWNED = re.compile(r"^([Tt])he provider's")
_NAMELESS = re.compile(r"\b([Tt])he provider\b")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
_DURATION = re.compile(r"(?P<number>\d+(?:\.\d+)?)(?P<unit>ms|s|m|h|d)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


class Said(Struct, frozen=True, kw_only=True):
    """What a vendor's error body says: its message, its code and the field at fault."""

    message: str = ""
    code: str = ""
    param: str | None = None


def kind_of(status: int) -> ErrorKind:
    """Return the kind that an HTTP status alone means."""
    fallback = ErrorKind.INVALID_REQUEST if 400 <= status < 500 else ErrorKind.UPSTREAM_ERROR
    return STATUS_KINDS.get(status, fallback)


def explain(kind: ErrorKind, status: int, said: Said, retry_after_s: float | None = None) -> ServerError:
    """Return the error of ``kind`` for an upstream that answered ``status`` and ``said`` something."""
    words = _CONTROL.sub(" ", said.message)[:MAX_SAID].strip()
    code = f" {said.code}" if said.code else ""
    if kind.block is Block.CALLER:
        message = words or OURS.get(kind, f"The provider refused the request with status {status}.")
        return ServerError(kind, message, param=said.param, detail=f"status {status}{code}").at("", status)
    # A vendor's words about a key often quote a part of it.
    heard = f": {words}" if words and kind is not ErrorKind.UPSTREAM_AUTH else ""
    detail = f"status {status}{code}{heard}"
    return ServerError(kind, OURS[kind], retry_after_s=retry_after_s, detail=detail).at("", status)


def introduced(error: ServerError, provider: str) -> str:
    """Return the message of ``error`` with ``provider`` named where our words say "the provider", and advice.

    A vendor's own words stay as they are.
    """
    upstream = error.kind.block is Block.UPSTREAM
    if not upstream and error.message != OURS.get(error.kind):
        return error.message
    # A name in quotation marks has no possessive form.
    words = _OWNED.sub(rf"\1he provider {provider}'s", error.message, count=1)
    if words == error.message:
        words = _NAMELESS.sub(rf"\1he provider '{provider}'", words, count=1)
    advice = ADVICE.get(error.kind) if upstream else None
    return f"{words} {advice}" if advice else words


def garbage(what: str) -> ServerError:
    """Return the error for an answer that is not what the API promises."""
    return ServerError(
        ErrorKind.UPSTREAM_INVALID, "The provider sent an answer that cannot be read.", detail=what[:MAX_SAID]
    )


def truncated() -> ServerError:
    """Return the error for a stream that ended without its terminal event."""
    return ServerError(ErrorKind.UPSTREAM_TRUNCATED, "The provider's stream ended before its answer did.")


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Return the seconds after which the upstream wants to be asked again, or ``None``.

    Reads ``retry-after-ms`` (OpenAI), ``retry-after`` in seconds or as a date (RFC 9110, section 10.2.3), and
    the ``x-ratelimit-reset-*`` durations of OpenAI and Groq (``6m0s``, ``7.66s``) of whatever is used up.
    """
    if (after_ms := number(headers.get("retry-after-ms", ""))) is not None:
        return after_ms / 1000
    after = headers.get("retry-after", "")
    if after:
        return number(after) if number(after) is not None else _until(after)
    resets = {
        name: duration_s(text) for name, text in headers.items() if name.startswith("x-ratelimit-reset-")
    }
    used_up = [
        wait
        for name, wait in resets.items()
        if wait is not None and headers.get(name.replace("reset", "remaining", 1)) == "0"
    ]
    return max(used_up, default=min((wait for wait in resets.values() if wait is not None), default=None))


def number(text: str) -> float | None:
    """Read a finite number that is not negative."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if 0 <= value < float("inf") else None


def _until(date: str) -> float | None:
    try:
        return max(0.0, parsedate_to_datetime(date).timestamp() - time.time())
    except (ValueError, OverflowError):
        return None


def duration_s(text: str) -> float | None:
    """Read a duration such as ``6m0s`` or ``644ms``."""
    parts = _DURATION.findall(text)
    if not parts or "".join(value + unit for value, unit in parts) != text:
        return None
    return sum(float(value) * _SECONDS[unit] for value, unit in parts)
