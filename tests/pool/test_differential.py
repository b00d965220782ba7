"""Our reading of an answer against httpx2's and curl's, cut at every byte, and against any mutation of it."""

import asyncio
import gzip
import zlib
from collections.abc import AsyncIterator, Iterable
from itertools import pairwise

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_server.contract import ErrorKind, ServerError
from llm_server.pool.config import PoolConfig
from llm_server.pool.direct import DirectTransport
from llm_server.pool.direct.connection import Connection
from tests.pool.peers import POST, answering, peer, to

TEXT = b'{"choices":[{"message":{"content":"Hello, w\xc3\xb6rld"}}]}'


def chunked(body: bytes, *sizes: int) -> bytes:
    framed, at = b"", 0
    for size in (*sizes, len(body)):
        piece = body[at : at + size]
        at += size
        framed += b"%x\r\n%b\r\n" % (len(piece), piece) if piece else b""
    return framed + b"0\r\n\r\n"


HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
SQUEEZED = gzip.compress(TEXT, mtime=0)
ANSWERS = {
    "length": HEAD + b"Content-Length: %d\r\n\r\n" % len(TEXT) + TEXT,
    "chunks": HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + chunked(TEXT, 1, 2, 30),
    "chunks, upper case and extension": HEAD
    + b"TRANSFER-ENCODING: Chunked\r\n\r\nB;a=b\r\nhello world\r\n0;z\r\n\r\n",
    "trailers": HEAD + b"transfer-encoding: chunked\r\n\r\n" + chunked(TEXT)[:-2] + b"x-sum: 1\r\n\r\n",
    "until the close": HEAD + b"\r\n" + TEXT,
    "nothing": HEAD + b"content-length: 0\r\n\r\n",
    "interim": b"HTTP/1.1 100 Go\r\n\r\nHTTP/1.1 103 E\r\nlink: a\r\n\r\n"
    + HEAD
    + b"content-length: 2\r\n\r\nok",
    "no reason": b"HTTP/1.1 503\r\ncontent-length: 2\r\n\r\nno",
    "1.0": b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok",
    "1.0 until the close": b"HTTP/1.0 404 Not Found\r\n\r\nok",
    "gzip": HEAD + b"content-encoding: gzip\r\ncontent-length: %d\r\n\r\n" % len(SQUEEZED) + SQUEEZED,
    "gzip in chunks": HEAD
    + b"content-encoding: gzip\r\ntransfer-encoding: chunked\r\n\r\n"
    + chunked(SQUEEZED, 1, 7, 20),
    "deflate": HEAD
    + b"content-encoding: deflate\r\ntransfer-encoding: chunked\r\n\r\n"
    + chunked(zlib.compress(TEXT), 5),
    "204": b"HTTP/1.1 204 No Content\r\n\r\n",
    "error": b"HTTP/1.1 429 Slow\r\nretry-after: 1\r\ncontent-length: 4\r\n\r\nslow",
}


@pytest.fixture
async def client() -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient() as one:
        yield one


@pytest.mark.parametrize("name", ANSWERS)
async def test_httpx2_and_curl_read_the_same(name: str, client: httpx2.AsyncClient) -> None:
    async with peer(answering(ANSWERS[name], then="end")) as up, to(up.url) as wire:
        async with wire.exchange(POST) as response:
            ours = (response.status, await response.read())
            kind = response.headers.get("content-type", "")
        theirs = await client.post(f"{up.url}/v1/chat", content=b"{}")
        assert ours == (theirs.status_code, theirs.content)
        assert kind == theirs.headers.get("content-type", "")
        curl = await asyncio.create_subprocess_exec(
            *("curl", "-sS", "--compressed", "-w", "%{http_code}", "-d", "{}", f"{up.url}/v1/chat"),
            stdout=asyncio.subprocess.PIPE,
        )
        told, _ = await curl.communicate()
        assert ours[1] + b"%d" % ours[0] == told


