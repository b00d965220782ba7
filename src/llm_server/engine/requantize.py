"""Rewrite the Q4_1 tensors of a GGUF file as Q8_0: the same weights, in a form that computes well.

Measured with SmolLM2-135M on AVX2: llama.cpp computes prompts and batches of Q4_1 hardly faster than single
tokens (eight streams: 68 tokens per CPU second with Q4_1, 93 with Q8_0); OpenVINO answers visibly worse from
Q4_1 than llama.cpp does from the same file, and the same from Q8_0. Eight bits hold four bits and an offset
with an error of about 0.4 % of the block's largest weight; the file grows by half.

Formats: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md and, for the blocks,
https://github.com/ggml-org/ggml/blob/master/src/ggml-common.h (block_q4_1, block_q8_0)
"""

import mmap
import struct
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from msgspec import Struct

from llm_server.engine.gguf import Cursor

if TYPE_CHECKING:
    import numpy as np

_Q4_1, _Q8_0 = 3, 8
_FILE_TYPE_Q8_0 = 7
_BLOCK = 32
_Q4_1_BYTES, _Q8_0_BYTES = 20, 34
_ALIGNMENT = 32


class _Tensor(Struct, frozen=True):
    """A tensor's head. ``at`` and ``size`` are bytes in the file that it is read from."""

    name: str
    dimensions: tuple[int, ...]
    kind: int
    at: int
    size: int

    @property
    def rewritten(self) -> bool:
        return self.kind == _Q4_1

    @property
    def written_size(self) -> int:
        return self.size // _Q4_1_BYTES * _Q8_0_BYTES if self.rewritten else self.size

    def head(self, offset: int) -> bytes:
        name, kind = self.name.encode(), _Q8_0 if self.rewritten else self.kind
        layout = f"<Q{len(name)}sI{len(self.dimensions)}QIQ"
        return struct.pack(layout, len(name), name, len(self.dimensions), *self.dimensions, kind, offset)


def requantize(source: Path, sink: BinaryIO) -> None:
    """Write the model at ``source`` to ``sink``, its Q4_1 tensors as Q8_0 and everything else as it is."""
    with source.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
        cursor = Cursor(data)
        types = {key: at for key, at, _ in cursor.pairs() if key == "general.file_type"}
        head = bytearray(data[: cursor.at])
        for at in types.values():
            struct.pack_into("<I", head, at + 4, _FILE_TYPE_Q8_0)
        tensors = _tensors(cursor, len(data))
        offset = 0
        for tensor in tensors:
            head += tensor.head(offset)
            offset += tensor.written_size + -tensor.written_size % _ALIGNMENT
        sink.write(head + bytes(-len(head) % _ALIGNMENT))
        for tensor in tensors:
            body = data[tensor.at : tensor.at + tensor.size]
            sink.write(_q8_0(body) if tensor.rewritten else body)
            sink.write(bytes(-tensor.written_size % _ALIGNMENT))


def _tensors(cursor: Cursor, end: int) -> list[_Tensor]:
    """Return the tensors in the order of their data. A size may include the padding to the next one."""
    heads = []
    for _ in range(cursor.tensors):
        name, count = cursor.string(), cursor.integer(4)
        dimensions = tuple(cursor.length() for _ in range(count))
        heads.append((name, dimensions, cursor.integer(4), cursor.length()))
    base = cursor.at + -cursor.at % _ALIGNMENT
    heads.sort(key=lambda head: head[3])
    ends = [base + head[3] for head in heads[1:]] + [end]
    return [
        _Tensor(name, dimensions, kind, base + at, _size(dimensions, kind, following - base - at))
        for (name, dimensions, kind, at), following in zip(heads, ends, strict=True)
    ]


def _size(dimensions: tuple[int, ...], kind: int, room: int) -> int:
    if kind != _Q4_1:
        return room
    values = 1
    for dimension in dimensions:
        values *= dimension
    return values // _BLOCK * _Q4_1_BYTES


def _q8_0(body: bytes) -> bytes:
    """Return Q4_1 blocks as Q8_0 blocks."""
    import numpy as np

    blocks = np.frombuffer(body, np.dtype([("scale", "<f2"), ("offset", "<f2"), ("values", "u1", 16)]))
    nibbles = np.concatenate([blocks["values"] & 15, blocks["values"] >> 4], axis=1)
    weights = nibbles * _column(blocks["scale"]) + _column(blocks["offset"])
    scale = np.abs(weights).max(axis=1) / np.float32(127)
    inverse = np.divide(1, scale, out=np.zeros_like(scale), where=scale > 0)
    written = np.empty(len(blocks), np.dtype([("scale", "<f2"), ("values", "i1", _BLOCK)]))
    written["scale"] = scale
    written["values"] = np.rint(weights * inverse[:, None])
    return written.tobytes()


def _column(
    values: "np.ndarray[tuple[int, ...], np.dtype[np.float16]]",
) -> "np.ndarray[tuple[int, ...], np.dtype[np.float32]]":
    return values.astype("<f4")[:, None]
