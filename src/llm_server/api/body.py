"""Read what the caller sent, within limits."""

from collections.abc import Mapping, Sequence

from starlette.types import Receive

from llm_server.contract import ErrorKind, ServerError


def headers_of(fields: Sequence[tuple[bytes, bytes]]) -> dict[str, str]:
    """Return a request's headers by lower-case name; repeated ones are joined by commas (RFC 9110, 5.2).

    The names in ``fields`` must be in lower case.
    """
    try:
        found = {name.decode("ascii"): value.decode("ascii") for name, value in fields}
    except UnicodeDecodeError:
        return _joined(fields)
    return found if len(found) == len(fields) else _joined(fields)


def _joined(fields: Sequence[tuple[bytes, bytes]]) -> dict[str, str]:
    found: dict[str, str] = {}
    for raw_name, raw_value in fields:
        name, value = raw_name.decode("latin-1"), raw_value.decode("latin-1")
        found[name] = f"{found[name]}, {value}" if name in found else value
    return found


def check_announced(headers: Mapping[str, str], limit_bytes: int) -> None:
    """Refuse a body by what its headers tell of it, before any of it is read.

    Raises:
        ServerError: ``TOO_LARGE`` above ``limit_bytes``; ``INVALID_REQUEST`` for a compressed body.
    """
    encoding = headers.get("content-encoding", "identity")
    if encoding != "identity":
        words = f"The body is sent with content-encoding '{encoding[:32]}'; send it uncompressed."
        raise ServerError(ErrorKind.INVALID_REQUEST, words)
    announced = headers.get("content-length", "")
    if announced.isdigit() and int(announced) > limit_bytes:
        raise too_large(limit_bytes)


async def read_body(receive: Receive, limit_bytes: int) -> bytes:
    """Return the request's body.

    Raises:
        ServerError: ``TOO_LARGE`` above ``limit_bytes``; ``CLIENT_CLOSED`` when the caller left.
    """
    parts: list[bytes] = []
    size, more = 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise left_while_sending()
        part, more = message.get("body", b""), message.get("more_body", False)
        size += len(part)
        if size > limit_bytes:
            raise too_large(limit_bytes)
        parts.append(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def left_while_sending() -> ServerError:
    """Return the error of a request whose caller went before it was there."""
    return ServerError(ErrorKind.CLIENT_CLOSED, "The client left while sending.")


def too_large(limit_bytes: int) -> ServerError:
    """Return the error of a body above the limit."""
    return ServerError(
        ErrorKind.TOO_LARGE, f"The request body is larger than the limit of {limit_bytes} bytes."
    )
