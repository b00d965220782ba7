"""What is written is one request, or nothing; and what is compressed is read back, or refused."""

import gzip
import zlib
from itertools import pairwise

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_server.contract import ErrorKind, HttpRequest, Secret, ServerError
from llm_server.pool.direct.decoding import LARGEST_RATIO, PIECE_BYTES, decoder
from llm_server.pool.requests import REMEMBERED_HEADS, Heads, origin_of
from tests.pool.peers import KEY

ORIGIN = origin_of("http://host:8000/v1")
TRICKY = st.sampled_from(
    ["\r", "\n", "\0", "\r\n\r\n", " ", "\t", "#", "?", "\x7f", "\x85", "\u2028", "\ud800", "\xe9"]
)
TEXT = st.lists(TRICKY | st.text(max_size=6) | st.sampled_from(["a", "x-y", "chat/completions", ": "])).map(
    "".join
)


def written(request: HttpRequest) -> bytes:
    head = Heads(ORIGIN, {"authorization": Secret(KEY)}).of(request.method, request.path, request.headers)
    return head + b"content-length: %d\r\n\r\n" % len(request.body) + request.body


@given(
    st.sampled_from(["POST", "GET", "PUT"]) | TEXT,
    TEXT,
    st.lists(st.tuples(TEXT, TEXT), max_size=3).map(tuple),
    st.binary(max_size=40),
)
def test_any_request_is_refused_or_is_exactly_one_on_the_wire(
    method: str, path: str, headers: tuple[tuple[str, str], ...], body: bytes
) -> None:
    request = HttpRequest(method=method, path=path, headers=headers, body=body)
    try:
        data = written(request)
    except ServerError as error:
        refused = error
        assert refused.kind is ErrorKind.INVALID_REQUEST
        return
    server = h11.Connection(h11.SERVER)
    server.receive_data(data)
    got = server.next_event()
    assert isinstance(got, h11.Request)
    assert got.method.decode() == method
    assert got.target.decode() == f"/v1/{path.lstrip('/')}"
    given_names = [name.lower().encode() for name, _ in headers]
    names = [name for name, _ in got.headers]
    usual = {b"host", b"user-agent", b"accept", b"accept-encoding"} - set(given_names)
    assert sorted(names) == sorted([*usual, b"authorization", b"content-length", *given_names])
    content = b""
    while isinstance(event := server.next_event(), h11.Data):
        content += event.data
    assert isinstance(event, h11.EndOfMessage)
    assert content == body
    assert server.trailing_data == (b"", False)


def test_heads_are_kept_ready_and_not_without_bound() -> None:
    heads = Heads(ORIGIN, {"authorization": Secret(KEY)})
    assert heads.of("POST", "a", ()) is heads.of("POST", "a", ())
    for number in range(2 * REMEMBERED_HEADS):
        heads.of("POST", f"m{number}", ())
    assert heads.of.cache_info().currsize == REMEMBERED_HEADS
    assert KEY not in repr(heads)


def through(coding: str, data: bytes, cuts: list[int], limit_bytes: int = 1 << 20) -> bytes:
    made = decoder(coding, limit_bytes)
    assert made is not None
    out = b""
    bounds = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    for start, stop in pairwise(bounds):
        for piece in made.feed(data[start:stop]):
            assert 0 < len(piece) <= PIECE_BYTES
            out += piece
    made.end()
    return out


def raw_deflate(data: bytes) -> bytes:
    squeeze = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return squeeze.compress(data) + squeeze.flush()


COMPRESSED = {
    "gzip": gzip.compress,
    "x-gzip": gzip.compress,
    "deflate": zlib.compress,
}


@given(
    st.binary(max_size=2000), st.sampled_from(sorted(COMPRESSED)), st.lists(st.integers(0, 300), max_size=5)
)
def test_what_is_compressed_is_read_back_however_it_is_cut(data: bytes, coding: str, cuts: list[int]) -> None:
    assert through(coding, COMPRESSED[coding](data), cuts) == data


@given(st.text(min_size=1, max_size=300), st.lists(st.integers(0, 100), max_size=3))
def test_deflate_without_its_header_is_taken_too(text: str, cuts: list[int]) -> None:
    assert through("deflate", raw_deflate(text.encode()), cuts) == text.encode()


def test_gzip_may_have_several_members() -> None:
    data = gzip.compress(b"one") + gzip.compress(b"") + gzip.compress(b"two")
    for cut in range(len(data)):
        assert through("gzip", data, [cut]) == b"onetwo"


@pytest.mark.parametrize("coding", COMPRESSED)
@pytest.mark.parametrize("how", ["cut", "followed", "none"])
def test_what_is_not_compressed_so_is_refused(coding: str, how: str) -> None:
    data = COMPRESSED[coding](b"some text, some text")
    broken = {"cut": data[:-5], "followed": data + b"more", "none": b"some text"}[how]
    with pytest.raises(ServerError) as caught:
        through(coding, broken, [])
    assert caught.value.kind is ErrorKind.UPSTREAM_INVALID


@given(st.binary(max_size=200), st.sampled_from(sorted(COMPRESSED)))
def test_any_bytes_are_read_or_refused(data: bytes, coding: str) -> None:
    try:
        through(coding, data, [])
    except ServerError as error:
        kind = error.kind
        assert kind is ErrorKind.UPSTREAM_INVALID


@pytest.mark.parametrize("coding", COMPRESSED)
def test_a_stream_that_is_suspiciously_small_ends_at_its_bound(coding: str) -> None:
    """A stream has no bound of its own while it compresses as text does."""
    bomb = COMPRESSED[coding](b"\0" * (64 << 20))
    with pytest.raises(ServerError, match="too large"):
        through(coding, bomb, [])
    text = b"".join(b'data: {"n": %d}\n\n' % number for number in range(200_000))
    squeezed = COMPRESSED[coding](text)
    assert len(text) < LARGEST_RATIO * len(squeezed)
    assert through(coding, squeezed, []) == text
