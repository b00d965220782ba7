"""Whether a value satisfies a schema, and every reason why not."""

from itertools import islice
from typing import TYPE_CHECKING, Any

from llm_server.structured.drafts import build, engine
from llm_server.structured.effort import Efforts, count_vast, size
from llm_server.structured.problems import Problem
from llm_server.structured.remembering import Recent
from llm_server.structured.schema import Schema
from llm_server.structured.wording import problem

if TYPE_CHECKING:
    from jsonschema_rs import Validator as Compiled

MAX_PROBLEMS = 32
"""Most problems that are told of one value: the reader of more is not helped."""

MAX_EFFORT = 5_000_000
"""Most that judging one value may take, in the units of :mod:`~.effort`: about half a second."""
TOLD_EFFORT = MAX_EFFORT // 100
"""Up to here all problems are told: each one found takes ten microseconds, and all are found at once."""
MAX_VAST = 500
"""Most integers beyond 64 bits where ``uniqueItems`` compares each with each, as decimals: 0.1 s of work."""
VAST_CHARS = 20 * MAX_VAST
"""Characters in which so many cannot be written."""
MAX_DEPTH = 256
"""Most objects and arrays inside each other: jsonschema-rs recurses, and its overflow ends the process."""


class Validator:
    """Judges values by one schema; shared by everybody, made by :meth:`of`."""

    def __init__(self, compiled: "Compiled", effort: int, *, unique: bool) -> None:
        self._compiled = compiled
        self._effort = effort
        self._unique = unique

    @staticmethod
    def of(schema: Schema, formats: bool = True) -> "Validator":
        """Return the validator of ``schema``; ``formats``: whether ``format`` is asserted."""
        key = (schema.id, formats)
        known = _RECENT.get(key)
        if known is None:
            built = build(schema.value, schema.draft, formats=formats, patterns=schema.patterns)
            unique = b'"uniqueItems":true' in schema.canonical
            known = Validator(built.validator, Efforts(schema.document).most(), unique=unique)
            _RECENT.put(key, known, 20 * len(schema.canonical) + built.pattern_bytes)
        return known

    def problems(self, value: Any, *, chars: int | None = None) -> tuple[Problem, ...]:
        """Return what is wrong with a value: at most :data:`MAX_PROBLEMS`.

        An ``anyOf`` or ``oneOf`` is one problem, which names what its nearest alternative wants. A value that
        would take more than :data:`MAX_EFFORT` is not judged, which is its one problem; of one that takes
        more than :data:`TOLD_EFFORT` the first problem is told.

        Args:
            value: parsed JSON.
            chars: how long the JSON text was that the value is of, if it is known to be nested at most
                :data:`MAX_DEPTH` deep: then a small one need not be looked at for that.
        """
        hard = chars is None or chars * self._effort > MAX_EFFORT or (self._unique and chars > VAST_CHARS)
        if hard and (objection := self._objection(value)):
            return (objection,)
        if self._compiled.is_valid(value):
            return ()
        if (size(value, MAX_DEPTH) or 1) * self._effort > TOLD_EFFORT:
            return self._first(value)
        return tuple(problem(error) for error in islice(self._compiled.iter_errors(value), MAX_PROBLEMS))

    def _objection(self, value: Any) -> Problem | None:
        """Return why ``value`` cannot be judged, if it cannot."""
        count = size(value, MAX_DEPTH)
        if count is None:
            return Problem("", "depth", f"at most {MAX_DEPTH} values inside each other", "more")
        if count * self._effort > MAX_EFFORT:
            most = MAX_EFFORT // self._effort
            return Problem("", "size", f"at most {most} values, by a schema like this", f"{count} values")
        if self._unique and count > MAX_VAST and (vast := count_vast(value)) > MAX_VAST:
            return Problem("", "uniqueItems", f"at most {MAX_VAST} integers beyond 64 bits", f"{vast}")
        return None

    def _first(self, value: Any) -> tuple[Problem, ...]:
        try:
            self._compiled.validate(value)
        except engine().ValidationError as error:
            return (problem(error),)
        return ()


_RECENT: Recent[tuple[str, bool], Validator] = Recent(count=512, weight=64 * 1024 * 1024)
"""Validators by schema and option; without patterns, one takes about twenty times the text of its schema."""
