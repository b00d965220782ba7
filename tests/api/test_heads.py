"""Heads that are remembered: whatever comes, a connection answers as one that remembers nothing."""

import asyncio
import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_server.api import heads, lane
from llm_server.api.config import ApiConfig
from llm_server.api.lane import Lane
from llm_server.api.server import Server
from llm_server.testing import FakeObserver, FakeProvider
from tests.api.conftest import build
from tests.api.memory import opened, said, settled
from tests.pool.peers import LOOPS

LIMIT = 1024
"""Bytes of a body."""


class Forgetful(Lane):
    """A connection that remembers no head."""

    def _learn(self, data: bytes, exchange: Any) -> None:
        pass


def ask(text: str) -> bytes:
    """Return the body of a chat that is answered with ``text``."""
    return json.dumps({"model": "fake/echo", "messages": [{"role": "user", "content": text}]}).encode()


def request(*lines: bytes, body: bytes = ask("a"), path: bytes = b"/v1/chat/completions") -> bytes:
    """Return a request with these header lines; ``%d`` in them is the body's length."""
    said = b"\r\n".join([b"POST " + path + b" HTTP/1.1", b"host: test", *lines, b"", b""])
    return said.replace(b"%d", b"%d" % len(body)) + body


BODIES = [ask("a"), ask("b" * 30), ask("c" * 100), b"{", b"", b"x" * (LIMIT + 1), ask("d" * LIMIT)]

LENGTHS = [
    b"content-length: %d",
    b"content-length: %d",
    b"content-length: %d",
    b"Content-Length:%d",
    b"content-length:\t%d ",
    b"content-length: 000%d",
    b"content-length: 00000000000000%d",
    b"content-length: %d0",
    b"content-length: 1",
    b"content-length: 999999999999",
    b"content-length: 99999999999999999999999",
    b"content-length: -%d",
    b"content-length: +%d",
    b"content-length: 0x%d",
    b"content-length: %d, %d",
    b"content-length : %d",
    b"content-length: %d\r\ncontent-length: %d",
    b"content-length: %d\r\ncontent-length: 1",
    b"content-length: %d\r\ntransfer-encoding: chunked",
    b"transfer-encoding: chunked\r\ncontent-length: %d",
    b"x-note: content-length: 1\r\ncontent-length: %d",
    b"x-content-length: 1\r\ncontent-length: %d",
    b"x-note: a\ncontent-length: 1\r\ncontent-length: %d",
    b"x-note: a\r\n content-length: 1\r\ncontent-length: %d",
    b"x-note: a",
]
"""How the length is said; most are wrong, or what somebody could take for a length."""

OTHERS = [
    (),
    (),
    (),
    (b"x-trace: 1",),
    (b"connection: close",),
    (b"connection: keep-alive, upgrade", b"upgrade: h2c"),
    (b"expect: 100-continue",),
    (b"content-encoding: gzip",),
    (b"x-llm-server-timeout: 20",),
    (b"x-llm-server-timeout: nonsense",),
    (b"host: twice",),
    (b"x-long: " + b"y" * 900,),
]
PATHS = [
    b"/v1/chat/completions",
    b"/v1/chat/completions",
    b"/v1/messages",
    b"/v1/chat/completions?content-length:5",
]


@st.composite
def messages(draw: st.DrawFn) -> bytes:
    """A request, right or wrong; what stands around it."""
    lines = (*draw(st.sampled_from(OTHERS)), draw(st.sampled_from(LENGTHS)))
    order = lines if draw(st.booleans()) else tuple(reversed(lines))
    one = request(*order, body=draw(st.sampled_from(BODIES)), path=draw(st.sampled_from(PATHS)))
    before, after = draw(st.sampled_from([(b"", b"")] * 6 + [(b"\r\n", b""), (b"", b"\r\n"), (b"", b"P")]))
    return before + one + after


CHUNKED = request(b"transfer-encoding: chunked", body=b"%x\r\n%b\r\n0\r\n\r\n" % (len(ask("e")), ask("e")))


@st.composite
def courses(draw: st.DrawFn) -> list[tuple[bytes, bool]]:
    """What is read from one connection: a few requests again and again, cut and joined."""
    few = [*draw(st.lists(messages(), min_size=1, max_size=3)), request(b"content-length: %d"), CHUNKED]
    sent = draw(st.lists(st.sampled_from(few), min_size=1, max_size=6))
    reads: list[tuple[bytes, bool]] = []
    for one in sent:
        at = draw(st.one_of(st.just(0), st.integers(0, len(one))))
        settles = draw(st.booleans())
        reads += [(piece, settles) for piece in (one[:at], one[at:]) if piece]
    if draw(st.integers(0, 4)) == 0:
        joined = b"".join(piece for piece, _ in reads)
        at = draw(st.integers(0, len(joined)))
        reads = [(piece, True) for piece in (joined[:at], joined[at:]) if piece]
    return reads


@pytest.fixture(scope="module")
def app() -> Server:
    """An application with a narrow limit."""
    config = ApiConfig(max_body_bytes=LIMIT, max_header_bytes=1024)
    return build(FakeProvider(), FakeObserver(), config)


