"""Tool call ids that an upstream accepts, from ids that another one made."""

import re
from hashlib import sha256

_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


def fitting(call_id: str, pattern: str, length: int) -> str:
    """Return ``call_id`` if ``pattern`` allows it, else ``length`` letters and digits, the same each time.

    A call and its result are fitted apart from each other and still belong together.
    """
    if re.fullmatch(pattern, call_id):
        return call_id
    number = int.from_bytes(sha256(call_id.encode()).digest(), "big")
    digits = []
    for _ in range(length):
        number, digit = divmod(number, len(_ALPHABET))
        digits.append(_ALPHABET[digit])
    return "".join(digits)
