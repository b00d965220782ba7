"""An upstream that does not come, or stops coming: four timeouts, each of them told by its phase."""

import socket
from collections.abc import Iterator
from typing import Any

import pytest

from llm_server.contract import ErrorKind, ServerError
from llm_server.pool import PoolConfig
from llm_server.providers.http import HttpProvider
from tests.conformance.enrolled import Enrolled, ask, call_for, provider, rows
from tests.upstreams.cases import Case, load
from tests.upstreams.script import Head, Idle, Script, play
from tests.upstreams.server import scripted
from tests.upstreams.upstream import Upstream

SHORT_S = 0.05
LONG_S = 60.0
"""Of the timeouts that must not be the one: a test that meets it fails by its own limit."""


def pool(**short: float) -> PoolConfig:
    """Return long timeouts but for those named."""
    names = ("connect_timeout_s", "first_byte_timeout_s", "idle_timeout_s", "total_timeout_s")
    return PoolConfig(**{**dict.fromkeys(names, LONG_S), **short})


async def expired(given: HttpProvider, case: Case) -> ServerError:
    """Return the error of a call that takes too long."""
    with pytest.raises(ServerError) as caught:
        await ask(given, call_for(case))
    assert caught.value.kind is ErrorKind.UPSTREAM_TIMEOUT
    assert given.stats()["busy"] == 0
    return caught.value


@pytest.fixture
def deaf() -> Iterator[str]:
    """A URL where connections are neither accepted nor refused: its queue of one is full."""
    with socket.socket() as listener, socket.socket() as first, socket.socket() as second:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for filler in (first, second):
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


@rows()
async def test_a_connection_that_is_not_accepted(who: Enrolled, deaf: str) -> None:
    up = Upstream(lambda _: Script(()))
    up.url = deaf
    async with provider(who, up, pool=pool(connect_timeout_s=SHORT_S)) as given:
        assert "connecting" in (await expired(given, load(who.vendor, "text"))).message


@pytest.mark.parametrize("form", ["whole", "stream"])
@rows()
async def test_an_answer_whose_headers_do_not_come(who: Enrolled, form: Any) -> None:
    case = load(who.vendor, "text", form)
    async with (
        scripted(play(case).before(Idle())) as up,
        provider(who, up, pool=pool(first_byte_timeout_s=SHORT_S)) as given,
    ):
        assert "first byte" in (await expired(given, case)).message
        await up.wait_closed()


@rows()
async def test_a_stream_that_falls_silent(who: Enrolled) -> None:
    case = load(who.vendor, "text", "stream")
    async with (
        scripted(play(case).until_piece(1, Idle())) as up,
        provider(who, up, pool=pool(idle_timeout_s=SHORT_S)) as given,
    ):
        assert "more of its answer" in (await expired(given, case)).message
        await up.wait_abandoned()
        await up.wait_closed()


@rows()
async def test_a_whole_answer_that_falls_silent(who: Enrolled) -> None:
    case = load(who.vendor, "text")
    script = play(case, cuts=[len(case.body) // 2]).until_piece(1, Idle())
    async with scripted(script) as up, provider(who, up, pool=pool(idle_timeout_s=SHORT_S)) as given:
        assert "more of its answer" in (await expired(given, case)).message


@rows()
async def test_a_stream_that_never_ends(who: Enrolled) -> None:
    """Comments come without a pause: no silence is ever long, and still the exchange is too long."""
    case = load(who.vendor, "text", "stream")
    drips = (b": still here\n\n",) * 20_000
    script = Script((Head(200, {"content-type": "text/event-stream"}), *drips, Idle()))
    async with scripted(script) as up, provider(who, up, pool=pool(total_timeout_s=SHORT_S)) as given:
        assert "answering" in (await expired(given, case)).message
        await up.wait_closed()


@rows()
async def test_models_are_not_waited_for_beyond_the_first_byte(who: Enrolled) -> None:
    async with (
        scripted(play(load(who.vendor, "models")).before(Idle())) as up,
        provider(who, up, pool=pool(first_byte_timeout_s=SHORT_S)) as given,
    ):
        with pytest.raises(ServerError) as caught:
            await given.models()
        assert (caught.value.kind, caught.value.provider) == (ErrorKind.UPSTREAM_TIMEOUT, who.row.name)
