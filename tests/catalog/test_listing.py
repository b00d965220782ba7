"""The list of models: one flight, a memory for good answers, and no provider's failure hurts it."""

import asyncio
from collections.abc import Mapping

import pytest

from llm_server.catalog import Listing
from llm_server.contract import ErrorKind, Facts, ModelInfo, ServerError, Target
from llm_server.contract.facts import CAPABILITIES
from llm_server.testing import FakeProvider

NO_ALIASES: Mapping[str, tuple[Target, ...]] = {}


class Lister(FakeProvider):
    """Lists ``offered``, or raises it; waits for ``gate`` when there is one."""

    def __init__(self, name: str, *models: str, known: frozenset[str] = CAPABILITIES) -> None:
        super().__init__(name, facts=Facts(context_tokens=100, max_output_tokens=10, known=known))
        self.offered: Exception | tuple[ModelInfo, ...] = tuple(
            ModelInfo(id=model, provider="") for model in models
        )
        self.times = 0

    async def models(self) -> tuple[ModelInfo, ...]:
        self.times += 1
        self.asked.set()
        if self.gate is not None:
            await self.gate.wait()
        if isinstance(self.offered, Exception):
            raise self.offered
        return self.offered


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def make(*providers: Lister, clock: Clock | None = None, timeout_s: float = 60.0) -> Listing:
    known = {provider.name: provider for provider in providers}
    return Listing(known, NO_ALIASES, timeout_s=timeout_s, clock=clock or Clock())


def ids(models: tuple[ModelInfo, ...]) -> list[str]:
    return [model.id for model in models]


async def test_models_are_named_by_provider_and_completed_with_facts() -> None:
    listing = make(Lister("p", "b", "a"), Lister("q", "org/x"))
    models = await listing.models()
    assert ids(models) == ["p/b", "p/a", "q/org/x"]
    assert {model.provider for model in models} == {"p", "q"}
    assert {(model.context_tokens, model.max_output_tokens) for model in models} == {(100, 10)}
    assert listing.failures == {}


async def test_what_the_provider_tells_wins_over_facts() -> None:
    provider = Lister("p")
    provider.offered = (ModelInfo(id="m", provider="", context_tokens=7, created=5, display_name="M"),)
    (model,) = await make(provider).models()
    told = (model.id, model.context_tokens, model.max_output_tokens, model.created, model.display_name)
    assert told == ("p/m", 7, 10, 5, "M")
    assert "tools" in model.capabilities


async def test_aliases_come_first_and_describe_their_first_target() -> None:
    aliases = {
        "fast": (Target("p", "m"), Target("q", "x")),
        "lost": (Target("q", "gone"),),
        "p/m2": (Target("p", "m"),),
    }
    providers = {"p": Lister("p", "m", "m2"), "q": Lister("q")}
    models = await Listing(providers, aliases).models()
    assert ids(models) == ["fast", "lost", "p/m2", "p/m"]
    assert (models[0].provider, models[0].context_tokens) == ("p", 100)
    # A target that its provider does not list, or whose list cannot be had, is known all the same.
    assert (models[1].provider, models[1].context_tokens) == ("q", 100)
    assert models[0].capabilities == models[1].capabilities == models[3].capabilities
    assert "tools" in models[1].capabilities


async def test_guesses_are_not_listed() -> None:
    aliases = {"fast": (Target("p", "m"),)}
    models = await Listing({"p": Lister("p", "m", known=frozenset())}, aliases).models()
    assert [model.capabilities for model in models] == [(), ()]


async def test_find() -> None:
    listing = make(Lister("p", "m"))
    found = await listing.find("p/m")
    assert found is not None
    assert found.id == "p/m"
    assert await listing.find("p/other") is None


async def test_a_good_answer_is_kept_for_its_time() -> None:
    provider, clock = Lister("p", "m"), Clock()
    listing = make(provider, clock=clock)
    await listing.models()
    clock.now_s = 299.9
    await listing.models()
    assert provider.times == 1
    clock.now_s = 300.0
    await listing.models()
    assert provider.times == 2


@pytest.mark.parametrize(
    ("problem", "told"),
    [
        (ServerError(ErrorKind.UPSTREAM_AUTH, "The key was refused."), "The key was refused."),
        (RuntimeError("bug with sk-secret"), "failed to list its models"),
    ],
)
async def test_a_failure_keeps_the_last_good_answer_and_is_retried_soon(
    problem: Exception, told: str
) -> None:
    bad, good, clock = Lister("bad", "m"), Lister("good", "x"), Clock()
    listing = make(bad, good, clock=clock)
    await listing.models()
    offered, bad.offered = bad.offered, problem
    clock.now_s = 300.0
    assert ids(await listing.models()) == ["bad/m", "good/x"]
    assert listing.failures == {"bad": told}
    clock.now_s = 309.9
    await listing.models()
    assert (bad.times, good.times) == (2, 2)
    bad.offered = offered
    clock.now_s = 310.0
    await listing.models()
    assert (bad.times, good.times) == (3, 2)
    assert listing.failures == {}


async def test_a_provider_that_never_answered_is_missing_and_the_others_are_there() -> None:
    bad = Lister("bad")
    bad.offered = ServerError(ErrorKind.UPSTREAM_UNREACHABLE, "No answer.")
    listing = make(bad, Lister("good", "x"))
    assert ids(await listing.models()) == ["good/x"]


async def test_a_slow_provider_is_not_waited_for() -> None:
    slow = Lister("slow", "m")
    slow.gate = asyncio.Event()
    listing = make(slow, Lister("good", "x"), timeout_s=0.001)
    assert ids(await listing.models()) == ["good/x"]
    assert listing.failures == {"slow": "did not list its models within 0.001 s"}


async def test_concurrent_callers_share_one_flight() -> None:
    provider = Lister("p", "m")
    provider.gate = asyncio.Event()
    listing = make(provider)
    callers = [asyncio.create_task(listing.models()) for _ in range(10)]
    await provider.asked.wait()
    provider.gate.set()
    assert {tuple(ids(models)) for models in await asyncio.gather(*callers)} == {("p/m",)}
    assert provider.times == 1


async def test_a_caller_that_leaves_takes_nothing_from_the_others() -> None:
    provider = Lister("p", "m")
    provider.gate = asyncio.Event()
    listing = make(provider)
    leaving = asyncio.create_task(listing.models())
    await provider.asked.wait()
    staying = asyncio.create_task(listing.models())
    leaving.cancel()
    await asyncio.wait([leaving])
    provider.gate.set()
    assert ids(await staying) == ["p/m"]
    assert provider.times == 1


async def test_providers_are_asked_at_the_same_time() -> None:
    one, other = Lister("p", "m"), Lister("q", "x")
    one.gate = other.gate = asyncio.Event()
    asking = asyncio.create_task(make(one, other).models())
    await asyncio.gather(one.asked.wait(), other.asked.wait())
    one.gate.set()
    assert ids(await asking) == ["p/m", "q/x"]


async def test_close_stops_a_flight() -> None:
    provider = Lister("p", "m")
    provider.gate = asyncio.Event()
    listing = make(provider)
    caller = asyncio.create_task(listing.models())
    await provider.asked.wait()
    await listing.close()
    await asyncio.wait([caller])
    assert caller.cancelled()
    await listing.close()
