"""New connections: both families of addresses, names looked up together and only briefly remembered."""

import asyncio
import socket
from collections.abc import Sequence
from typing import Any

import pytest

from llm_server.contract import ErrorKind, ServerError
from llm_server.pool.direct import dialing
from llm_server.pool.requests import Origin, origin_of
from tests.pool.peers import OK, answering, fetch, on_every_loop, peer, to


class Names:
    """Stands in for the system's resolver of the running loop, and counts."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *found: tuple[int, tuple[Any, ...]]) -> None:
        self.asked: list[str] = []
        self.found = list(found)
        self.called = asyncio.Event()
        self.gate = asyncio.Event()
        self.gate.set()

        async def look_up(dialer: dialing.Dialer) -> Sequence[Any]:
            self.asked.append(dialer._origin.host)
            self.called.set()
            await self.gate.wait()
            if not self.found:
                raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
            return [(family, socket.SOCK_STREAM, 6, "", address) for family, address in self.found]

        monkeypatch.setattr(dialing.Dialer, "_look_up", look_up)


def port_of(url: str) -> int:
    return int(url.rpartition(":")[2])


@on_every_loop
async def test_an_address_of_version_6_is_reached() -> None:
    async with peer(answering(OK), host="::1") as up, to(up.url) as wire:
        assert await fetch(wire) == (200, b"ok")
        assert up.asked[0].headers["host"] == up.url.removeprefix("http://")


@on_every_loop
async def test_a_name_is_looked_up_by_the_system() -> None:
    async with peer(answering(OK)) as up, to(f"http://localhost:{port_of(up.url)}") as wire:
        assert await fetch(wire) == (200, b"ok")  # where localhost is ::1 first, nobody listens there


@on_every_loop
async def test_a_family_where_nobody_listens_is_passed_over_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    async with peer(answering(OK)) as up:
        port = port_of(up.url)
        Names(monkeypatch, (socket.AF_INET6, ("::1", port, 0, 0)), (socket.AF_INET, ("127.0.0.1", port)))
        async with to(f"http://twofold.test:{port}") as wire:
            assert await fetch(wire) == (200, b"ok")


@on_every_loop
async def test_an_address_that_does_not_answer_is_overtaken(monkeypatch: pytest.MonkeyPatch) -> None:
    # A listener whose queue is full completes no handshake: connecting to it hangs.
    with socket.socket(socket.AF_INET6) as silent:
        silent.bind(("::1", 0))
        silent.listen(0)
        port = silent.getsockname()[1]
        fillers = [socket.socket(socket.AF_INET6) for _ in range(3)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(("::1", port))
        try:
            async with peer(answering(OK)) as up:
                Names(
                    monkeypatch,
                    (socket.AF_INET6, ("::1", port, 0, 0)),
                    (socket.AF_INET6, ("::1", port, 0, 0)),
                    (socket.AF_INET, ("127.0.0.1", port_of(up.url))),
                )
                async with to("http://twofold.test", connect_timeout_s=5) as wire:
                    assert await fetch(wire) == (200, b"ok")
        finally:
            for filler in fillers:
                filler.close()


async def test_requests_at_once_share_a_look_up_and_a_cancelled_one_spoils_it_for_nobody(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with peer(answering(OK)) as up:
        names = Names(monkeypatch, (socket.AF_INET, ("127.0.0.1", port_of(up.url))))
        names.gate.clear()
        async with to("http://name.test") as wire:
            tasks = [asyncio.create_task(fetch(wire)) for _ in range(5)]
            await names.called.wait()
            tasks[0].cancel()
            await asyncio.sleep(0)
            names.gate.set()
            results = await asyncio.gather(*tasks, return_exceptions=True)
            assert isinstance(results[0], asyncio.CancelledError)
            assert results[1:] == [(200, b"ok")] * 4
            assert names.asked == ["name.test"]


async def test_addresses_are_remembered_briefly_and_not_after_a_failure(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with peer(answering(OK, then="end")) as up:
        names = Names(monkeypatch, (socket.AF_INET, ("127.0.0.1", port_of(up.url))))
        async with to("http://name.test") as wire:
            for _ in range(3):
                await fetch(wire)
                await up.until(lambda up: up.open == 0)
            assert len(names.asked) == 1
            monkeypatch.setattr(dialing, "NAMES_TTL_S", 0)
            await fetch(wire)
            assert len(names.asked) == 2
            monkeypatch.setattr(dialing, "NAMES_TTL_S", 1000)
            await fetch(wire)
            asked = len(names.asked)
            await up.until(lambda up: up.open == 0)
            names.found = [(socket.AF_INET, ("127.0.0.1", 1))]
            monkeypatch.setattr(dialing, "NAMES_TTL_S", 0)
            with pytest.raises(ServerError):
                await fetch(wire)
            monkeypatch.setattr(dialing, "NAMES_TTL_S", 1000)
            names.found = [(socket.AF_INET, ("127.0.0.1", port_of(up.url)))]
            assert await fetch(wire) == (200, b"ok")
            assert len(names.asked) == asked + 2


async def test_unknown_name_is_unreachable(monkeypatch: pytest.MonkeyPatch) -> None:
    Names(monkeypatch)
    async with to("http://nowhere.test") as wire:
        with pytest.raises(ServerError) as caught:
            await fetch(wire)
    assert caught.value.kind is ErrorKind.UPSTREAM_UNREACHABLE
    assert caught.value.detail == "gaierror: Name or service not known"


async def test_slow_name_is_a_timeout_of_connecting_and_closing_ends_the_look_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    names = Names(monkeypatch)
    names.gate.clear()
    before = asyncio.all_tasks()
    async with to("http://slow.test", connect_timeout_s=0.05) as wire:
        with pytest.raises(ServerError, match="connecting") as caught:
            await fetch(wire)
        assert caught.value.kind is ErrorKind.UPSTREAM_TIMEOUT
    assert asyncio.all_tasks() == before


@pytest.mark.parametrize(
    ("url", "origin", "authority"),
    [
        ("http://h/v1/", Origin("h", 80, False, "/v1"), "h"),
        ("https://h:8443", Origin("h", 8443, True, ""), "h:8443"),
        ("https://h:443/a/b", Origin("h", 443, True, "/a/b"), "h"),
        ("http://[::1]:8000/v1", Origin("::1", 8000, False, "/v1"), "[::1]:8000"),
        (
            "https://b\xfccher.example",
            Origin("xn--bcher-kva.example", 443, True, ""),
            "xn--bcher-kva.example",
        ),
    ],
)
def test_origins_are_read_from_urls(url: str, origin: Origin, authority: str) -> None:
    assert origin_of(url) == origin
    assert origin.authority == authority


@pytest.mark.parametrize("url", ["ftp://h", "http://", "h", "http://a b"])
def test_what_is_no_url_of_http_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r"must be|no name"):
        origin_of(url)
