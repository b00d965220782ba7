"""Read what the caller sent, within limits."""

from collections.abc import Mapping

from starlette.types import Receive, Scope

from llm_server.contract import ErrorKind, ServerError


def headers_of(scope: Scope) -> Mapping[str, str]:
    """Return the request's headers by lower-case name; repeated ones are joined by commas (RFC 9110, 5.2)."""
    found: dict[str, str] = {}
    for raw_name, raw_value in scope["headers"]:
        name, value = raw_name.decode("latin-1"), raw_value.decode("latin-1")
        found[name] = f"{found[name]}, {value}" if name in found else value
    return found


async def read_body(headers: Mapping[str, str], receive: Receive, limit_bytes: int) -> bytes:
    """Return the request's body.

    Raises:
        ServerError: ``TOO_LARGE`` above ``limit_bytes``, before reading it when its length is announced;
            ``INVALID_REQUEST`` for a compressed body; ``CLIENT_CLOSED`` when the caller left.
    """
    encoding = headers.get("content-encoding", "identity")
    if encoding != "identity":
        words = f"The body is sent with content-encoding '{encoding[:32]}'; send it uncompressed."
        raise ServerError(ErrorKind.INVALID_REQUEST, words)
    announced = headers.get("content-length", "")
    if announced.isdigit() and int(announced) > limit_bytes:
        raise _too_large(limit_bytes)
    parts: list[bytes] = []
    size, more = 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ServerError(ErrorKind.CLIENT_CLOSED, "The client left while sending.")
        part, more = message.get("body", b""), message.get("more_body", False)
        size += len(part)
        if size > limit_bytes:
            raise _too_large(limit_bytes)
        parts.append(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _too_large(limit_bytes: int) -> ServerError:
    return ServerError(
        ErrorKind.TOO_LARGE, f"The request body is larger than the limit of {limit_bytes} bytes."
    )
