"""A provider around a provider."""

from llm_server.contract.calls import Call
from llm_server.contract.context import Context
from llm_server.contract.facts import Facts
from llm_server.contract.ports import Begun, Events, ModelInfo, Provider, State, Taker, begin_of


class Wrapped:
    """Passes everything on, and is a :class:`Provider` too: a stage overrides what it changes.

    Args:
        inner: the provider, which starting and closing start and close.
    """

    def __init__(self, inner: Provider) -> None:
        self.name = inner.name
        self._inner = inner
        self._begin = begin_of(inner)

    def facts(self, model: str) -> Facts:
        """Return the inner provider's facts."""
        return self._inner.facts(model)

    def __call__(self, call: Call, ctx: Context) -> Events:
        """Return the inner provider's answers themselves."""
        return self._inner(call, ctx)

    def begin(self, call: Call, ctx: Context, taker: Taker) -> Begun | None:
        """Take the inner provider's short way."""
        return self._begin(call, ctx, taker)

    async def models(self) -> tuple[ModelInfo, ...]:
        """Return the inner provider's models."""
        return await self._inner.models()

    def state(self) -> tuple[State, str]:
        """Return the inner provider's state."""
        return self._inner.state()

    async def start(self) -> None:
        """Make the inner provider ready."""
        await self._inner.start()

    async def close(self) -> None:
        """Release the inner provider."""
        await self._inner.close()
