"""Ids of files and batches: they sort by time, and nobody guesses them."""

import re
import secrets
import time

_DIGITS = re.compile(r"[0-9a-f]{32}")


def new_id(prefix: str) -> str:
    """Return ``prefix`` and 32 hexadecimal digits: milliseconds since 1970 in 12, then 80 random bits.

    The layout is that of UUIDv7 (RFC 9562, section 5.7) without its fixed bits.
    """
    return f"{prefix}{time.time_ns() // 1_000_000:012x}{secrets.token_hex(10)}"


def made_at_s(prefix: str, name: str) -> float | None:
    """Return when :func:`new_id` made ``name``, in Unix seconds; ``None`` if it did not."""
    digits = name.removeprefix(prefix)
    if not name.startswith(prefix) or _DIGITS.fullmatch(digits) is None:
        return None
    return int(digits[:12], 16) / 1000
