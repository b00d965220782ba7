"""Requests for embeddings that come at the same time go upstream as one."""

import asyncio
from contextlib import aclosing
from functools import partial

import msgspec

from llm_server.batching.config import EmbeddingsConfig
from llm_server.batching.group import Group, Member
from llm_server.batching.portions import size
from llm_server.contract import (
    Begun,
    Call,
    Context,
    EmbedCall,
    Embeddings,
    Events,
    GroupObserver,
    Provider,
    Taker,
    Wrapped,
)

MAX_LIMITS = 1000
"""Models whose own limit of texts is remembered; the one learned first is forgotten first."""

_FIELDS = msgspec.json.Decoder(dict[str, msgspec.Raw])
_MODELLED = ("model", "input", "dimensions", "encoding_format", "user")
"""Fields of a caller's body that its call tells. The texts' field is that of the dialect that is served;
another dialect's would stay among the rest and keep its calls apart."""

Key = tuple[object, ...]


class _Lane:
    """Calls of one kind: how many are at the upstream, and who waits to be the next group."""

    __slots__ = ("bytes", "flying", "texts", "timer", "waiting")

    def __init__(self) -> None:
        self.flying = 0
        self.timer: asyncio.TimerHandle | None = None
        self.clear()

    def clear(self) -> None:
        self.waiting: list[Member] = []
        self.texts = 0
        self.bytes = 0
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None

    def count(self, member: Member, sign: int) -> None:
        self.texts += sign * len(member.call.inputs)
        self.bytes += sign * member.size


class Grouped(Wrapped):
    """Wraps a provider, and is one. Requests for embeddings of one kind are grouped while one is on its way.

    The same kind means: the same model, parameters, unknown fields and headers, the same form of the answer,
    and the same tenant (a group's tokens are divided among its members, so they are one tenant's).

    This is Nagle's algorithm (RFC 896) with a limit on the wait. What comes while nothing of its kind is at
    the upstream goes at once, and waits for nothing. What comes while something is there collects, and goes
    as one call as soon as one of those there is answered, the group is full, or its first request has waited
    ``max_wait_ms``. So groups are as large as the upstream is slow: they grow by themselves under load, and
    vanish without it.

    Each request gets its own vectors. The tokens of the group's requests sum up to those that the upstream
    counted; how many each text was it does not say, so they are divided by the length of the texts, and
    ``Context.estimated`` says ``usage``. A bad text fails its own request alone; see :class:`Group`.

    Args:
        inner: the provider.
        config: whether, and how large and how long.
        observer: told of every call and every wait.
    """

    def __init__(self, inner: Provider, config: EmbeddingsConfig, observer: GroupObserver) -> None:
        super().__init__(inner)
        self._config = config
        self._observer = observer
        self._sent = partial(observer.sent, inner.name)
        self._lanes: dict[Key, _Lane] = {}  # bounded by the requests in flight
        self._limits: dict[str, int] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False

    def __call__(self, call: Call, ctx: Context) -> Events:
        """Answer ``call``; raises what the inner provider does."""
        if isinstance(call, EmbedCall) and self._config.enabled and self._is_small(call):
            return self._grouped(call, ctx)
        return self._inner(call, ctx)

    def begin(self, call: Call, ctx: Context, taker: Taker) -> Begun | None:
        """Take the inner provider's short way, unless ``call`` may be grouped."""
        if isinstance(call, EmbedCall) and self._config.enabled and self._is_small(call):
            return None
        return self._begin(call, ctx, taker)

    async def close(self) -> None:
        """End what is in flight, and release the inner provider."""
        self._closed = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await super().close()

    def _is_small(self, call: EmbedCall) -> bool:
        config = self._config
        return len(call.inputs) * 2 <= config.max_texts and size(call) * 2 <= config.max_bytes

    async def _grouped(self, call: EmbedCall, ctx: Context) -> Events:
        key = key_of(call, ctx.tenant)
        lane = self._lanes.get(key)
        if lane is not None:
            yield await self._with_others(lane, key, Member(call, ctx))
            return
        lane = self._lanes[key] = _Lane()
        lane.flying = 1
        self._sent(len(call.inputs))
        try:
            async with aclosing(self._inner(call, ctx)) as answers:
                async for answer in answers:
                    yield answer
        finally:
            self._returned(lane, key)

    async def _with_others(self, lane: _Lane, key: Key, member: Member) -> Embeddings:
        self._wait(lane, key, member)
        try:
            return await member.answer
        finally:
            if member in lane.waiting:  # it leaves
                lane.waiting.remove(member)
                lane.count(member, -1)

    def _wait(self, lane: _Lane, key: Key, member: Member) -> None:
        limit = min(self._config.max_texts, self._limits.get(member.call.model, self._config.max_texts))
        lane.count(member, 1)
        if lane.waiting and (lane.texts > limit or lane.bytes > self._config.max_bytes):
            lane.count(member, -1)
            self._send(lane, key)
            lane.count(member, 1)
        lane.waiting.append(member)
        if lane.texts >= limit:
            self._send(lane, key)
        elif lane.timer is None:
            loop = asyncio.get_running_loop()
            lane.timer = loop.call_later(self._config.max_wait_ms / 1000, self._send, lane, key)

    def _send(self, lane: _Lane, key: Key) -> None:
        """Send those that wait, if there are any left, as one call in a task of its own."""
        members = lane.waiting
        lane.clear()
        if not members:
            return
        group = Group(members, self._inner, self._sent, partial(self._learn, members[0].call.model))
        if self._closed:
            group.give_up()
            return
        lane.flying += 1
        now_s = asyncio.get_running_loop().time()
        waits_s = [now_s - member.joined_s for member in members]
        task = asyncio.create_task(group.run())
        self._tasks.add(task)

        def left(answer: asyncio.Future[Embeddings]) -> None:
            if answer.cancelled() and group.abandoned:
                task.cancel()

        def returned(task: asyncio.Task[None]) -> None:
            self._tasks.discard(task)
            group.give_up()
            self._observer.waited(self.name, waits_s, group.calls)
            self._returned(lane, key)

        for member in members:
            member.answer.add_done_callback(left)
        task.add_done_callback(returned)

    def _returned(self, lane: _Lane, key: Key) -> None:
        lane.flying -= 1
        self._send(lane, key)
        if lane.flying == 0:
            del self._lanes[key]

    def _learn(self, model: str, texts: int) -> None:
        """Remember that the upstream takes ``texts`` at once, and not many more."""
        if len(self._limits) >= MAX_LIMITS and model not in self._limits:
            del self._limits[next(iter(self._limits))]
        self._limits[model] = min(texts, self._limits.get(model, texts))


def key_of(call: EmbedCall, tenant: str) -> Key:
    """Return what calls have in common that may go as one: all but their inputs."""
    rest: list[tuple[str, bytes]] = []
    if call.raw:
        fields = _FIELDS.decode(call.raw)
        rest = sorted((name, bytes(raw)) for name, raw in fields.items() if name not in _MODELLED)
    are_texts = isinstance(call.inputs[0], str) if call.inputs else None
    told = call.model, call.dialect, call.headers, call.dimensions, call.base64, call.user, are_texts
    return (tenant, *told, *rest)
