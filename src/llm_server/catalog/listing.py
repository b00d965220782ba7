"""The models that the server offers now."""

import asyncio
import logging
import time
from collections.abc import Callable, Iterator, Mapping

from msgspec import Struct
from msgspec.structs import replace

from llm_server.contract import ModelInfo, Provider, ServerError, Target

_log = logging.getLogger(__name__)


class _Answer(Struct, frozen=True):
    """What a provider said last: its last good list, when to ask again, and what went wrong since."""

    models: tuple[ModelInfo, ...]
    until_s: float
    failure: str = ""


class Listing:
    """Asks every provider for its models and remembers the answers.

    Providers are asked concurrently, once for all callers that wait. One that fails or is too slow keeps its
    last good answer and is asked again after ``retry_s``; the listing as a whole never fails.

    Args:
        providers: by name, in the order of the list.
        aliases: names of their own, each with the targets that it stands for; they come first.
        ttl_s: seconds for which a good answer is kept.
        timeout_s: seconds that a provider has to answer.
        retry_s: seconds after which a provider that failed is asked again.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        providers: Mapping[str, Provider],
        aliases: Mapping[str, tuple[Target, ...]],
        *,
        ttl_s: float = 300.0,
        timeout_s: float = 3.0,
        retry_s: float = 10.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._providers = providers
        self._aliases = aliases
        self._ttl_s = ttl_s
        self._timeout_s = timeout_s
        self._retry_s = retry_s
        self._clock = clock
        self._answers: dict[str, _Answer] = {}
        self._asking: asyncio.Task[None] | None = None

    @property
    def failures(self) -> Mapping[str, str]:
        """What went wrong with each provider whose models could not be asked for the last time."""
        return {name: answer.failure for name, answer in self._answers.items() if answer.failure}

    async def models(self) -> tuple[ModelInfo, ...]:
        """Return all models, aliases first; ids are ``provider/model`` or the alias."""
        if self._asking is None and self._stale():
            self._asking = asyncio.create_task(self._ask())
        if self._asking is not None:
            # A caller that leaves must not take the answer from the others.
            await asyncio.shield(self._asking)
        listed = {model.id: model for name in self._providers for model in self._listed(name)}
        aliases = {info.id: info for info in self._named(listed)}
        return tuple(
            {**aliases, **{id_: model for id_, model in listed.items() if id_ not in aliases}}.values()
        )

    async def find(self, model_id: str) -> ModelInfo | None:
        """Return the model that is listed as ``model_id``."""
        return next((model for model in await self.models() if model.id == model_id), None)

    async def close(self) -> None:
        """Stop asking."""
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.wait([self._asking])

    def _stale(self) -> list[str]:
        now_s = self._clock()
        return [
            name
            for name in self._providers
            if name not in self._answers or self._answers[name].until_s <= now_s
        ]

    async def _ask(self) -> None:
        try:
            await asyncio.gather(*(self._ask_one(name) for name in self._stale()))
        finally:
            self._asking = None

    async def _ask_one(self, name: str) -> None:
        try:
            async with asyncio.timeout(self._timeout_s):
                models = await self._providers[name].models()
        except TimeoutError:
            self._failed(name, f"did not list its models within {self._timeout_s:g} s")
        except ServerError as error:
            self._failed(name, error.message)
        except Exception:  # noqa: BLE001 - one provider's fault must not hide the others' models
            _log.exception("provider %s failed to list its models", name)
            self._failed(name, "failed to list its models")
        else:
            self._answers[name] = _Answer(models, self._clock() + self._ttl_s)

    def _failed(self, name: str, failure: str) -> None:
        last = self._answers.get(name)
        self._answers[name] = _Answer(last.models if last else (), self._clock() + self._retry_s, failure)

    def _listed(self, name: str) -> Iterator[ModelInfo]:
        for model in self._answers[name].models:
            yield self._described(name, model)

    def _described(self, provider: str, model: ModelInfo) -> ModelInfo:
        """Return ``model`` under its full name, with what is known of it beyond what its provider tells."""
        facts = self._providers[provider].facts(model.id)
        return replace(
            model,
            id=f"{provider}/{model.id}",
            provider=provider,
            context_tokens=model.context_tokens or facts.context_tokens,
            max_output_tokens=model.max_output_tokens or facts.max_output_tokens,
            capabilities=facts.capabilities,
        )

    def _named(self, listed: Mapping[str, ModelInfo]) -> Iterator[ModelInfo]:
        for alias, targets in self._aliases.items():
            first = targets[0]
            unlisted = ModelInfo(id=first.model, provider=first.provider)
            yield replace(listed.get(str(first)) or self._described(first.provider, unlisted), id=alias)
