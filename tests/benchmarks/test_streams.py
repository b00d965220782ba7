"""The paced upstream and the clients of streams: every frame is counted once, however it arrives."""

import asyncio
import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
from bench import bodies, holding, leaving, paced, streams
from bench.cells import summary
from bench.processes import cores
from hypothesis import given
from hypothesis import strategies as st

HEAD = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
HEADERS = {"content-type": "application/json"}


class Wire(asyncio.Transport):
    """Takes what is written; remembers whether it was closed."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []
        self.closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written.append(bytes(data))

    def close(self) -> None:
        self.closed = True


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    places = [0, *sorted({cut % len(data) for cut in cuts} - {0}), len(data)]
    return [data[left:right] for left, right in pairwise(places)]


def whole(frames: list[bytes]) -> bytes:
    return HEAD + b"".join(map(paced.chunked, frames)) + b"0\r\n\r\n"


def called(parts: list[bytes], expected: int, going: Callable[[], bool]) -> tuple[streams.Tally, Wire]:
    async def run() -> tuple[streams.Tally, Wire]:
        tally, wire = streams.Tally(), Wire()
        caller = streams.Caller(b"request", expected, tally, going)
        caller.connection_made(wire)
        for part in parts:
            caller.data_received(part)
        assert caller.done.done() is wire.closed
        return tally, wire

    return asyncio.run(run())


@given(st.integers(1, 6), st.lists(st.integers(0, 10_000), max_size=20))
def test_frames_are_counted_however_the_stream_is_cut(count: int, cuts: list[int]) -> None:
    frames = bodies.openai_frames(count)
    tally, wire = called(pieces(whole(frames), [*cuts, len(HEAD)]), len(frames), lambda: False)
    assert (tally.streams, tally.failed, tally.frames) == (1, 0, count + 2)
    assert wire.closed


def test_a_connection_asks_again_while_there_is_time() -> None:
    stream = whole(bodies.openai_frames(2))
    tally, wire = called([stream, stream], 4, iter([True, False]).__next__)
    assert (tally.streams, tally.frames, tally.failed) == (2, 8, 0)
    assert wire.written == [b"request", b"request"]
    assert len(tally.first_ms) == len(tally.whole_ms) == 2


def test_a_stream_with_too_few_frames_and_a_refusal_are_failures() -> None:
    short, _ = called([whole(bodies.openai_frames(2))], 100, lambda: False)
    refused, wire = called([b"HTTP/1.1 503 Service Unavailable\r\n\r\n"], 100, lambda: True)
    assert short.failed == refused.failed == 1
    assert "503" in refused.reasons[0]
    assert wire.closed


def test_a_connection_that_is_lost_is_a_failure() -> None:
    async def run() -> streams.Tally:
        tally = streams.Tally()
        caller = streams.Caller(b"request", 3, tally, lambda: True)
        caller.connection_made(Wire())
        caller.connection_lost(None)
        await caller.done
        return tally

    assert asyncio.run(run()).failed == 1


class Clock:
    """Stands in for the loop of an upstream: what is to be called later waits for the test."""

    def __init__(self) -> None:
        self.later: list[tuple[float, Callable[..., None], tuple[object, ...]]] = []

    def call_later(self, delay: float, callback: Callable[..., None], *args: object) -> asyncio.TimerHandle:
        self.later.append((delay, callback, args))
        return asyncio.TimerHandle(0, callback, args, asyncio.get_running_loop())

    def tick(self) -> float:
        delay, callback, args = self.later.pop(0)
        callback(*args)
        return delay


async def test_the_upstream_writes_each_frame_by_itself_after_its_interval() -> None:
    upstream, wire, clock = paced.Upstream(paced.Script(3), 0.25), Wire(), Clock()
    upstream.loop = clock  # type: ignore[assignment]  # all of a loop that it uses
    upstream.connection_made(wire)
    request = streams.compose("http://mock", bodies.CHAT, b"{}", HEADERS)
    for part in (request[:30], request[30:-1]):
        upstream.data_received(part)
        assert wire.written == [], "an answer to half a request"
    upstream.data_received(request[-1:])
    assert len(wire.written) == 1
    delays = []
    while clock.later:
        delays.append(clock.tick())
        assert len(wire.written) == 1 + len(delays)
    assert delays == [0.25] * 3
    assert [write.count(b"\n\n") for write in wire.written] == [1, 1, 1, 2]
    assert wire.written[-1].endswith(streams.END)


@pytest.mark.parametrize("path", [bodies.CHAT, bodies.MESSAGES])
def test_the_client_sees_every_frame_of_the_upstream(tmp_path: Path, path: str) -> None:
    with paced.paced(tmp_path, core=cores().load, frames=20, interval_s=0.005) as upstream:
        request = streams.compose(upstream.url, path, b"{}", HEADERS)
        found = streams.load(upstream.url, request, connections=3, seconds=0.01, frames=20)
    assert (found.streams, found.failed) == (3, 0)
    assert len(found.first_ms) == len(found.whole_ms) == 3
    figures = summary(found)
    assert figures["requests"] == 3
    assert figures["gap_p50_ms"] <= figures["gap_p99_ms"] <= figures["gap_max_ms"]


def test_what_the_upstream_does_not_know_is_not_found(tmp_path: Path) -> None:
    with paced.paced(tmp_path, core=cores().load, frames=2, interval_s=0.001) as upstream:
        request = streams.compose(upstream.url, "/v1/other", b"{}", HEADERS)
        found = streams.load(upstream.url, request, connections=1, seconds=0.01, frames=1)
    assert (found.streams, found.failed) == (0, 1)


def test_the_frames_are_those_of_the_two_apis() -> None:
    text = b"".join(bodies.openai_frames(3)).decode().split("\n\n")
    chunks = [json.loads(each.removeprefix("data: ")) for each in text if each.startswith("data: {")]
    assert "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks) == "A word1 word2"
    assert text[-2] == "data: [DONE]"
    events = b"".join(bodies.anthropic_frames(3)).decode()
    names = [line.removeprefix("event: ") for line in events.splitlines() if line.startswith("event: ")]
    assert names == [
        "message_start", "content_block_start", *["content_block_delta"] * 3,
        "content_block_stop", "message_delta", "message_stop",
    ]  # fmt: skip


@pytest.mark.parametrize("kb", [0.5, 1, 20, 200])
def test_a_question_has_the_size_that_is_asked_for(kb: float) -> None:
    body = bodies.question("m", kb=kb)
    assert len(body) == kb * 1000
    turns = json.loads(body)["messages"]
    assert (turns[0]["role"], turns[-1]["role"]) == ("system", "user")


def test_many_streams_are_held_open_and_judged(tmp_path: Path) -> None:
    looks = iter([40.0, 42.0, *[41.0] * 100])
    with paced.paced(tmp_path, core=cores().load, frames=40, interval_s=0.02) as upstream:
        request = streams.compose(upstream.url, bodies.CHAT, b"{}", HEADERS)
        found = holding.hold(upstream.url, request, 20, 40, looks.__next__)
    assert (found["streams"], found["errors"], found["frames"]) == (20, 0, 20 * 42)
    assert found["rss_mb"] == 42.0
    assert found["slowest_share"] <= 1 <= found["fastest_share"]


def held(starts: list[list[float]], *, ends: list[bool]) -> holding.Held:
    async def run() -> holding.Held:
        holders = []
        for reads in starts:
            holder = holding.Holder(b"")
            holder.reads = [(at, 1) for at in reads]
            holders.append(holder)
        return holding.summary(holders, ends, 3, 10.0)

    return asyncio.run(run())


def test_a_stream_that_is_left_behind_shows() -> None:
    even = [float(at) for at in range(11)]
    found = held([even, even, [0.0, 9.0, 10.0]], ends=[True, True, True])
    assert found.errors == 0
    assert found.slowest_share == 0.2  # 2 of the 10 frames before the first one ended
    assert found.fastest_share == 1.0


def test_a_stream_that_breaks_or_brings_too_little_is_an_error() -> None:
    assert held([[0.0, 1.0, 2.0], [0.0, 1.0], [0.0, 1.0, 2.0]], ends=[True, True, False]).errors == 2


def test_callers_leave_after_some_frames(tmp_path: Path) -> None:
    with paced.paced(tmp_path, core=cores().load, frames=50, interval_s=0.001) as upstream:
        request = streams.compose(upstream.url, bodies.CHAT, b"{}", HEADERS)
        tally = leaving.until(upstream.url, request, 40)
    assert 40 <= tally.left < 40 + leaving.TOGETHER
    assert tally.failed == 0


def test_callers_that_are_refused_leave_too_and_are_counted(tmp_path: Path) -> None:
    with paced.paced(tmp_path, core=cores().load, frames=2, interval_s=0.001) as upstream:
        request = streams.compose(upstream.url, "/v1/other", b"{}", HEADERS)
        tally = leaving.until(upstream.url, request, 5)
    assert tally.left == tally.failed >= 5
