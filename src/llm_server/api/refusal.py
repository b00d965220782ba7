"""What of HTTP is not taken, and how that is said below every dialect: the connection ends with it."""

import re
from collections.abc import Iterator, Sequence

from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from llm_server.contract import ErrorKind, ServerError
from llm_server.wire import OPENAI_CHAT

_HOST = re.compile(r"(?:[A-Za-z0-9._~%!$&'()*+,;=-]+|\[[0-9A-Fa-f:.]+\])?(?::[0-9]{0,5})?")
"""RFC 3986, 3.2.2 and 3.2.3; empty is allowed (RFC 9110, 7.2)."""


class RefusedError(Exception):
    """What has come is not a request that can be answered; the connection ends with ``status``."""

    def __init__(self, status: int, message: str, kind: ErrorKind = ErrorKind.INVALID_REQUEST) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.kind = kind

    def rendered(self, default_headers: Sequence[tuple[bytes, bytes]]) -> bytes:
        """Return the whole answer, with ``default_headers`` in front."""
        body = OPENAI_CHAT.error(ServerError(self.kind, self.message), "")
        told: list[tuple[bytes, bytes]] = [
            *default_headers,
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(body)),
            (b"connection", b"close"),
        ]
        lines = [b"%b: %b\r\n" % each for each in told]
        return b"".join([STATUS_LINE[self.status], *lines, b"\r\n", body])


def headers_too_large(limit: int) -> RefusedError:
    """Return the refusal of headers above ``limit`` bytes."""
    return RefusedError(431, f"The headers are larger than the limit of {limit} bytes.")


def ending() -> RefusedError:
    """Return what a client hears that has not sent its request when the server ends."""
    return RefusedError(503, "The server is shutting down; try again.", ErrorKind.UNAVAILABLE)


def check_host(host: str | None, version: str) -> None:
    """Refuse a version that is not spoken here, and a ``Host`` that is missing, no host, or several."""
    if version not in {"1.1", "1.0"}:
        raise RefusedError(505, f"HTTP/{version} is not spoken here.")
    if host is None and version == "1.1":
        raise RefusedError(400, "A request needs a Host header.")
    if host is not None and _HOST.fullmatch(host) is None:  # several are joined by a comma and a space
        raise RefusedError(400, "The Host header is not valid, or there are several.")


def check_coding(coding: str, version: str) -> None:
    """Refuse transfer codings but ``chunked``, and any in HTTP/1.0 (RFC 9112, 6.1: faulty framing)."""
    if version == "1.0":
        raise RefusedError(400, "HTTP/1.0 has no transfer codings.")
    if coding.lower() != "chunked":
        raise RefusedError(400, "The only transfer coding that is understood is chunked.")


def lines_without_upgrade(headers: Sequence[tuple[bytes, bytes]]) -> Iterator[bytes]:
    """Yield the lines of ``headers``, whose names are in lower case, without a wish to upgrade."""
    for name, value in headers:
        if name == b"connection":
            yield b"connection: close\r\n" if b"close" in value.lower() else b""
        elif name != b"upgrade":
            yield b"%b: %b\r\n" % (name, value)
