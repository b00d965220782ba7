"""What goes wrong between us and an upstream, in words that never hold a header or a body."""

import ssl

from llm_server.contract import ErrorKind, ServerError


def timed_out(phase: str, after_s: float) -> ServerError:
    """Return the ``UPSTREAM_TIMEOUT`` of a phase that took longer than ``after_s`` seconds."""
    return ServerError(
        ErrorKind.UPSTREAM_TIMEOUT,
        f"The provider took too long: {phase}.",
        detail=f"{phase}: more than {after_s:g} s",
    )


def unreachable(detail: str) -> ServerError:
    """Return the failure of a request that got no answer at all."""
    return ServerError(ErrorKind.UPSTREAM_UNREACHABLE, "The provider cannot be reached.", detail=detail)


def truncated(detail: str) -> ServerError:
    """Return the failure of an answer that broke off."""
    return ServerError(
        ErrorKind.UPSTREAM_TRUNCATED,
        "The provider's connection broke before its answer was complete.",
        detail=detail,
    )


def not_http(detail: str) -> ServerError:
    """Return the failure of an answer that HTTP does not allow, or that was not asked for."""
    return ServerError(ErrorKind.UPSTREAM_INVALID, "The provider's answer is not HTTP.", detail=detail)


def undecodable(detail: str) -> ServerError:
    """Return the failure of an answer whose content coding does not hold."""
    return ServerError(
        ErrorKind.UPSTREAM_INVALID, "The provider's answer cannot be decompressed.", detail=detail
    )


def too_large(limit_bytes: int) -> ServerError:
    """Return the failure of a whole answer that is larger than is read."""
    return ServerError(
        ErrorKind.UPSTREAM_INVALID,
        "The provider's answer is too large.",
        detail=f"more than {limit_bytes} bytes",
    )


def unsendable(what: str) -> ServerError:
    """Return the refusal of a request that would not be one request on the wire."""
    return ServerError(ErrorKind.INVALID_REQUEST, f"The request cannot be sent: {what}.")


def described(error: BaseException) -> str:
    """Say what broke, from fields that never hold a header or a body."""
    cause = ""
    if isinstance(error, ssl.SSLCertVerificationError):
        cause = f": {error.verify_message}"
    elif isinstance(error, OSError) and error.strerror:
        cause = f": {error.strerror}"
    return f"{type(error).__name__}{cause}"
