"""A JSON text that may be said already, while the one it comes from still grows."""

import re
from typing import Any

from llm_server.structured import parsing
from llm_server.structured.methods.port import Method
from llm_server.structured.restoring import Undecided

_NUMBER = re.compile(r"-?[0-9][0-9.eE+-]*$")
_FENCE = re.compile(r"\A\s*```[A-Za-z0-9_-]*[ \t]*\n")
EVERY = 64
"""Of a text of n characters, the next look comes after n / 64 more: looking costs as much as the text is
long."""


MAX_LOOKED = 256 * 1024
"""Characters up to which it is looked for what is certain: what comes after them is said at the end."""


class Verbatim:
    """What of an answer is certain where the model is held to the caller's own form: all of it."""

    def __init__(self) -> None:
        self._pieces: list[str] = []

    @property
    def said(self) -> str:
        """All that was said."""
        return "".join(self._pieces)

    def grow(self, text: str) -> str:
        """Return ``text``, which may be said."""
        self._pieces.append(text)
        return text

    def rest(self, whole: str) -> str | None:
        """Return what is left to say of the ``whole`` answer; ``None`` if it begins in another way."""
        said = self.said
        return whole[len(said) :] if whole.startswith(said) else None


class Growing:
    """What of an answer is certain. What was said is never taken back, so what may still change waits."""

    def __init__(self, method: Method, *, bare: bool) -> None:
        self._method = method
        self._waits = bare or not method.json  # an answer of a few words: it is said when it is judged
        self._pieces: list[str] = []
        self._length = self._looked = 0
        self.said = ""

    def grow(self, text: str) -> str:
        """Add ``text`` to what the model said; return what may be said further."""
        self._length += len(text)
        if self._waits or self._length > MAX_LOOKED:
            return ""
        self._pieces.append(text)
        if self._length - self._looked < self._looked // EVERY:
            return ""
        self._looked = self._length
        self._pieces = ["".join(self._pieces)]
        try:
            value = parsing.partial(_FENCE.sub("", self._pieces[0]))
            certain = _certain(self._method.unwrap_partial(value))
        except (ValueError, Undecided):
            return ""
        if not certain.startswith(self.said):
            return ""
        more, self.said = certain[len(self.said) :], certain
        return more

    def rest(self, whole: str) -> str | None:
        """Return what is left to say of the ``whole`` answer; ``None`` if it begins in another way."""
        if not whole.startswith(self.said):
            whole = parsing.written(parsing.strict(whole))
        return whole[len(self.said) :] if whole.startswith(self.said) else None


def _certain(value: Any) -> str:
    """Return the JSON text of ``value`` up to where it may grow: its last text, number, object or list."""
    text = parsing.written(value).rstrip("}]")
    if text.endswith('"'):
        return text[:-1]
    return _NUMBER.sub("", text)
