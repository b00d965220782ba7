"""Conversions of answers: what may be asked for, and the port of who does it."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Protocol

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


class Way(Struct, frozen=True):
    """One way to hold a model to a form, and what it promises."""

    method: Literal["native", "tool", "prompt", "grammar"]
    guarantee: Literal["exact", "relaxed", "validated"]


FormKind = Literal["json_schema", "json_object", "regex", "choice", "grammar"]
"""The kinds of :class:`~llm_server.contract.OutputFormat`."""
