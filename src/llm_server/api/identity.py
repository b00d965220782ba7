"""Names for requests."""

import os
import time
from collections.abc import Iterator

from starlette.requests import Request

IDENTITY = "llm_server.request_id"
"""Where the scope of a control route's request has its id."""

_VARIANTS = {digit: "89ab"[int(digit, 16) & 3] for digit in "0123456789abcdef"}
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
    """Yield ids: 48 bits of time, version 7 and 12 random bits, the variant and 62 of them."""
    latest, begin = 0, ""
    while True:
        drawn = os.urandom(10 * _AT_ONCE).hex()
        for at in range(0, len(drawn), 20):
            millis = time.time_ns() // 1_000_000
            if millis != latest:
                latest, digits = millis, f"{millis:012x}"
                begin = f"{digits[:8]}-{digits[8:]}-7"
            variant = _VARIANTS[drawn[at + 3]]
            yield f"{begin}{drawn[at : at + 3]}-{variant}{drawn[at + 4 : at + 7]}-{drawn[at + 7 : at + 19]}"


_ids = _ids_of_now()
if hasattr(os, "register_at_fork"):

    def _draw_anew() -> None:
        global _ids  # noqa: PLW0603 - a forked process must not make its parent's ids
        _ids = _ids_of_now()

    os.register_at_fork(after_in_child=_draw_anew)
