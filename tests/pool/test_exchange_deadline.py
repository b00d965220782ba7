"""A caller's deadline is nobody's failure, however the loop's clock and the process's differ."""

import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest

from llm_server.contract import Context, ErrorKind, HttpRequest, ServerError
from llm_server.pool import PoolConfig, UpstreamPool

REQUEST = HttpRequest(path="x", body=b"{}")


class Late:
    """A transport whose answers never come: its timer fires ``early_s`` before the deadline."""

    def __init__(self, advance: Callable[[float], None], early_s: float, *, head: bool) -> None:
        self._advance, self._early_s, self._head = advance, early_s, head
        self.status, self.headers = 200, {"content-type": "text/event-stream"}

    def exchange(self, _: HttpRequest, within_s: float | None = None) -> AbstractAsyncContextManager[Any]:
        self.within_s = within_s or 0.0
        return self

    def warm(self) -> None: ...

    def stats(self) -> dict[str, int]:
        return {}

    async def close(self) -> None: ...

    async def __aenter__(self) -> "Late":
        if not self._head:
            self.time_out()
        return self

    async def __aexit__(self, *_: object) -> None: ...

    def time_out(self) -> None:
        self._advance(self.within_s - self._early_s)
        raise ServerError(ErrorKind.UPSTREAM_TIMEOUT, "late")


async def ask(pool: UpstreamPool, ctx: Context, transport: Late) -> None:
    async with pool.send(REQUEST, ctx):
        transport.time_out()


@pytest.mark.parametrize("head", [False, True])
@pytest.mark.parametrize("early_s", [0.0, 0.001, -0.002])
async def test_it_is_told_as_a_deadline_and_counts_against_nobody(head: bool, early_s: float) -> None:
    clock = [time.perf_counter()]

    def advance(seconds: float) -> None:
        clock[0] += seconds

    transport = Late(advance, early_s, head=head)
    pool = UpstreamPool("http://x", transport, PoolConfig(), now=lambda: clock[0])
    for _ in range(50):
        ctx = Context(request_id="r", started_s=clock[0], deadline_s=clock[0] + 0.03)
        with pytest.raises(ServerError) as caught:
            await ask(pool, ctx, transport)
        assert caught.value.kind is ErrorKind.DEADLINE
        assert caught.value.message == "No complete answer within 0.03 seconds."
    report = pool.report()
    assert (report.consecutive_failures, report.breaker, report.busy) == (0, "closed", 0)
    await pool.close()


async def test_a_timeout_well_before_the_deadline_is_the_upstreams() -> None:
    clock = [0.0]

    def advance(seconds: float) -> None:
        clock[0] += seconds

    transport = Late(advance, 5.0, head=False)
    pool = UpstreamPool("http://x", transport, PoolConfig(), now=lambda: clock[0])
    with pytest.raises(ServerError) as caught:
        await ask(pool, Context(request_id="r", deadline_s=10.0), transport)
    assert caught.value.kind is ErrorKind.UPSTREAM_TIMEOUT
    assert pool.report().consecutive_failures == 1
    await pool.close()
