"""Conversions of answers: what may be asked for, and the port of who does it."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from msgspec import Struct


class TransformStep(Struct, frozen=True):
    """One transformer, by name, with its parameters."""

    name: str
    parameters: Mapping[str, Any] = {}


class Conversion(Protocol):
    """Converts valid answers. Implemented in structured/, used by api/."""

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all transformers."""
        ...

    def plan(self, steps: Sequence[TransformStep], target: bytes = b"") -> Callable[[Any], Any]:
        """Return the function that applies ``steps`` in order and holds the result to the schema ``target``.

        The function raises ``OUTPUT_INVALID`` for what it cannot convert; making it raises
        ``INVALID_REQUEST`` for steps that mean nothing.
        """
        ...
