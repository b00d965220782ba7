"""Read what a GGUF file says about its model, without loading it.

Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

import mmap
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

from msgspec import Struct

_SCALARS = {
    0: "<B",
    1: "<b",
    2: "<H",
    3: "<h",
    4: "<I",
    5: "<i",
    6: "<f",
    7: "<?",
    10: "<Q",
    11: "<q",
    12: "<d",
}
_STRING, _ARRAY = 8, 9

_Value = int | float | bool | str | list[str] | tuple[int | float | bool, ...] | None
_CONTROL_TOKENS = (2, 3)  # unknown and control: they are not text


class GgufError(Exception):
    """The file is not a GGUF file that this server understands."""


class ModelFile(Struct, frozen=True, kw_only=True):
    """What a model file says. ``context`` is the length the model was trained for, 0 if not said."""

    architecture: str
    context: int
    chat_template: str
    bos_token: str
    eos_token: str


class Cursor:
    """Reads values one after the other; ``at`` is where the next one stands, in bytes."""

    def __init__(self, data: mmap.mmap) -> None:
        self._data = data
        self.at = 0
        self.tensors = 0

    def take(self, size: int) -> bytes:
        """Return the next ``size`` bytes."""
        self.at += size
        return self._data[self.at - size : self.at]

    def number(self, kind: int) -> int | float | bool:
        """Return the next number, of scalar type ``kind``."""
        layout = _SCALARS[kind]
        value: int | float | bool = struct.unpack(layout, self.take(struct.calcsize(layout)))[0]
        return value

    def integer(self, kind: int) -> int:
        """Return the next number, which is an integer."""
        return int(self.number(kind))

    def length(self) -> int:
        """Return the next length or count."""
        return self.integer(10)

    def string(self) -> str:
        """Return the next string."""
        return self.take(self.length()).decode(errors="replace")

    def array(self) -> _Value:
        """Return the next array; one of arrays is stepped over."""
        kind, count = self.integer(4), self.length()
        if kind == _STRING:
            return [self.string() for _ in range(count)]
        if kind == _ARRAY:
            for _ in range(count):
                self.array()
            return None
        letter = _SCALARS[kind][1]
        return struct.unpack(f"<{count}{letter}", self.take(count * struct.calcsize(f"<{letter}")))

    def value(self) -> _Value:
        """Return the next value, after its type."""
        kind = self.integer(4)
        if kind == _STRING:
            return self.string()
        return self.array() if kind == _ARRAY else self.number(kind)

    def pairs(self) -> Iterator[tuple[str, int, _Value]]:
        """Read the head: yield each key, where its type and value stand, and the value; count ``tensors``."""
        if self.take(4) != b"GGUF":
            raise ValueError("no magic number")
        if (version := self.number(4)) not in {2, 3}:
            raise ValueError(f"version {version}")
        self.tensors = self.length()
        for _ in range(self.length()):
            key, at = self.string(), self.at
            yield key, at, self.value()


def read(path: Path) -> ModelFile:
    """Return what the GGUF file at ``path`` says about its model.

    Raises:
        GgufError: it is no GGUF file, or is cut short.
        OSError: it cannot be read.
    """
    facts = _facts(path)
    architecture = str(facts.get("general.architecture", ""))
    return ModelFile(
        architecture=architecture,
        context=_integer(facts.get(f"{architecture}.context_length")),
        chat_template=str(facts.get("tokenizer.chat_template") or ""),
        bos_token=_token(facts, "bos"),
        eos_token=_token(facts, "eos"),
    )


def vocabulary(path: Path) -> list[bytes]:
    """Return the bytes that each token of the model at ``path`` stands for; none for control tokens.

    Bytes and not text, because a token may be a part of a character.

    Raises:
        GgufError: the file is none, or its tokenizer is of an unknown kind.
    """
    facts = _facts(path)
    tokens, kinds, model = (facts.get(f"tokenizer.ggml.{key}") for key in ("tokens", "token_type", "model"))
    if not isinstance(tokens, list) or model not in {"gpt2", "llama"}:
        raise GgufError(f"{path} has no tokenizer that this server understands ({model}).")
    spell = _gpt2() if model == "gpt2" else _sentencepiece
    kinds = kinds if isinstance(kinds, tuple) else (1,) * len(tokens)
    return [
        b"" if kind in _CONTROL_TOKENS else spell(token) for token, kind in zip(tokens, kinds, strict=True)
    ]


def _gpt2() -> Callable[[str], bytes]:
    """Byte-level BPE writes each byte as a printable character: itself, or one from U+0100 on.

    Source: https://github.com/openai/gpt-2/blob/master/src/encoder.py (bytes_to_unicode)
    """
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = (byte for byte in range(256) if byte not in printable)
    table = {chr(byte): byte for byte in printable} | {
        chr(0x100 + at): byte for at, byte in enumerate(others)
    }

    def spell(token: str) -> bytes:
        # A token added by hand is plain text, whose other characters stand for themselves.
        return b"".join(bytes((table[char],)) if char in table else char.encode() for char in token)

    return spell


def _sentencepiece(token: str) -> bytes:
    if len(token) == len("<0x00>") and token.startswith("<0x"):
        return bytes.fromhex(token[3:5])
    return token.replace("\u2581", " ").encode()


def _facts(path: Path) -> dict[str, _Value]:
    with path.open("rb") as stream:
        try:
            with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
                return {key: value for key, _, value in Cursor(data).pairs()}
        except (struct.error, KeyError, ValueError, MemoryError) as error:
            raise GgufError(f"{path} is not a GGUF model file.") from error


def _integer(value: _Value) -> int:
    return value if isinstance(value, int) else 0


def _token(facts: dict[str, _Value], role: str) -> str:
    tokens, at = facts.get("tokenizer.ggml.tokens"), facts.get(f"tokenizer.ggml.{role}_token_id")
    return tokens[at] if isinstance(tokens, list) and isinstance(at, int) and 0 <= at < len(tokens) else ""
