"""Content codings of answers: gzip and deflate (RFC 9110 8.4.1), a bounded piece at a time."""

import zlib
from collections.abc import Iterator
from typing import Protocol

from llm_server.pool.failures import too_large, undecodable

PIECE_BYTES = 256 * 1024
"""Most that is decompressed at once: a small piece can be a thousand times larger inside."""
SLICE_BYTES = 16 * 1024
"""Most that is given to zlib at once: it copies what it leaves, so a whole body would cost its square."""
MAX_MEMBERS = 1000
"""Members of a gzip body. One is usual; each may be empty, and then costs something and says nothing."""
LARGEST_RATIO = 100
"""A stream larger than a whole answer may be is no answer when it is more times larger than what was sent.

Text of models compresses to a third, very repetitive JSON to a thirtieth; deflate itself ends at 1,032.
"""


class _Inflate(Protocol):
    """What ``zlib.decompressobj`` returns; it has no public name."""

    @property
    def eof(self) -> bool: ...
    @property
    def unconsumed_tail(self) -> bytes: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int = 0, /) -> bytes: ...


def decoder(coding: str, limit_bytes: int) -> "Decoder | None":
    """Return what undoes ``coding``, nothing for ``identity`` and no coding at all.

    Raises:
        ServerError: ``UPSTREAM_INVALID`` for a coding that nobody asked for.
    """
    match coding.strip().lower():
        case "" | "identity":
            return None
        case "gzip" | "x-gzip":
            return Decoder(limit_bytes, gzipped=True)
        case "deflate":
            return Decoder(limit_bytes, gzipped=False)
        case _:
            raise undecodable("a content coding that was not asked for")


class Decoder:
    """Decompresses one answer; see :data:`LARGEST_RATIO` for what ends it."""

    __slots__ = ("_gzipped", "_inflate", "_limit_bytes", "_members", "_read_bytes", "_written_bytes")

    def __init__(self, limit_bytes: int, *, gzipped: bool) -> None:
        self._limit_bytes = limit_bytes
        self._gzipped = gzipped
        self._inflate: _Inflate | None = None
        self._members = 0
        self._read_bytes = 0
        self._written_bytes = 0

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield what ``data`` holds, at most :data:`PIECE_BYTES` at a time.

        Raises:
            ServerError: ``UPSTREAM_INVALID`` for what is not compressed so, or suspiciously well.
        """
        for start in range(0, len(data), SLICE_BYTES):
            part = data[start : start + SLICE_BYTES]
            self._read_bytes += len(part)
            while part:
                piece, part = self._step(part)
                self._written_bytes += len(piece)
                suspicious = self._written_bytes > self._read_bytes * LARGEST_RATIO
                if suspicious and self._written_bytes > self._limit_bytes:
                    raise too_large(self._limit_bytes)
                if piece:
                    yield piece

    def end(self) -> None:
        """Say that nothing follows; raises ``UPSTREAM_INVALID`` when something is missing.

        An empty body is taken as such, whatever was said of its coding.
        """
        if self._inflate is not None and not self._inflate.eof:
            raise undecodable("its compressed data breaks off")

    def _step(self, data: bytes) -> tuple[bytes, bytes]:
        """Return what was decompressed, and what of ``data`` is left."""
        inflate = self._inflate
        if inflate is None or inflate.eof:
            if inflate is not None and not self._gzipped:
                raise undecodable("something follows its compressed data")
            self._members += 1
            if self._members > MAX_MEMBERS:
                raise undecodable(f"more than {MAX_MEMBERS} members")
            inflate = self._inflate = self._started(data)  # a further member of gzip: RFC 1952 2.2
        try:
            piece = inflate.decompress(data, PIECE_BYTES)
        except zlib.error as error:
            failure = undecodable(str(error))
        else:
            return piece, inflate.unused_data if inflate.eof else inflate.unconsumed_tail
        raise failure

    def _started(self, data: bytes) -> _Inflate:
        """Return a fresh decompressor; ``deflate`` is sent with its zlib header and, by mistake, without."""
        if self._gzipped:
            return zlib.decompressobj(16 + zlib.MAX_WBITS)
        # RFC 1950 2.2: the low half of the first byte is 8 for deflate; no raw block of use begins so.
        return zlib.decompressobj(zlib.MAX_WBITS if data[0] & 0x0F == 8 else -zlib.MAX_WBITS)
