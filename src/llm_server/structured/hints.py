"""What a sent schema cannot say in keywords, said in its descriptions."""

from collections.abc import Mapping
from typing import Any

import msgspec

MAX_HINT = 300
"""Most characters of one keyword's value in a hint: longer ones confuse more than they tell."""


def hinted(description: str, lost: Mapping[str, Any]) -> str:
    """Return ``description`` with the keywords ``lost`` added, each with its value where that is short."""
    told = []
    for keyword, value in lost.items():
        text = msgspec.json.encode(value).decode()
        if len(text) <= MAX_HINT:
            told.append(f"{keyword}: {text}")
    hint = f"({'; '.join(told)})" if told else ""
    return f"{description} {hint}".strip()