class Wire(asyncio.Transport):
    """A transport that goes nowhere: the test says what arrives, in one process and one loop turn."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += data

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    abort = close

    def get_write_buffer_size(self) -> int:
        return 0

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...


FAILURES = {
    ErrorKind.UPSTREAM_INVALID,
    ErrorKind.UPSTREAM_TRUNCATED,
    ErrorKind.UPSTREAM_UNREACHABLE,
}
NEXT = b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nnext"
Read = tuple[int, bytes] | ErrorKind


class Driven:
    """A transport with one idle connection, of which the test plays the peer."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop, self.wire = loop, Wire()
        self.transport = DirectTransport("http://127.0.0.1:1", PoolConfig(), {})
        self.transport.warm()
        self.connection = Connection(self.transport, PoolConfig(), loop)
        self.connection.connection_made(self.wire)
        self.transport.released(self.connection)

    async def read(self, answer: bytes, cuts: Iterable[int], way: str = "read") -> Read:
        """Return what is read of ``answer`` when it arrives cut so and then the peer ends the connection.

        The end comes only if the answer needs it: else the connection is free for another request.
        """
        task = self.loop.create_task(self._fetch(way))
        await asyncio.sleep(0)
        bounds = [0, *sorted({cut for cut in cuts if 0 < cut < len(answer)}), len(answer)]
        for start, stop in pairwise(bounds):
            if self.wire.closed or task.done():
                break
            self.connection.data_received(answer[start:stop])
            await self._turns()
        if not task.done() and not self.wire.closed:
            self.connection.eof_received()
            self.wire.closed = True
            self.connection.connection_lost(None)
        await self._turns()
        assert task.done(), "it hangs"
        return task.result()

    async def _fetch(self, way: str) -> Read:
        try:
            async with self.transport.exchange(POST) as response:
                if way == "read":
                    return response.status, await response.read()
                return response.status, b"".join([piece async for piece in response.chunks()])
        except ServerError as error:
            return error.kind

    @staticmethod
    async def _turns() -> None:
        for _ in range(3):
            await asyncio.sleep(0)


async def read_alone(answer: bytes, cuts: Iterable[int], way: str = "read") -> Read:
    """Read ``answer`` over a connection of its own, and then another if the connection is kept."""
    driven = Driven(asyncio.get_running_loop())
    got = await driven.read(answer, cuts, way)
    kept = driven.transport.stats()["idle"] == 1
    assert kept != driven.wire.closed
    if kept:
        assert await driven.read(NEXT, ()) == (200, b"next")
    await driven.transport.close()
    return got


@pytest.mark.parametrize("name", ANSWERS)
@pytest.mark.parametrize("way", ["read", "chunks"])
async def test_where_an_answer_is_cut_changes_nothing(name: str, way: str) -> None:
    answer = ANSWERS[name]
    whole = await read_alone(answer, (), way)
    assert isinstance(whole, tuple)
    for cut in range(1, len(answer)):
        assert await read_alone(answer, (cut,), way) == whole, cut
    assert await read_alone(answer, range(len(answer)), way) == whole


@pytest.mark.parametrize("name", ANSWERS)
async def test_an_answer_that_ends_early_is_never_taken_for_a_whole_one(name: str) -> None:
    answer = ANSWERS[name]
    whole = await read_alone(answer, ())
    for length in range(1, len(answer)):
        got = await read_alone(answer[:length], ())
        ended_by_the_close = "close" in name and b"\r\n\r\n" in answer[:length]
        assert ended_by_the_close or got in FAILURES, length
    assert whole not in FAILURES


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """Return an answer with bytes replaced, dropped, doubled or put in."""
    answer = bytearray(draw(st.sampled_from(sorted(ANSWERS.values()))))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(answer)))
        size = draw(st.integers(0, 12))
        new = draw(
            st.sampled_from(SPICE) | st.binary(max_size=6) | st.just(bytes(answer[at : at + size]) * 2)
        )
        answer[at : at + size] = new
    return bytes(answer) or b"x"


SPICE = [
    b"\r\n",
    b"\n",
    b"\r",
    b"\0",
    b" ",
    b":",
    b"content-length: 3\r\n",
    b"transfer-encoding: chunked\r\n",
    b"transfer-encoding: gzip\r\n",
    b"connection: close\r\n",
    b"content-encoding: br\r\n",
    b"HTTP/1.1 200 OK\r\n",
    b"HTTP/1.1 101 X\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n",
    b"ffffffffffffffff\r\n",
    b"\r\n\r\n",
    b"0\r\n\r\n",
]


@given(mutated(), st.lists(st.integers(0, 400), max_size=4), st.sampled_from(["read", "chunks"]))
def test_whatever_comes_it_is_an_answer_or_a_failure_and_the_next_answer_is_right(
    answer: bytes, cuts: list[int], way: str
) -> None:
    with asyncio.Runner() as runner:
        got = runner.run(read_alone(answer, cuts, way))
    assert isinstance(got, tuple) or got in FAILURES


@given(mutated(), st.lists(st.integers(0, 400), max_size=4))
def test_where_a_mutated_answer_is_cut_changes_nothing(answer: bytes, cuts: list[int]) -> None:
    """A body before a fault may have been taken: then both ways of reading agree in what it is."""
    with asyncio.Runner() as runner:
        whole, parts = (runner.run(read_alone(answer, each)) for each in ((), cuts))
    assert whole == parts or {type(whole), type(parts)} <= {ErrorKind}


