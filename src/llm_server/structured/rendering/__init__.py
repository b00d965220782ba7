"""Types of a schema in other languages, as source text: a Pydantic model, TypeScript types.

Nothing is executed here. A rendered type takes every value that the schema takes (whole numbers must be
written without a point), and refuses the others but for keywords that the language has no word for: those are
named in a comment at its top.
"""

from typing import Literal

from llm_server.structured.rendering.python import pydantic_source
from llm_server.structured.rendering.reading import read
from llm_server.structured.rendering.typescript import typescript_source
from llm_server.structured.schema import Schema

Language = Literal["pydantic", "typescript"]

_PRINTERS = {"pydantic": pydantic_source, "typescript": typescript_source}


def render(schema: Schema, language: Language, name: str = "") -> str:
    """Return the source of types for ``schema``; the root is called after its title, else ``name``."""
    return _PRINTERS[language](read(schema, name))


__all__ = ["Language", "render"]
