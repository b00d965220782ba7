"""Time that passes only when nothing else is to be done, and an upstream that lives in it.

A simulation of minutes takes seconds and goes the same way every time (as FoundationDB's does).
"""

import asyncio
import selectors
from collections import Counter, deque
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, TypeVar

from llm_server.contract import Attempt, Context, ErrorKind, HttpRequest, Priority, ServerError
from llm_server.pool.config import PoolConfig
from llm_server.pool.pool import UpstreamPool

T = TypeVar("T")
STREAM = {"content-type": "text/event-stream"}
REFUSAL_S = 0.01
"""What an answer without work takes."""
POST = HttpRequest(path="chat", body=b"{}")


class _Selector(selectors.DefaultSelector):  # type: ignore[misc,valid-type]  # chosen by the platform
    """Waits for no time at all, but moves the clock on by it."""

    moved: Callable[[float], None]

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        assert timeout is not None, "everybody waits and no timer is set: a waiter was lost"
        if timeout > 0:
            self.moved(timeout)
        return list(super().select(0))


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop with a clock of its own."""

    def __init__(self) -> None:
        self.now_s = 1000.0
        selector = _Selector()
        selector.moved = self._move
        super().__init__(selector)

    def time(self) -> float:
        return self.now_s

    def _move(self, by_s: float) -> None:
        self.now_s += by_s


def virtually(main: Callable[[VirtualLoop], Coroutine[Any, Any, T]]) -> T:
    """Run ``main`` in virtual time and return what it returns."""
    loop = VirtualLoop()
    try:
        return loop.run_until_complete(main(loop))
    finally:
        loop.close()


@dataclass
class Response:
    """An answer with nothing in it, at a time that the upstream decides."""

    status: int
    headers: Mapping[str, str]
    pieces: AsyncGenerator[bytes, None]

    async def read(self) -> bytes:
        return b"".join([piece async for piece in self.pieces])

    def chunks(self) -> AsyncGenerator[bytes, None]:
        return self.pieces


@dataclass
class SimulatedUpstream:
    """Computes ``capacity`` requests at once, the others wait there; implements ``Transport``.

    ``begins_s`` and ``lasts_s`` are drawn for each request: until its first byte, and from there to its end.
    With ``queue`` given, requests beyond capacity and queue are refused with 429. ``fails`` is asked for each
    request: an error kind, or a status, instead of an answer.
    """

    capacity: int
    begins_s: Callable[[], float] = lambda: 0.5
    lasts_s: Callable[[], float] = lambda: 3.5
    queue: int | None = None
    fails: Callable[[], ErrorKind | int | None] = lambda: None
    streams: bool = True
    headers: Mapping[str, str] = field(default_factory=dict)
    asked: int = 0
    served: int = 0
    busy: int = 0
    most: int = 0
    waiting: deque[asyncio.Future[None]] = field(default_factory=deque)

    def exchange(self, request: HttpRequest, within_s: float | None = None) -> "_Exchange":
        return _Exchange(self, request, within_s)

    def stats(self) -> Mapping[str, int]:
        return {"open": self.busy, "idle": 0, "opened": self.asked, "reused": 0, "resent": 0}

    async def close(self) -> None:
        pass

    async def take(self) -> None:
        if self.busy < self.capacity:
            self.busy += 1
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.waiting.append(turn)
        await turn

    def give(self) -> None:
        while self.waiting:
            turn = self.waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self.busy -= 1

    async def body(self) -> AsyncGenerator[bytes, None]:
        await self.take()
        try:
            await asyncio.sleep(self.begins_s())
            yield b"first"
            await asyncio.sleep(self.lasts_s())
            yield b"last"
            self.served += 1
        finally:
            self.give()


class _Exchange:
    def __init__(self, upstream: SimulatedUpstream, request: HttpRequest, within_s: float | None) -> None:
        self._up = upstream
        self.request = request
        self.within_s = within_s
        self._pieces: AsyncGenerator[bytes, None] | None = None

    async def __aenter__(self) -> Response:
        up = self._up
        up.asked += 1
        inside = up.busy + len(up.waiting)
        up.most = max(up.most, inside + 1)
        failure: ErrorKind | int | None = up.fails()
        if up.queue is not None and inside >= up.capacity + up.queue:
            failure = 429
        if isinstance(failure, ErrorKind):
            raise ServerError(failure, "simulated")
        if failure is not None:
            await asyncio.sleep(REFUSAL_S)
            return Response(failure, up.headers, _nothing())
        self._pieces = up.body()
        if up.streams:
            return Response(200, {**STREAM, **up.headers}, self._pieces)
        whole = b"".join([piece async for piece in self._pieces])
        return Response(200, up.headers, _nothing(whole))

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._pieces is not None:
            await self._pieces.aclose()


async def _nothing(whole: bytes = b"") -> AsyncGenerator[bytes, None]:
    if whole:
        yield whole


def context(
    priority: Priority = Priority.DEFAULT, deadline_s: float | None = None, *, desperate: bool = False
) -> Context:
    """Return the context of a request for the model ``m``."""
    return Context(
        request_id="r",
        priority=priority,
        deadline_s=deadline_s,
        desperate=desperate,
        attempts=[Attempt(provider="p", model="m")],
    )


def pool_before(up: SimulatedUpstream, loop: VirtualLoop, **config: Any) -> UpstreamPool:
    """Return a pool before a simulated upstream, in the loop's time."""
    return UpstreamPool("http://sim", up, PoolConfig.model_validate(config), now=loop.time)


async def ask(pool: UpstreamPool, ctx: Context | None = None) -> int:
    """Ask once, read all, and return the status."""
    async with pool.send(POST, ctx) as response:
        async for _ in response.chunks():
            pass
        return response.status


@dataclass
class Tally:
    """What became of requests, by class: ``ok`` or the kind of the error; and how long refusals took."""

    outcomes: Counter[tuple[Priority, str]] = field(default_factory=Counter)
    refused_after_s: list[float] = field(default_factory=list)

    async def ask(self, pool: UpstreamPool, loop: VirtualLoop, ctx: Context) -> None:
        """Ask once and note the outcome."""
        began_s = loop.time()
        try:
            status = await ask(pool, ctx)
            self.outcomes[ctx.priority, "ok" if status < 400 else str(status)] += 1
        except ServerError as error:
            self.outcomes[ctx.priority, error.kind.value] += 1
            self.refused_after_s.append(loop.time() - began_s)

    def share(self, priority: Priority) -> float:
        """Return the share of a class that was served."""
        mine = {outcome: count for (each, outcome), count in self.outcomes.items() if each is priority}
        return mine.get("ok", 0) / sum(mine.values())


async def keep_asking(pool: UpstreamPool, loop: VirtualLoop, clients: int, for_s: float) -> list[int]:
    """Have so many clients ask again and again (a closed loop); return the limit at each second."""
    ends_s = loop.time() + for_s

    async def client() -> None:
        while loop.time() < ends_s:
            try:
                status = await ask(pool, context())
            except ServerError as error:
                status = error.kind.status
            if status >= 400:
                await asyncio.sleep(1.0)

    clients_ = [asyncio.create_task(client()) for _ in range(clients)]
    limits = []
    while loop.time() < ends_s:
        await asyncio.sleep(1.0)
        limits.append(pool.stats()["limit"])
    await asyncio.gather(*clients_)
    return limits
