"""How long connections are kept, how many, which is used next, and what time may pass in which phase."""

import asyncio
import gc
import resource
from collections.abc import Callable
from contextlib import aclosing
from typing import Any, cast

import pytest

from llm_server.contract import ErrorKind, HttpRequest, ServerError
from llm_server.pool.direct import DirectTransport, connection, transport
from llm_server.pool.transport import Transport
from tests.pool.peers import OK, POST, Talk, Up, answering, fetch, on_every_loop, peer, pieces, to

MANY = answering(*[OK] * 10_000)


async def eventually(condition: Callable[[], bool]) -> None:
    """Wait for what no event tells; the test's time limit ends it."""
    while not condition():  # noqa: ASYNC110 - nothing tells
        await asyncio.sleep(0.005)


async def burst(wire: Transport, number: int) -> None:
    await asyncio.gather(*(fetch(wire) for _ in range(number)))


def fixed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "JITTER", 0)


@on_every_loop
async def test_as_many_are_opened_as_are_needed_and_idle_ones_close_again() -> None:
    async with peer(MANY) as up, to(up.url, keepalive_s=0.1) as wire:
        await burst(wire, 20)
        assert wire.stats() == {"open": 20, "idle": 20, "opened": 20, "reused": 0, "resent": 0}
        await burst(wire, 20)
        assert wire.stats()["opened"] == 20
        await up.until(lambda up: up.open == 0)
        await eventually(lambda: wire.stats()["open"] == 0)
        await burst(wire, 2)
        assert wire.stats() == {"open": 2, "idle": 2, "opened": 22, "reused": 20, "resent": 0}


async def test_the_last_that_became_free_is_used_first_so_that_the_others_grow_idle() -> None:
    ports: list[int] = []

    async def talk(it: Talk) -> None:
        while await it.request() is not None:
            ports.append(it.number)
            it.send(OK)

    async with peer(talk) as up, to(up.url) as wire:
        await burst(wire, 5)
        ports.clear()
        for _ in range(10):
            await fetch(wire)
        assert len(set(ports)) == 1


@on_every_loop
async def test_a_floor_is_opened_ahead_stays_and_is_restored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "FIRST_RETRY_S", 0.01)
    talks: list[Talk] = []

    async def talk(it: Talk) -> None:
        talks.append(it)
        await MANY(it)

    async with peer(talk) as up, to(up.url, min_connections=3, keepalive_s=0.05) as wire:
        wire.warm()
        await up.until(lambda up: up.open == 3)
        await eventually(lambda: wire.stats()["idle"] == 3)
        await burst(wire, 8)
        assert wire.stats()["open"] == 8
        await up.until(lambda up: up.open == 3)
        await eventually(lambda: wire.stats()["idle"] == 3)
        opened = wire.stats()["opened"]
        for one in talks:
            one.writer.close()
        await eventually(lambda: wire.stats() | {"opened": opened + 3} == wire.stats())
        await eventually(lambda: wire.stats()["idle"] == 3)
        await wire.close()
        assert wire.stats()["open"] == 0


async def test_a_floor_that_cannot_be_opened_is_tried_again_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "FIRST_RETRY_S", 0.02)
    async with peer(MANY) as up:
        url = up.url
    async with to(url, min_connections=2) as wire:
        wire.warm()
        with pytest.raises(ServerError):
            await fetch(wire)
        await asyncio.sleep(0.1)
        assert wire.stats()["open"] == 0
    assert len(asyncio.all_tasks()) == 1


async def test_a_connection_that_is_too_old_takes_no_further_request(monkeypatch: pytest.MonkeyPatch) -> None:
    fixed(monkeypatch)
    async with peer(MANY) as up, to(up.url, max_age_s=0.1) as wire:
        await fetch(wire)
        await fetch(wire)
        assert up.connections == 1
        await up.until(lambda up: up.open == 0)
        await fetch(wire)
        assert up.connections == 2


async def test_ages_and_idle_times_differ_by_a_tenth_at_most() -> None:
    async with peer(MANY) as up, to(up.url, max_age_s=100, keepalive_s=10) as wire:
        assert isinstance(wire, DirectTransport)
        await burst(wire, 30)
        kept = [one.keepalive_s for one in wire._open]
        ages = [one.retires_s - one.opened_s for one in wire._open]
        assert all(9 <= one <= 10 for one in kept)
        assert all(90 <= one <= 100 for one in ages)
        assert len(set(kept)) > 15


async def test_no_timer_is_set_for_a_request_on_a_kept_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    async with peer(MANY) as up, to(up.url) as wire:
        await fetch(wire)
        loop = asyncio.get_running_loop()
        original, made = loop.call_at, []

        def counted(when: float, *rest: Any, **more: Any) -> asyncio.TimerHandle:
            made.append(when)
            return original(when, *rest, **more)

        with monkeypatch.context() as patch:
            patch.setattr(loop, "call_at", counted)
            for _ in range(50):
                await fetch(wire)
        assert made == []


@on_every_loop
async def test_each_piece_gives_a_stream_its_time_anew() -> None:
    async def talk(it: Talk) -> None:
        await it.request()
        it.send(b"HTTP/1.1 200 OK\r\ncontent-length: 12\r\n\r\n")
        for _ in range(12):
            await asyncio.sleep(0.05)
            it.send(b"x")
        await it.gone()

    async with peer(talk) as up, to(up.url, idle_timeout_s=0.4) as wire, wire.exchange(POST) as response:
        assert await response.read() == b"x" * 12


