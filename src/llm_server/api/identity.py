"""Names for requests."""

import os
import re
import time
from collections.abc import Iterator

from starlette.requests import Request

IDENTITY = "llm_server.request_id"
"""Where the scope of a control route's request has its id."""

_RANDOM = re.compile("(.{3})(.{3})(.{12})")
_AT_ONCE = 256
"""Ids whose randomness is drawn at once: one call of the system costs more than making an id."""
TENANT = "llm_server.tenant"
"""Where the scope of a control route's request has the caller's tenant, where callers are told apart."""


def tenant_of(request: Request) -> str:
    """Return whose files and batches a request may see; empty where callers are not told apart."""
    tenant: str = request.scope.get(TENANT, "")
    return tenant


def request_id() -> str:
    """Return a new UUIDv7 (RFC 9562, section 5.7): ids sort by the millisecond in which they were made."""
    return next(_ids)


def _ids_of_now() -> Iterator[str]:
    """Yield ids: 48 bits of time, the version and 12 random bits, the variant and 62.

    Two of these are drawn for many at once.
    """
    latest, begin = 0, ""
    while True:
        drawn = os.urandom(9 * _AT_ONCE).hex()
        variant = "89ab"[os.urandom(1)[0] & 3]
        for end in _RANDOM.sub(rf"7\1-{variant}\2-\3 ", drawn).split():
            millis = time.time_ns() // 1_000_000
            if millis != latest:
                latest, digits = millis, f"{millis:012x}"
                begin = f"{digits[:8]}-{digits[8:]}-"
            yield begin + end


_ids = _ids_of_now()
if hasattr(os, "register_at_fork"):

    def _draw_anew() -> None:
        global _ids  # noqa: PLW0603 - a forked process must not make its parent's ids
        _ids = _ids_of_now()

    os.register_at_fork(after_in_child=_draw_anew)
