"""Regular expressions over what a model wrote: as in JSON Schema, and in linear time whatever is written."""

from functools import lru_cache
from typing import TYPE_CHECKING

from llm_server.structured.bounds import MAX_PATTERN
from llm_server.structured.drafts import LARGE_PATTERN, engine

if TYPE_CHECKING:
    from jsonschema_rs import Validator

REMEMBERED = 1_000


class Pattern:
    """A pattern that is looked for anywhere in a text.

    Its syntax is that of ``pattern`` in JSON Schema, without what needs steps back (lookaround, back
    references): it runs on an automaton.

    Raises:
        ValueError: it is none, or too large.
    """

    def __init__(self, text: str) -> None:
        if len(text) > MAX_PATTERN:
            raise ValueError(f"a pattern has {len(text)} characters; at most {MAX_PATTERN} are taken")
        self.text = text
        self._validator = _compiled(text)

    def found(self, text: str) -> bool:
        """Whether it matches somewhere in ``text``."""
        return self._validator.is_valid(text)


@lru_cache(REMEMBERED)
def _compiled(text: str) -> "Validator":
    rs = engine()
    try:
        made: Validator = rs.Draft202012Validator(
            {"pattern": text}, pattern_options=rs.RegexOptions(LARGE_PATTERN, LARGE_PATTERN), offline=True
        )
    except rs.ValidationError:
        more = "or needs lookaround, back references or too much room"
        raise ValueError(f"'{text}' is no regular expression, {more}") from None
    return made
