"""The drafts of JSON Schema, and the engine that knows them all: jsonschema-rs."""

from contextlib import suppress
from functools import cache
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

if TYPE_CHECKING:
    from jsonschema_rs import Validator

Draft = Literal["4", "6", "7", "2019-09", "2020-12"]

METASCHEMAS: dict[Draft, str] = {
    "2020-12": "https://json-schema.org/draft/2020-12/schema",
    "2019-09": "https://json-schema.org/draft/2019-09/schema",
    "7": "http://json-schema.org/draft-07/schema",
    "6": "http://json-schema.org/draft-06/schema",
    "4": "http://json-schema.org/draft-04/schema",
}
"""What ``$schema`` says for each draft, newest first, without the ``#`` that may end it."""
BACKTRACKS = 10_000
"""Most steps back in one match of a pattern: about 7 ms of work."""
SMALL_PATTERN, LARGE_PATTERN = 64 * 1024, 4 * 1024 * 1024
"""Bytes that almost every compiled pattern keeps to, and the most that any may take."""
ALL_PATTERNS = 32 * 1024 * 1024
"""Most bytes of all compiled patterns of one schema."""


@cache
def engine() -> ModuleType:
    """Return the module ``jsonschema_rs``, loaded at first use: it takes a thirtieth of a second."""
    import jsonschema_rs

    return jsonschema_rs


def candidates(value: dict[str, Any]) -> tuple[Draft, ...]:
    """Return the drafts that ``value`` may be in: the one that ``$schema`` names, else all, newest first."""
    declared = str(value.get("$schema", "")).removesuffix("#")
    named = tuple(draft for draft, uri in METASCHEMAS.items() if uri == declared)
    return named or tuple(METASCHEMAS)


class Built(NamedTuple):
    """A compiled schema, and the most bytes that its patterns may take."""

    validator: "Validator"
    pattern_bytes: int


def build(value: dict[str, Any], draft: Draft, *, formats: bool, patterns: int) -> Built:
    """Compile ``value``, which holds so many ``patterns``, for validation; ``$schema`` is not looked at.

    Patterns run on automata in linear time. The few that no automaton can run (lookaround, back references)
    run with at most :data:`BACKTRACKS` steps back; a value for which those do not suffice is invalid.
    Nothing is fetched. ``formats``: whether ``format`` is asserted.

    Raises:
        jsonschema_rs.ValidationError: the schema cannot be compiled.
    """
    most = min(LARGE_PATTERN, ALL_PATTERNS // max(patterns, 1))
    if patterns and most > SMALL_PATTERN:
        with suppress(engine().ValidationError):  # then some pattern is larger, or something else is wrong
            return Built(_compiled(value, draft, formats, SMALL_PATTERN), patterns * SMALL_PATTERN)
    return Built(_compiled(value, draft, formats, most), patterns * most)


def _compiled(value: dict[str, Any], draft: Draft, formats: bool, pattern_bytes: int) -> "Validator":
    rs = engine()
    kind: type[Validator] = getattr(rs, f"Draft{draft.replace('-', '')}Validator")
    return kind(
        {key: each for key, each in value.items() if key != "$schema"},
        validate_formats=formats,
        pattern_options=rs.FancyRegexOptions(BACKTRACKS, pattern_bytes, pattern_bytes),
        offline=True,
    )
