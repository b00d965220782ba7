"""Names for requests."""

import os
import time
from collections.abc import Iterator

from starlette.requests import Request

IDENTITY = "llm_server.request_id"
"""Where the scope of a control route's request has its id."""

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
    millis = f"{time.time_ns() // 1_000_000:012x}"
    return f"{millis[:8]}-{millis[8:]}-{next(_noise)}"


def _random_parts() -> Iterator[str]:
    """Yield what comes after the time: version 7 and 12 random bits, the variant and 62 of them."""
    while True:
        drawn = os.urandom(10 * _AT_ONCE).hex()
        for at in range(0, len(drawn), 20):
            variant = "89ab"[int(drawn[at + 3], 16) & 3]
            rest = drawn[at + 4 : at + 20]
            yield f"7{drawn[at : at + 3]}-{variant}{rest[:3]}-{rest[3:15]}"


_noise = _random_parts()
if hasattr(os, "register_at_fork"):

    def _draw_anew() -> None:
        global _noise  # noqa: PLW0603 - a forked process must not make its parent's ids
        _noise = _random_parts()

    os.register_at_fork(after_in_child=_draw_anew)
