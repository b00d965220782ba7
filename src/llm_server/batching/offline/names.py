"""Ids of files and batches: they sort by time, and nobody guesses them."""

import secrets
import time


def new_id(prefix: str) -> str:
    """Return ``prefix`` and 32 hexadecimal digits: milliseconds since 1970 in 12, then 80 random bits.

    The layout is that of UUIDv7 (RFC 9562, section 5.7) without its fixed bits.
    """
    return f"{prefix}{time.time_ns() // 1_000_000:012x}{secrets.token_hex(10)}"
