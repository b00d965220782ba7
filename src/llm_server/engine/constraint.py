"""Hold generated text to a grammar, and make sure that it was held.

llama.cpp runs a request unconstrained when its llguidance refuses the grammar, or gives it up on the way (as
with a grammar that spells out a control token), and tells nobody. So the same llguidance is asked here first,
and follows the text: what is not in the grammar does not leave the engine.
"""

import importlib.util
import re
from functools import cache
from typing import Any

from llm_server.contract import ErrorKind, ServerError

_HEADER = "%llguidance {}\n"
"""How llama.cpp knows llguidance's Lark from its own GBNF."""
_COUNTS_TOKENS = re.compile(r'\[[^\]"\n]*\bmax_tokens\s*=')
"""An attribute of a rule. Text does not tell how many tokens it was."""


def available() -> bool:
    """Tell whether llguidance is installed, without loading it."""
    return importlib.util.find_spec("llguidance") is not None


def marked(grammar: str) -> str:
    """Return ``grammar``, a text in llguidance's Lark, as llama.cpp and llguidance both read it."""
    return grammar if grammar.startswith("%llguidance") else _HEADER + grammar


class Constraint:
    """A grammar, and how far one text in it has come. For one text only.

    Args:
        grammar: llguidance's Lark, with or without its header.

    Raises:
        ServerError: ``INVALID_REQUEST`` for a grammar that llguidance refuses, ``UNSUPPORTED`` without
            llguidance or for a grammar that counts tokens.
    """

    def __init__(self, grammar: str) -> None:
        if not available():
            raise ServerError(ErrorKind.UNSUPPORTED, "Grammars need the package llguidance.")
        if _COUNTS_TOKENS.search(grammar):
            raise ServerError(ErrorKind.UNSUPPORTED, "max_tokens in a grammar is not supported.")
        import llguidance

        self._matcher = llguidance.LLMatcher(_bytes_tokenizer(), marked(grammar), log_level=0)
        if self._matcher.is_error():
            why = self._matcher.get_error()
            message = f"The grammar is refused: {why.partition(chr(10))[0]}"
            raise ServerError(ErrorKind.INVALID_REQUEST, message, detail=why)

    def takes(self, text: str) -> bool:
        """Go on by ``text``; return whether the grammar allows it. After a no, it is no for ever."""
        return bool(self._matcher.consume_tokens(list(text.encode())))

    @property
    def complete(self) -> bool:
        """Whether the text may be over here."""
        return bool(self._matcher.is_accepting())


@cache
def _bytes_tokenizer() -> Any:
    import llguidance

    return llguidance.LLTokenizer(llguidance.TokenizerWrapper(_Bytes()))


class _Bytes:
    """A tokenizer, as llguidance wants one, whose tokens are the 256 bytes and the end."""

    eos_token_id = 256
    bos_token_id = None
    special_token_ids = (256,)
    tokens = (*(bytes((byte,)) for byte in range(256)), b"<end>")

    def __call__(self, text: bytes | str) -> list[int]:
        return list(text if isinstance(text, bytes) else text.encode())
