"""Walk through a JSON value to the places that pointers name."""

from collections.abc import Callable
from typing import Any

import msgspec

from llm_server.structured.problems import pointer, shortened

Path = tuple[str | int, ...]

ANY_STEP = "*"
"""Stands in a pointer for every property or item."""


class NotConvertibleError(Exception):
    """A value cannot be converted: where it stands, what was wanted, and what it is."""

    def __init__(self, path: Path, expected: str, found: Any) -> None:
        super().__init__(expected)
        self.pointer = pointer(path)
        self.expected = expected
        self.found = shortened(msgspec.json.encode(found).decode())


def check_pointer(place: str) -> None:
    """Raise ``ValueError`` for a ``place`` that is no JSON pointer."""
    if place and not place.startswith("/"):
        raise ValueError(f"'{place[:64]}' is no JSON pointer: write '/{place[:64]}'")


def steps_of(place: str) -> list[str]:
    """Return the steps of a JSON pointer (RFC 6901)."""
    return [step.replace("~1", "/").replace("~0", "~") for step in place.split("/")[1:]]


def each_inside(value: Any, path: Path, change: Callable[[Any, Path], Any]) -> Any:
    """Apply ``change`` to everything in ``value``, what is inside first, then to ``value`` itself."""
    if isinstance(value, dict):
        value = {name: each_inside(each, (*path, name), change) for name, each in value.items()}
    elif isinstance(value, list):
        value = [each_inside(each, (*path, at), change) for at, each in enumerate(value)]
    return change(value, path)


def placed(value: Any, steps: list[str], path: Path, change: Callable[[Any, Path], Any]) -> Any:
    """Apply ``change`` where ``steps`` lead, if they lead anywhere."""
    if not steps:
        return change(value, path)
    first, rest = steps[0], steps[1:]
    if isinstance(value, dict):
        return {
            name: placed(each, rest, (*path, name), change) if first in (name, ANY_STEP) else each
            for name, each in value.items()
        }
    if isinstance(value, list):
        return [
            placed(each, rest, (*path, at), change) if first in (str(at), ANY_STEP) else each
            for at, each in enumerate(value)
        ]
    return value
