"""JSON that is opened only as far as somebody looks: what nobody looks at costs nothing and cannot fail."""

import re
from typing import Any, overload

import msgspec
from msgspec import Raw

_members = msgspec.json.Decoder(dict[str, Raw]).decode
_items = msgspec.json.Decoder(list[Raw]).decode
_text = msgspec.json.Decoder(str).decode
_NOTHING = re.compile(rb"null|\[\s*\]|\{\s*\}")


@overload
def opened(raw: Raw) -> dict[str, Raw] | list[Raw] | None: ...
@overload
def opened(raw: object) -> dict[str, Any] | list[Any] | None: ...
def opened(raw: object) -> dict[str, Any] | list[Any] | None:
    """Return the members of an object or the items of an array, unread; ``None`` for anything else.

    A value that has been read is opened already.
    """
    if not isinstance(raw, Raw):
        return raw if isinstance(raw, (dict, list)) else None
    first = bytes(memoryview(raw)[:1])
    if first == b"{":
        return _members(raw)
    return _items(raw) if first == b"[" else None


def text(raw: Raw) -> str | None:
    """Return the string in ``raw``; ``None`` for anything else."""
    return _text(raw) if bytes(memoryview(raw)[:1]) == b'"' else None


def says_nothing(raw: object) -> bool:
    """Whether ``raw``, read or not, is null, an empty array or an empty object."""
    if not isinstance(raw, Raw):
        return raw in (None, [], {})
    return _NOTHING.fullmatch(memoryview(raw)) is not None


def at(raw: Raw, path: str) -> Raw:
    """Return what stands at ``path`` (``a.b[0]``); the nearest thing above it where it cannot be followed."""
    for name, index in STEP.findall(path):
        inside = opened(raw)
        if isinstance(inside, list) and index and int(index) < len(inside):
            raw = inside[int(index)]
        elif isinstance(inside, dict) and name in inside:
            raw = inside[name]
        else:
            break
    return raw


STEP = re.compile(r"([^.\[\]]+)|\[(\d+)\]")
"""One step of a path: a name, or the number of an item."""
