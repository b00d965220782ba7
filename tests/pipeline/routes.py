"""Routes for tests: fake providers under one name, in a time that passes only when somebody waits."""

import asyncio
import heapq
from collections.abc import Sequence
from typing import Any

from llm_server.contract import Provider
from llm_server.pipeline import Routed
from llm_server.pipeline.attempts import Timing
from llm_server.routing import FixedOrder, RoutingConfig

MODEL = "both"
TURNS = 20
"""Of the loop, in which everybody comes to a stop who is not waiting for the time to pass."""


class VirtualTime:
    """A clock that moves to the next one who waits, when everybody else has come to a stop.

    Attributes:
        now_s: the time.
        slept_s: what was asked to wait, in order.
        chance: what the next back-offs draw.
    """

    def __init__(self, chance: float = 0.5) -> None:
        self.now_s = 1000.0
        self.slept_s: list[float] = []
        self.chance = chance
        self._settling = False
        self._waiting: list[tuple[float, int, asyncio.Future[None]]] = []

    @property
    def timing(self) -> Timing:
        """What a stage is given."""
        return Timing(clock=lambda: self.now_s, sleep=self.sleep, random=lambda: self.chance)

    async def sleep(self, seconds: float) -> None:
        """Wait until the clock has come to ``seconds`` from now."""
        self.slept_s.append(seconds)
        future = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (self.now_s + seconds, len(self.slept_s), future))
        if not self._settling:
            self._settling = True
            asyncio.get_running_loop().call_soon(self._settle, TURNS)
        await future

    def _settle(self, turns: int) -> None:
        """Give the loop some turns for whatever is ready, then let the time pass to the next who waits."""
        loop = asyncio.get_running_loop()
        if turns:
            loop.call_soon(self._settle, turns - 1)
            return
        while self._waiting and self._waiting[0][2].done():
            heapq.heappop(self._waiting)
        self._settling = bool(self._waiting)
        if self._waiting:
            due_s, _, future = heapq.heappop(self._waiting)
            self.now_s = max(self.now_s, due_s)
            future.set_result(None)
            loop.call_soon(self._settle, TURNS)


def routing(
    providers: Sequence[Provider], time: VirtualTime | None = None, *, route: Any = None, **retry: Any
) -> tuple[Routed, VirtualTime]:
    """Return the stage, with ``MODEL`` standing for each provider's model ``m`` in order, and its time.

    ``route`` holds further settings of the route, ``retry`` those of its retries.
    """
    time = time or VirtualTime()
    names = [provider.name for provider in providers]
    more = dict(route or {})
    spare = {target.partition("/")[0] for each in more.values() if isinstance(each, list) for target in each}
    targets = [f"{name}/m" for name in names if name not in spare]
    alias = {"targets": targets, "retry": retry, **more}
    config = RoutingConfig.model_validate({"aliases": {MODEL: alias}})
    by_name = {provider.name: provider for provider in providers}
    return Routed(FixedOrder(config, set(names), {}), by_name, time.timing), time
