"""Whether a value satisfies a schema, and every reason why not."""

from itertools import islice
from typing import TYPE_CHECKING, Any

from llm_server.structured.bounds import deeper
from llm_server.structured.drafts import build
from llm_server.structured.problems import Problem
from llm_server.structured.remembering import Recent
from llm_server.structured.schema import Schema
from llm_server.structured.wording import problem

if TYPE_CHECKING:
    from jsonschema_rs import Validator as Compiled

MAX_PROBLEMS = 32
"""Most problems that are told of one value: the reader of more is not helped."""

MAX_DEPTH = 256
"""Most objects and arrays inside each other: jsonschema-rs recurses, and its overflow ends the process."""


class Validator:
    """Judges values by one schema; shared by everybody, made by :meth:`of`."""

    def __init__(self, compiled: "Compiled") -> None:
        self._compiled = compiled

    @staticmethod
    def of(schema: Schema, formats: bool = True) -> "Validator":
        """Return the validator of ``schema``; ``formats``: whether ``format`` is asserted."""
        key = (schema.id, formats)
        known = _RECENT.get(key)
        if known is None:
            built = build(schema.value, schema.draft, formats=formats, patterns=schema.patterns)
            known = Validator(built.validator)
            _RECENT.put(key, known, 20 * len(schema.canonical) + built.pattern_bytes)
        return known

    def problems(self, value: Any, *, shallow: bool = False) -> tuple[Problem, ...]:
        """Return what is wrong with ``value`` (parsed JSON): at most :data:`MAX_PROBLEMS`.

        An ``anyOf`` or ``oneOf`` is one problem, which names what its nearest alternative wants. ``shallow``:
        the value is known to be nested at most :data:`MAX_DEPTH` deep.
        """
        if not shallow and deeper(value, MAX_DEPTH):
            return (Problem("", "depth", f"at most {MAX_DEPTH} values inside each other", "more"),)
        if self._compiled.is_valid(value):
            return ()
        return tuple(problem(error) for error in islice(self._compiled.iter_errors(value), MAX_PROBLEMS))


_RECENT: Recent[tuple[str, bool], Validator] = Recent(count=512, weight=64 * 1024 * 1024)
"""Validators by schema and option; without patterns, one takes about twenty times the text of its schema."""