@on_every_loop
async def test_sending_has_its_own_timeout_which_progress_extends() -> None:
    async def slowly(it: Talk) -> None:
        cast(asyncio.Transport, it.writer.transport).pause_reading()
        await asyncio.Event().wait()

    body = b"x" * 64 * 1024 * 1024
    async with peer(slowly) as up, to(up.url, write_timeout_s=0.2) as wire:
        with pytest.raises(ServerError, match="sending the request") as caught:
            await fetch(wire, HttpRequest(path="x", body=body))
        assert caught.value.kind is ErrorKind.UPSTREAM_TIMEOUT
        assert "0.2 s" in caught.value.detail
        await eventually(lambda: wire.stats()["open"] == 0)

    async def steadily(it: Talk) -> None:
        head = await it.reader.readuntil(b"\r\n\r\n")
        assert b"67108864" in head
        left = len(body)
        while left:
            left -= len(await it.reader.read(1024 * 1024))
            if left % 8 == 0:
                await asyncio.sleep(0.01)
        it.send(OK)
        await it.gone()

    async with peer(steadily) as up, to(up.url, write_timeout_s=0.3, first_byte_timeout_s=5) as wire:
        assert await fetch(wire, HttpRequest(path="x", body=body)) == (200, b"ok")


@on_every_loop
async def test_a_reader_that_is_behind_stops_the_upstream_and_nothing_is_lost() -> None:
    body = bytes(range(256)) * 4 * 1024 * 32
    sent = asyncio.Event()

    async def talk(it: Talk) -> None:
        await it.request()
        it.send(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body))
        it.send(body)
        await it.writer.drain()
        sent.set()
        await it.gone()

    async with peer(talk) as up, to(up.url, idle_timeout_s=0.1) as wire:
        async with wire.exchange(POST) as response, aclosing(response.chunks()) as coming:
            first = await anext(coming)
            await asyncio.sleep(0.3)  # silence of our own making is no timeout
            assert not sent.is_set()
            held = response.buffered  # type: ignore[attr-defined]  # of ours
            assert held <= 2 * connection.PAUSE_BYTES
            got = first + b"".join([piece async for piece in coming])
        assert got == body
        assert wire.stats()["idle"] == 1


@on_every_loop
async def test_an_answer_that_came_while_nobody_read_is_there_even_when_its_time_is_over() -> None:
    async with peer(answering(OK)) as up, to(up.url, total_timeout_s=0.1) as wire, wire.exchange(POST) as it:
        await asyncio.sleep(0.2)
        assert await pieces(it) == [b"ok"]


@on_every_loop
async def test_closing_breaks_off_what_is_under_way() -> None:
    async def talk(it: Talk) -> None:
        await it.request()
        if it.number == 1:
            it.send(OK[:-1])
        await it.gone()

    async with peer(talk) as up, to(up.url) as wire:
        first = asyncio.create_task(fetch(wire))
        await up.until(lambda up: len(up.asked) == 1)
        await eventually(lambda: wire.stats()["open"] == 1)
        second = asyncio.create_task(fetch(wire))
        await up.until(lambda up: len(up.asked) == 2)
        await asyncio.sleep(0.02)
        await wire.close()
        assert wire.stats()["open"] == 0
        results = await asyncio.gather(first, second, return_exceptions=True)
        kinds = {one.kind for one in results if isinstance(one, ServerError)}
        assert kinds == {ErrorKind.UPSTREAM_TRUNCATED, ErrorKind.UPSTREAM_UNREACHABLE}


async def slow(it: Talk) -> None:
    """Answer in small steps, so that cancelling can come between any two."""
    while await it.request() is not None:
        for byte in (OK[:10], OK[10:30], OK[30:-1], OK[-1:]):
            it.send(byte)
            await asyncio.sleep(0)


@on_every_loop
async def test_cancelling_at_every_step_leaves_nothing_behind() -> None:
    """However many loop turns in, a request is cancelled: the next one is right and nothing stays open."""
    async with peer(slow) as up, to(up.url) as wire:
        await fetch(wire)
        ended = 0
        for turns in range(60):
            for _ in range(3):
                task = asyncio.create_task(fetch(wire))
                for _ in range(turns):
                    await asyncio.sleep(0)
                task.cancel()
                (result,) = await asyncio.gather(task, return_exceptions=True)
                assert result == (200, b"ok") or isinstance(result, asyncio.CancelledError)
                ended += result == (200, b"ok")
                assert await fetch(wire) == (200, b"ok")
        assert 0 < ended < 180
        await wire.close()
        await up.until(lambda up: up.open == 0)
        assert wire.stats()["open"] == 0


def rss_kib() -> int:
    gc.collect()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


@on_every_loop
async def test_thousands_of_cancelled_requests_leave_memory_tasks_and_sockets_as_they_were() -> None:
    async def part(it: Talk) -> None:
        if await it.request() is not None:
            it.send(OK[:-1])
            await it.gone()

    async def cancelled(wire: Transport, up: Up, number: int) -> None:
        for _ in range(number):
            tasks = [asyncio.create_task(fetch(wire)) for _ in range(20)]
            seen = len(up.asked)
            await up.until(lambda up, seen=seen: len(up.asked) > seen)  # type: ignore[misc]  # bound now
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async with peer(part) as up, to(up.url) as wire:
        await cancelled(wire, up, 20)
        before, tasks = rss_kib(), len(asyncio.all_tasks())
        await cancelled(wire, up, 100)
        await up.until(lambda up: up.open == 0)
        assert wire.stats()["open"] == 0
        assert len(asyncio.all_tasks()) <= tasks
        assert rss_kib() - before < 8 * 1024
        left = [one for one in gc.get_objects() if isinstance(one, connection.Connection)]
        assert left == []