@pytest.fixture(scope="module", params=LOOPS)
def runner(request: pytest.FixtureRequest) -> Iterator[asyncio.Runner]:
    """Both event loops."""
    with asyncio.Runner(loop_factory=LOOPS[request.param]) as running:
        yield running


@settings(max_examples=300)
@given(reads=courses())
def test_whatever_comes_the_answers_are_those_of_a_connection_that_remembers_nothing(
    app: Server, runner: asyncio.Runner, reads: list[tuple[bytes, bool]]
) -> None:
    assert runner.run(said(app, Lane, reads)) == runner.run(said(app, Forgetful, reads))


SECOND = {
    "the same": request(b"content-length: %d"),
    "a longer body": request(b"content-length: %d", body=ask("longer")),
    "a body above the limit": request(b"content-length: %d", body=ask("x" * LIMIT)),
    "zeros before the length": request(b"content-length: 000%d"),
    "more zeros than a length has": request(b"content-length: 000000%d"),
    "no length": request(b"content-length: "),
    "a length of letters": request(b"content-length: abc"),
    "digits of another script": request("content-length: \u0663".encode()),
    "no body": request(b"content-length: %d", body=b""),
    "two at once": request(b"content-length: %d") * 2,
    "three, the last cut": request(b"content-length: %d") * 2 + request(b"content-length: %d")[:-1],
    "a smuggled one": request(b"content-length: %d", body=ask("a") + request(b"content-length: %d")),
    "said too short": request(b"content-length: 10"),
    "said too long": request(b"content-length: 1%d"),
    "bytes behind": request(b"content-length: %d") + b"GET / HTTP/1.1\r\n",
    "a line end behind": request(b"content-length: %d") + b"\r\n",
    "a line end before": b"\r\n" + request(b"content-length: %d"),
}


@pytest.mark.parametrize("name", SECOND)
def test_after_a_head_was_learned(app: Server, runner: asyncio.Runner, name: str) -> None:
    """At once, and cut at every byte."""
    first, second = request(b"content-length: %d"), SECOND[name]
    expected = runner.run(said(app, Forgetful, [(first, True), (second, True)]))
    for at in range(len(second)) if len(second) < LIMIT else (0, 100):
        reads = [(piece, True) for piece in (first, second[:at], second[at:]) if piece]
        assert runner.run(said(app, Lane, reads)) == runner.run(said(app, Forgetful, reads)), at
        assert runner.run(said(app, Lane, reads))[0].count(b"HTTP/1.1") == expected[0].count(b"HTTP/1.1"), at


@pytest.mark.parametrize("line", [b"content-encoding: gzip", b"x-llm-server-timeout: never"])
def test_what_was_refused_by_its_head_is_refused_again(
    app: Server, runner: asyncio.Runner, line: bytes
) -> None:
    one = request(line, b"content-length: %d")
    answer, ended = runner.run(said(app, Lane, [(one, True)] * 3))
    assert (answer.count(b"HTTP/1.1 400"), answer.count(b"HTTP/1.1 200"), ended) == (3, 0, "")


def test_a_body_above_the_limit_is_refused_with_a_head_that_is_known(
    app: Server, runner: asyncio.Runner
) -> None:
    small, large = request(b"content-length: %d"), request(b"content-length: %d", body=ask("x" * LIMIT))
    answer, _ = runner.run(said(app, Lane, [(small, True), (large, True), (small, True)]))
    assert re.findall(rb"HTTP/1.1 (\d+)", answer) == [b"200", b"413", b"200"]


def test_a_head_is_read_once_and_not_again(
    app: Server, runner: asyncio.Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else nothing here would be tested at all."""
    read: list[bytes] = []
    monkeypatch.setattr(Lane, "_feed", lambda it, data: (read.append(data), Lane.__base__._feed(it, data)))
    one, other = request(b"content-length: %d"), request(b"content-length: %d", body=ask("other"))
    runner.run(said(app, Lane, [(one, True), (one, True), (other, True)]))
    assert read == [one]


def test_on_a_connection_whose_heads_all_differ_only_so_many_are_learned(
    app: Server, runner: asyncio.Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    learned: list[bytes] = []

    def noted(data: bytes, *rest: Any) -> heads.Head | None:
        learned.append(data)
        return heads.learned(data, *rest)

    monkeypatch.setattr(lane, "learned", noted)
    all_different = [(request(b"x-trace: %d" % at, b"content-length: %d"), True) for at in range(20)]
    runner.run(said(app, Lane, all_different))
    assert len(learned) == lane.MAX_FORGOTTEN


def test_a_client_that_does_not_read_has_its_time_for_that_and_no_more(
    app: Server, runner: asyncio.Runner
) -> None:
    """Also if it goes on asking: the time of an answer is longer."""

    async def moved(kind: type[Lane]) -> float:
        connection, transport = opened(app, kind)
        one = request(b"content-length: %d")
        connection.data_received(one)
        await settled(connection)
        connection.pause_writing()
        before_s = connection.timer._at_s
        connection.data_received(one)
        by_s = connection.timer._at_s - before_s
        connection.resume_writing()
        transport.lose()
        await settled(connection)
        return by_s

    assert runner.run(moved(Lane)) == runner.run(moved(Forgetful)) == 0.0