@given(st.binary(min_size=1, max_size=200), st.lists(st.integers(0, 200), max_size=3))
def test_any_bytes_are_an_answer_or_a_failure(data: bytes, cuts: list[int]) -> None:
    with asyncio.Runner() as runner:
        assert runner.run(read_alone(data, cuts)) in FAILURES


REFUSED = {
    "bare line feed": b"HTTP/1.1 200 OK\ncontent-length: 2\n\nok",
    "bare line feed in a header": HEAD[:-2] + b"\nx: y\r\ncontent-length: 2\r\n\r\nok",
    "folded line": HEAD + b"x: a\r\n b\r\ncontent-length: 2\r\n\r\nok",
    "NUL": HEAD + b"x: a\0\r\ncontent-length: 2\r\n\r\nok",
    "space before the colon": HEAD + b"content-length : 2\r\n\r\nok",
    "two lengths": HEAD + b"content-length: 2\r\ncontent-length: 3\r\n\r\nok!",
    "a list of lengths": HEAD + b"content-length: 2, 2\r\n\r\nok",
    "a signed length": HEAD + b"content-length: +2\r\n\r\nok",
    "length and chunks": HEAD + b"content-length: 2\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunks and length": HEAD + b"transfer-encoding: chunked\r\ncontent-length: 2\r\n\r\n0\r\n\r\n",
    "a coding that is not chunked": HEAD + b"transfer-encoding: gzip\r\n\r\nok",
    "chunked below another coding": HEAD + b"transfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "another coding above": HEAD + b"transfer-encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "coding twice": HEAD + b"transfer-encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
    "a size that is none": HEAD + b"transfer-encoding: chunked\r\n\r\n0x2\r\nok\r\n0\r\n\r\n",
    "a size beyond numbers": HEAD + b"transfer-encoding: chunked\r\n\r\nfffffffffffffffff\r\nok",
    "bare line feed in chunks": HEAD + b"transfer-encoding: chunked\r\n\r\n2\nok\n0\n\n",
    "version 2": b"HTTP/2.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 2\r\n\r\nok",
    "version 0.9": b"ok",
    "status 99": b"HTTP/1.1 099 X\r\ncontent-length: 2\r\n\r\nok",
    "another protocol": b"HTTP/1.1 101 X\r\nupgrade: x\r\nconnection: upgrade\r\n\r\nok",
    "brotli, not asked for": HEAD + b"content-encoding: br\r\ncontent-length: 2\r\n\r\nok",
    "zstd, not asked for": HEAD + b"content-encoding: zstd\r\ncontent-length: 2\r\n\r\nok",
    "two content codings": HEAD + b"content-encoding: gzip, gzip\r\ncontent-length: 2\r\n\r\nok",
}


@pytest.mark.parametrize("name", REFUSED)
async def test_what_leaves_in_doubt_where_an_answer_ends_is_refused(name: str) -> None:
    for cuts in ((), range(len(REFUSED[name]))):
        assert await read_alone(REFUSED[name], cuts) is ErrorKind.UPSTREAM_INVALID


@pytest.mark.parametrize("number", [1, 2, 20])
async def test_headers_beyond_the_bound_are_refused_however_they_are_cut(number: int) -> None:
    line = b"x-%d: " + b"a" * (70_000 // number) + b"\r\n"
    answer = HEAD + b"".join(line % each for each in range(number)) + b"content-length: 2\r\n\r\nok"
    for cuts in ((), range(0, len(answer), 1000)):
        assert await read_alone(answer, cuts) is ErrorKind.UPSTREAM_INVALID


async def test_trailers_and_interim_answers_without_end_are_refused() -> None:
    endless = HEAD + b"transfer-encoding: chunked\r\n\r\n0\r\n" + b"x: y\r\n" * 30_000
    assert await read_alone(endless, range(0, len(endless), 1000)) is ErrorKind.UPSTREAM_INVALID
    interim = b"HTTP/1.1 102 Processing\r\n\r\n" * 10_000
    assert await read_alone(interim, range(0, len(interim), 1000)) is ErrorKind.UPSTREAM_INVALID


@pytest.mark.parametrize("stray", [b"H", b"HTTP/1.1 408 Late\r\nconnection: close\r\n\r\n", b"\r\n", b"\0"])
async def test_idle_connection_on_which_something_comes_is_closed_unused(stray: bytes) -> None:
    driven = Driven(asyncio.get_running_loop())
    assert await driven.read(ANSWERS["length"], ()) == (200, TEXT)
    assert driven.transport.stats()["idle"] == 1
    driven.connection.data_received(stray)
    assert driven.wire.closed
    assert driven.transport.take(0) is None
    driven.connection.connection_lost(None)
    assert driven.transport.stats()["idle"] == 0
