"""A tenth of all upstream calls fails, in every way of the matrix: hardly any caller notices."""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest
import pytest_asyncio

from tests.end_to_end.asking import PATHS, Told, ask
from tests.end_to_end.faults import FAULTS, HOLDING
from tests.end_to_end.front import Front, fronting, provider
from tests.upstreams.cases import Form, load
from tests.upstreams.server import upstream, wants_stream
from tests.upstreams.upstream import Answer, Request, Upstream

pytestmark = pytest.mark.asyncio(loop_scope="module")

VENDORS = ("openai", "anthropic", "gemini", "cohere")
REQUESTS = 2400
AT_ONCE = 48
FAILING = 0.1
LIMIT_S = 240.0
"""Of the whole run: one request that hangs would meet it."""
SEED = 20_261_128
POOL = {"first_byte_timeout_s": 3.0, "idle_timeout_s": 3.0}
WAYS = [fault for name, fault in FAULTS.items() if fault.does is not None and name != HOLDING]


class Flaky:
    """A vendor that fails a tenth of its calls; ``spoilt`` counts the answers that broke after content."""

    def __init__(self, vendor: str) -> None:
        self.vendor = vendor
        self.failed = self.spoilt = 0
        self._chance = random.Random(f"{SEED}{vendor}")

    def __call__(self, request: Request) -> Answer:
        form: Form = "stream" if wants_stream(request) else "whole"
        if self._chance.random() >= FAILING:
            return load(self.vendor, "text", form)
        fault = self._chance.choice(WAYS)
        assert fault.does is not None
        self.failed += fault.outcome(form) != "answered"
        self.spoilt += fault.outcome(form) == "broken"
        return fault.does(self.vendor, form)


def well(request: Request) -> Answer:
    """Answer as an upstream that is healthy."""
    return load("anthropic", "text", "stream" if wants_stream(request) else "whole")


class World:
    """A server, flaky vendors and one that is healthy."""

    front: Front
    good: Upstream

    def __init__(self) -> None:
        self.flaky = {vendor: Flaky(vendor) for vendor in VENDORS}
        self.ups: list[Upstream] = []

    @property
    def calls(self) -> int:
        """Calls that upstreams received."""
        return sum(len(up.requests) for up in [*self.ups, self.good])


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world() -> AsyncIterator[World]:
    world = World()
    async with AsyncExitStack() as stack:
        world.good = await stack.enter_async_context(
            upstream(
                lambda request: load("anthropic", "text", "stream" if wants_stream(request) else "whole")
            )
        )
        providers: dict[str, Any] = {"good": provider(world.good, "anthropic")}
        for vendor, flaky in world.flaky.items():
            up = await stack.enter_async_context(upstream(flaky))
            world.ups.append(up)
            providers[vendor] = provider(up, vendor, pool=POOL)
        models = {f"fast-{vendor}": [f"{vendor}/x", "good/y"] for vendor in VENDORS}
        retry = {"attempt_timeout_s": 8}
        world.front = await stack.enter_async_context(fronting(providers, models=models, retry=retry))
        yield world


async def test_a_tenth_of_the_calls_fails_and_next_to_no_caller_notices(world: World) -> None:
    places = asyncio.Semaphore(AT_ONCE)
    asked = random.Random(SEED)
    texts = {load(vendor, "text").answer["text"] for vendor in VENDORS}

    async def one() -> Told:
        caller, vendor, stream = (
            asked.choice(tuple(PATHS)),
            asked.choice(VENDORS),
            asked.random() < 0.5,
        )
        async with places:
            return await ask(world.front, caller, f"fast-{vendor}", stream=stream)

    async with asyncio.timeout(LIMIT_S):
        told = await asyncio.gather(*(one() for _ in range(REQUESTS)))

    failed = sum(flaky.failed for flaky in world.flaky.values())
    spoilt = sum(flaky.spoilt for flaky in world.flaky.values())
    assert failed > REQUESTS * FAILING / 2, "the faults happened"
    before_commit = [each for each in told if each.status != 200]
    assert len(before_commit) <= REQUESTS / 1000, Counter(each.error for each in before_commit)
    broken = [each for each in told if each.status == 200 and not each.ended]
    assert len(broken) <= spoilt
    assert all(each.error for each in broken)
    whole = [each for each in told if each.ended]
    slow = {load(vendor, "unicode").answer["text"] for vendor in VENDORS}
    assert {each.text for each in whole} <= texts | slow, "each was answered once, by one of them"
    assert world.calls <= REQUESTS * 1.2, "extra load within the budget"
    assert world.calls >= REQUESTS


async def test_nothing_is_left_of_it(world: World) -> None:
    await world.front.until_idle()
    assert sum(up.in_flight for up in [*world.ups, world.good]) == 0
