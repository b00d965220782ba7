"""Heads of requests that come again: a client sends the same one with every request of a connection."""

import re
from collections.abc import Mapping

from msgspec import Struct

from llm_server.api.endpoint import Endpoint
from llm_server.api.wishes import PRIORITY, TIMEOUT

ADMITTED = frozenset({"content-encoding", PRIORITY, TIMEOUT})
"""Headers, besides the length, for which a request may be refused, or by which it asks for something."""

MAX_DIGITS = 8
"""Digits of a body's length: what is longer does not come in one piece."""

_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]+)[ \t]*\r\n", re.IGNORECASE)
_LENGTH_NAME = "content-length"
_END = b"\r\n\r\n"


class Head(Struct, frozen=True):
    """One head that was read, checked and taken: what led to it holds for the same bytes again.

    Only the length of the body may differ: ``before`` and ``after`` are the bytes around its digits.
    """

    endpoint: Endpoint
    headers: Mapping[str, str]
    """Without the length."""
    before: bytes
    after: bytes
    digits_at: int
    reach: int
    """Bytes from there in which what stands ``after`` must end."""
    admits: bool
    """Whether its headers must be admitted again for each request."""

    def body(self, data: bytes) -> bytes | None:
        """Return the body of the request in ``data``, if that is one whole request with this head."""
        at, after = self.digits_at, self.after
        end = data.find(after, at, at + self.reach)
        if end < 0 or not data.startswith(self.before):
            return None
        digits, body = data[at:end], data[end + len(after) :]
        return body if digits.isdigit() and len(body) == int(digits) else None


def learned(data: bytes, endpoint: Endpoint, headers: Mapping[str, str]) -> Head | None:
    """Return the head of the request in ``data``, if that is one whole request with a length."""
    head, end, body = data.partition(_END)
    lengths = _LENGTH.findall(head + end)
    if len(lengths) != 1 or int(lengths[0]) != len(body) or len(lengths[0]) > MAX_DIGITS:
        return None
    found = _LENGTH.search(head + end)
    assert found is not None
    before, after = head[: found.start(1)], (head + end)[found.end(1) :]
    return Head(
        endpoint=endpoint,
        headers={name: value for name, value in headers.items() if name != _LENGTH_NAME},
        before=before,
        after=after,
        digits_at=len(before),
        reach=MAX_DIGITS + len(after),
        admits=not ADMITTED.isdisjoint(headers),
    )
