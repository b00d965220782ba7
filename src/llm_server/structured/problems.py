"""What is wrong with an answer, in a form that people, programs and models can act on."""

from llm_server.contract import Problem

__all__ = ["Problem", "pointer", "shortened"]

SHORT = 160
"""Most characters of a quoted value or of an expectation."""


def pointer(path: list[str | int] | tuple[str | int, ...]) -> str:
    """Return the JSON pointer of ``path``, each step escaped; RFC 6901, section 3."""
    return "".join("/" + str(step).replace("~", "~0").replace("/", "~1") for step in path)


def shortened(text: str) -> str:
    """Return ``text`` cut to :data:`SHORT` characters, with an ellipsis where something is left out."""
    return text if len(text) <= SHORT else text[: SHORT - 1] + "…"
