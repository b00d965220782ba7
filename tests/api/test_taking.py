"""Whether a client takes what is sent to it."""

import asyncio
import socket
import time

import pytest

from llm_server.api import taking
from llm_server.api.taking import Taking

LONG_S = 1000.0


class Clock:
    now_s = 50.0

    def perf_counter(self) -> float:
        return self.now_s


class Held(asyncio.WriteTransport):
    """A transport that holds as many bytes as it is told, on a socket or on none."""

    def __init__(self, sock: socket.socket | None = None) -> None:
        super().__init__({"socket": sock})
        self.size = 0

    def get_write_buffer_size(self) -> int:
        return self.size


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(taking, "time", clock)
    return clock


def test_rest_is_counted_from_the_last_time_that_something_was_taken(clock: Clock) -> None:
    held = Held()
    held.size = 1000
    watched = Taking(held)
    watched.begin()
    for step, size, rested in [
        (5, 1000, 5),
        (5, 999, 0),
        (5, 999, 5),
        (5, 2000, 10),
        (5, 1999, 0),
        (9, 1999, 9),
    ]:
        clock.now_s += step
        held.size = size
        assert watched.resting_s(60) == rested


def test_who_was_not_watched_begins_anew(clock: Clock) -> None:
    watched = Taking(Held())
    assert watched.resting_s(60) == 0
    clock.now_s += 61
    assert watched.resting_s(60) == 0
    clock.now_s += 60
    assert watched.resting_s(60) == 60


def test_what_the_system_holds_counts() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        held = Held(ours)
        watched = Taking(held)
        watched.begin()
        sent = 0
        try:
            while True:
                sent += ours.send(b"x" * 65_536)
        except BlockingIOError:
            pass
        watched.resting_s(LONG_S)
        before_s = time.perf_counter()
        while sent > 0:
            sent -= len(theirs.recv(65_536))
        assert watched.resting_s(LONG_S) <= time.perf_counter() - before_s


def test_a_socket_that_cannot_tell_holds_nothing() -> None:
    closed = socket.socket()
    closed.close()
    watched = Taking(Held(closed))
    watched.begin()
    assert watched.resting_s(LONG_S) >= 0
