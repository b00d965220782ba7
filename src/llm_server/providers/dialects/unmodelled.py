"""What upstreams send that nothing here models: ignored, and counted."""

from collections import Counter
from collections.abc import Iterable, Mapping

MAX_NAMES = 1000
"""Distinct names that are counted; an upstream that invents more is counted under ``…``."""
MAX_NAME = 100
"""Characters of a name that are kept."""

_seen: Counter[str] = Counter()


def note(where: str, names: Iterable[str]) -> None:
    """Count ``names`` (fields, event types, kinds of content) that came at ``where`` and were ignored."""
    for name in names:
        key = f"{where}.{name[:MAX_NAME]}"
        _seen[key if key in _seen or len(_seen) < MAX_NAMES else "…"] += 1


def seen() -> Mapping[str, int]:
    """Return how often each name came since the process started."""
    return dict(_seen)
