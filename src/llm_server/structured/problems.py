"""What is wrong with an answer, in a form that people, programs and models can act on."""

from msgspec import Struct


class Problem(Struct, frozen=True):
    """One reason why a value does not satisfy its schema.

    ``pointer`` is the JSON pointer (RFC 6901) of the value at fault, ``""`` for the whole; ``keyword`` the
    schema keyword that it breaks; ``expected`` and ``found`` are texts of at most :data:`SHORT` characters.
    """

    pointer: str
    keyword: str
    expected: str
    found: str

    def __str__(self) -> str:
        """Say it in one line: ``/age: expected an integer, found "four" (type)``."""
        place = self.pointer or "the answer"
        return f"{place}: expected {self.expected}, found {self.found} ({self.keyword})"


SHORT = 160
"""Most characters of a quoted value or of an expectation."""


def pointer(path: list[str | int] | tuple[str | int, ...]) -> str:
    """Return the JSON pointer of ``path``, each step escaped; RFC 6901, section 3."""
    return "".join("/" + str(step).replace("~", "~0").replace("/", "~1") for step in path)


def shortened(text: str) -> str:
    """Return ``text`` cut to :data:`SHORT` characters, with an ellipsis where something is left out."""
    return text if len(text) <= SHORT else text[: SHORT - 1] + "…"
