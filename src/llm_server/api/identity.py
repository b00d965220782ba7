"""Names for requests."""

import os
import time

from starlette.requests import Request

IDENTITY = "llm_server.request_id"
"""Where the scope of a control route's request has its id."""

TENANT = "llm_server.tenant"
"""Where the scope of a control route's request has the caller's tenant, where callers are told apart."""


def tenant_of(request: Request) -> str:
    """Return whose files and batches a request may see; empty where callers are not told apart."""
    tenant: str = request.scope.get(TENANT, "")
    return tenant


def request_id() -> str:
    """Return a new UUIDv7 (RFC 9562, section 5.7): ids sort by the millisecond in which they were made."""
    millis = time.time_ns() // 1_000_000
    noise = int.from_bytes(os.urandom(10), "big")
    value = (millis & ((1 << 48) - 1)) << 80 | noise
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    text = f"{value:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
