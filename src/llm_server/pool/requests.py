"""From a request to the bytes before its body; what would be more than one request is refused."""

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import urlsplit

from llm_server.contract import HttpRequest, Secret
from llm_server.pool.failures import unsendable

DEFAULTS = {
    "user-agent": "llm-server",
    "accept": "application/json, text/event-stream",
    "accept-encoding": "gzip, deflate",
}
"""Sent unless the configuration or the request says otherwise."""
REMEMBERED_HEADS = 256
"""Heads that are kept ready: an upstream is asked at a few paths with the same headers."""

_METHOD = re.compile(r"[A-Z]{1,16}")
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110 5.6.2
_PATH = re.compile(r"[!\"$-~]*")  # printable ASCII without space and "#"; RFC 9112 3.2
_NOT_IN_VALUES = re.compile("[\x00-\x08\x0a-\x1f\x7f\ud800-\udfff]")  # RFC 9110 5.5, and what has no bytes
_FRAMING = frozenset(
    (
        "connection",
        "content-length",
        "expect",
        "keep-alive",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    )
)
"""Headers that belong to whoever writes the message; in a request from above they would contradict it."""


class Origin(NamedTuple):
    """Where requests go: ``prefix`` is the path that stands before theirs, without a slash at its end."""

    host: str
    port: int
    tls: bool
    prefix: str

    @property
    def authority(self) -> str:
        """Return what the ``host`` header says."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.tls else 80) else f"{host}:{self.port}"


def origin_of(base_url: str) -> Origin:
    """Return the origin of ``base_url``.

    Raises:
        ValueError: it is no URL of HTTP, or its host is no host's name.
    """
    parts = urlsplit(base_url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError("must be an http:// or https:// URL")
    tls = parts.scheme == "https"
    host = parts.hostname if parts.hostname.isascii() else parts.hostname.encode("idna").decode()
    if not re.fullmatch(r"[0-9A-Za-z._:%-]+", host):
        raise ValueError("its host is no name")
    return Origin(host, parts.port or (443 if tls else 80), tls, parts.path.rstrip("/"))


def check(request: HttpRequest) -> None:
    """Refuse what would not be one request on the wire.

    Raises:
        ServerError: ``INVALID_REQUEST`` that names the part and shows none of it.
    """
    if not _METHOD.fullmatch(request.method):
        raise unsendable("its method is none")
    if not _PATH.fullmatch(request.path):
        raise unsendable("its path holds a character that no path may hold")
    for name, value in request.headers:
        _check_header(name, value)


def check_secrets(headers: Mapping[str, Secret]) -> None:
    """Refuse configured headers that cannot be sent; raises as :func:`check` does."""
    for name, value in headers.items():
        _check_header(name, value.reveal())


def _check_header(name: str, value: str) -> None:
    if not _NAME.fullmatch(name):
        raise unsendable("the name of a header holds a character that no name may hold")
    if name.lower() in _FRAMING:
        raise unsendable(f"the header {name.lower()} is not the request's own")
    if _NOT_IN_VALUES.search(value):
        raise unsendable(f"the header {name} holds a line break or another control character")


class Heads:
    """Writes the heads of requests to one origin, from the request line to before the body's length.

    It holds credentials: nothing of it is shown by ``repr``.
    """

    __slots__ = ("_headers", "_origin", "of")

    def __init__(self, origin: Origin, headers: Mapping[str, Secret]) -> None:
        self._origin = origin
        self._headers = dict(headers)
        self.of = lru_cache(maxsize=REMEMBERED_HEADS)(self._of)

    def _of(self, method: str, path: str, headers: tuple[tuple[str, str], ...]) -> bytes:
        """Return the head without its end, or with it for a method that takes no body.

        Raises:
            ServerError: ``INVALID_REQUEST``, as :func:`check` says.
        """
        check(HttpRequest(method=method, path=path, headers=headers))
        check_secrets(self._headers)
        given = [(name, value.reveal()) for name, value in self._headers.items()] + list(headers)
        names = {name.lower() for name, _ in given}
        usual = {"host": self._origin.authority, **DEFAULTS}
        lines = [
            f"{method} {self._origin.prefix}/{path.lstrip('/')} HTTP/1.1",
            *(f"{name}: {value}" for name, value in usual.items() if name not in names),
            *(f"{name}: {value}" for name, value in given),
        ]
        return "\r\n".join(lines).encode() + b"\r\n"
