"""Turn tokens into text while they come."""

from collections.abc import Callable, Sequence

_UNFINISHED = "\ufffd"
"""What decoders write for a part of a character."""


class Spelling:
    """The text of a growing list of tokens, in pieces of whole characters.

    A token's text depends on those before it (blanks, characters of several tokens), so a few of them are
    decoded again. The way is that of TGI: https://github.com/huggingface/text-generation-inference
    (``decode_token`` in ``server/text_generation_server/models/model.py``).

    Args:
        decode: returns the text of some tokens.
    """

    def __init__(self, decode: Callable[[Sequence[int]], str]) -> None:
        self._decode = decode
        self._before: list[int] = []
        self._new: list[int] = []

    def add(self, token: int) -> str:
        """Return what ``token`` adds; nothing while it ends within a character."""
        self._new.append(token)
        text = self._text()
        return "" if text.endswith(_UNFINISHED) else self._told(text)

    def end(self) -> str:
        """Return what is left: the text is over, within a character if need be."""
        return self._told(self._text()) if self._new else ""

    def _text(self) -> str:
        return self._decode(self._before + self._new)[len(self._decode(self._before)) :]

    def _told(self, text: str) -> str:
        if text:
            self._before, self._new = self._new, []
        return text
