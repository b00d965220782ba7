"""The vocabulary of the embedded model, as the engines want it."""

from pathlib import Path
from typing import Any

from llm_server.engine.gguf import vocabulary

END = 2
"""``<|im_end|>``, the token that ends an answer of SmolLM2-Instruct."""


class Vocabulary:
    """Tokens as bytes (empty for control tokens), and how text becomes tokens: the longest first."""

    def __init__(self, model: Path) -> None:
        import llguidance

        self.tokens = vocabulary(model)
        self.tokenizer: Any = llguidance.LLTokenizer(llguidance.TokenizerWrapper(_Spelled(self.tokens)))

    def encode(self, text: str) -> list[int]:
        """Return the tokens of ``text``."""
        return list(self.tokenizer.greedy_tokenize(text))


class _Spelled:
    """What llguidance asks of a tokenizer; texts that it tokenizes itself are spelled byte by byte."""

    eos_token_id = END
    bos_token_id = 1

    def __init__(self, tokens: list[bytes]) -> None:
        self.special_token_ids = [number for number, token in enumerate(tokens) if not token]
        self.tokens = [token or f"<{number}>".encode() for number, token in enumerate(tokens)]
        self._bytes = {token[0]: number for number, token in enumerate(tokens) if len(token) == 1}

    def __call__(self, text: bytes | str) -> list[int]:
        return [self._bytes[byte] for byte in (text if isinstance(text, bytes) else text.encode())]
