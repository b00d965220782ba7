"""The drafts of JSON Schema, and the engine that knows them all: jsonschema-rs."""

from functools import cache
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal

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
PATTERN_BYTES = 1024 * 1024
"""Most memory of one compiled pattern."""


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


def build(value: dict[str, Any], draft: Draft, *, formats: bool) -> "Validator":
    """Compile ``value`` for validation, asserting ``format`` or not; ``$schema`` is not looked at.

    Patterns run on automata in linear time. The few that no automaton can run (lookaround, back references)
    run with at most :data:`BACKTRACKS` steps back; a value for which those do not suffice is invalid.
    Nothing is fetched.

    Raises:
        jsonschema_rs.ValidationError: the schema cannot be compiled.
    """
    rs = engine()
    kind: type[Validator] = getattr(rs, f"Draft{draft.replace('-', '')}Validator")
    options = rs.FancyRegexOptions(
        backtrack_limit=BACKTRACKS, size_limit=PATTERN_BYTES, dfa_size_limit=PATTERN_BYTES
    )
    return kind(
        {key: each for key, each in value.items() if key != "$schema"},
        validate_formats=formats,
        pattern_options=options,
        offline=True,
    )
