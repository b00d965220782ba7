"""Compressed answers cost what their size is, whatever they are made of."""

import gzip
import zlib

import pytest

from llm_server.contract import ErrorKind, ServerError
from llm_server.pool.direct.decoding import MAX_MEMBERS, PIECE_BYTES, SLICE_BYTES, Decoder

EMPTY = gzip.compress(b"")


def decoded(data: bytes, *, gzipped: bool = True) -> bytes:
    decode = Decoder(1 << 30, gzipped=gzipped)
    whole = b"".join(decode.feed(data))
    decode.end()
    return whole


def test_members_are_joined_up_to_a_bound() -> None:
    assert decoded(gzip.compress(b"a") + EMPTY * 3 + gzip.compress(b"b")) == b"ab"
    assert decoded(EMPTY * MAX_MEMBERS) == b""
    with pytest.raises(ServerError) as caught:
        decoded(EMPTY * (MAX_MEMBERS + 1))
    assert caught.value.kind is ErrorKind.UPSTREAM_INVALID


@pytest.mark.parametrize("size", [0, 1, SLICE_BYTES - 20, SLICE_BYTES * 3 + 1, PIECE_BYTES * 2 + 1])
@pytest.mark.parametrize("level", [0, 9])
def test_any_size_is_what_was_compressed(size: int, level: int) -> None:
    body = bytes(at * 7 & 0xFF for at in range(size))
    assert decoded(gzip.compress(body, level)) == body
    assert decoded(zlib.compress(body, level), gzipped=False) == body


def test_zlib_is_never_given_more_than_a_slice(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[int] = []
    real = zlib.decompressobj

    class Noted:
        def __init__(self, wbits: int) -> None:
            self._inflate = real(wbits)

        def decompress(self, data: bytes, most: int) -> bytes:
            given.append(len(data))
            return self._inflate.decompress(data, most)

        def __getattr__(self, name: str) -> object:
            return getattr(self._inflate, name)

    monkeypatch.setattr("llm_server.pool.direct.decoding.zlib.decompressobj", Noted)
    body = bytes(SLICE_BYTES * 20)
    assert decoded(gzip.compress(body, 0)) == body
    assert max(given) <= SLICE_BYTES
    assert sum(given) < 2 * len(body)
