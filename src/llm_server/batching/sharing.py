"""Identical requests in flight share one call (single flight, as in golang.org/x/sync/singleflight)."""

import asyncio
from contextlib import aclosing
from hashlib import sha256
from typing import Any

import msgspec

from llm_server.batching.config import SingleFlightConfig
from llm_server.batching.flight import Flight
from llm_server.contract import (
    Begun,
    Call,
    ChatCall,
    Context,
    EmbedCall,
    Events,
    GroupObserver,
    Provider,
    Taker,
    TextCall,
    Wrapped,
)

_FIELDS = msgspec.json.Decoder(dict[str, msgspec.Raw])
_write = msgspec.json.Encoder(order="deterministic").encode


class Shared(Wrapped):
    """Wraps a provider, and is one. Calls whose answer is the same each time share it while it is on its way.

    These are chat and text calls at temperature 0 or with a seed, and embeddings, of the same tenant, that
    mean the same to the upstream. Those that demand a form go straight through, and so does everything that
    another answer could be given to.

    Args:
        inner: the provider.
        config: whether, and how much is kept.
        observer: told of every request that joins another.
    """

    def __init__(self, inner: Provider, config: SingleFlightConfig, observer: GroupObserver) -> None:
        super().__init__(inner)
        self._config = config
        self._observer = observer
        self._flights: dict[bytes, Flight] = {}  # bounded by the requests in flight
        self._tasks: set[asyncio.Task[None]] = set()

    def __call__(self, call: Call, ctx: Context) -> Events:
        """Answer ``call``; raises what the inner provider does."""
        if self._config.enabled and is_repeatable(call):
            return self._shared(call, ctx)
        return self._inner(call, ctx)

    def begin(self, call: Call, ctx: Context, taker: Taker) -> Begun | None:
        """Take the inner provider's short way, unless ``call`` is to be shared."""
        if self._config.enabled and is_repeatable(call):
            return None
        return self._begin(call, ctx, taker)

    async def close(self) -> None:
        """End what is in flight, and release the inner provider."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await super().close()

    async def _shared(self, call: Call, ctx: Context) -> Events:
        key = key_of(call, ctx.tenant)
        flight = self._flights.get(key)
        if flight is None:
            flight = self._flights[key] = self._launched(call, ctx, key)
        else:
            self._observer.shared(self.name)
        async with aclosing(flight.read(ctx)) as answers:
            async for answer in answers:
                yield answer

    def _launched(self, call: Call, ctx: Context, key: bytes) -> Flight:
        def landed() -> None:
            if self._flights.get(key) is flight:
                del self._flights[key]

        flight = Flight(ctx, self._config.max_chunks, landed)
        task = flight.start(self._inner(call, flight.ctx))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return flight


def is_repeatable(call: Call) -> bool:
    """Whether ``call`` has the same answer each time, and demands no form of it."""
    if isinstance(call, ChatCall):
        sampling = call.sampling
        if sampling.temperature != 0 and sampling.seed is None:
            return False
        return type(call) is ChatCall and call.output is None and not _is_held(call)
    if isinstance(call, TextCall):
        return call.sampling.temperature == 0 or call.sampling.seed is not None
    return isinstance(call, EmbedCall)


def _is_held(call: ChatCall) -> bool:
    """Whether tools must be called, or in their form only, or are run by the upstream (the world changes)."""
    forced = call.tool_choice is not None and call.tool_choice.mode in {"required", "tool"}
    return forced or any(tool.strict or tool.type != "function" for tool in call.tools)


def key_of(call: Call, tenant: str) -> bytes:
    """Return what two calls have in common exactly if they mean the same to the upstream.

    The caller's bytes are read as far as the order of their fields, the white space and the model's name (an
    alias perhaps) go: all other fields count as they stand, those included that nothing here knows. So two
    spellings of one value are two calls, which costs a call; what differs is never taken for the same.
    """
    told: Any = call
    if call.raw:
        fields = _FIELDS.decode(msgspec.json.format(call.raw, indent=-1))
        fields.pop("model", None)
        told = sorted(fields.items()), {name: getattr(call, name) for name in call.amended}
    common = type(call).__name__, call.model, call.dialect, call.stream, call.headers
    return sha256(_write((tenant, common, told))).digest()
