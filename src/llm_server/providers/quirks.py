"""How OpenAI-compatible servers differ from OpenAI and from each other, as data."""

from collections.abc import Mapping
from types import MappingProxyType

from msgspec import Struct

OLDER = MappingProxyType({"max_completion_tokens": "max_tokens"})
"""Chat fields that have another name in the many copies of the API's older form."""


class Quirks(Struct, frozen=True, kw_only=True):
    """What a server of this dialect takes. The defaults suit the many that copied the API's older form.

    Field names are those of the wire. ``prefix`` stands before every path, ``query`` after it; ``{model}`` in
    the prefix is the model's name.
    """

    prefix: str = ""
    query: str = ""
    models_path: str = ""
    """Where models are listed, if not at ``prefix`` + ``models``; Ollama's own list is understood too."""
    chat_renames: Mapping[str, str] = OLDER
    embed_renames: Mapping[str, str] = {}
    refuses: frozenset[str] = frozenset()
    """Fields that are answered with an error: left out and reported."""
    accepts: frozenset[str] | None = None
    """The only fields that are not answered with an error, where a server is that strict."""
    stream_options: bool = True
    """Whether usage must be asked for; otherwise streams have it anyway and the field is refused."""
    developer: bool = False
    """Whether the role ``developer`` is known; ``system`` is everywhere."""
    base64: bool = True
    """Whether embeddings can be asked for as base64."""
    names: bool = True
    """Whether messages may have a ``name``."""
    bare_tools: bool = True
    """Whether a function may leave out its parameters."""
    reasoning: str = ""
    """The field of an assistant message that takes back its earlier reasoning, if any does."""
    max_stop: int = 4
    tool_id: str = r".{1,40}"
    """What a tool call's id must look like; others become a hash of ``tool_id_length`` characters."""
    tool_id_length: int = 24
