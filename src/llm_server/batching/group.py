"""One group: the requests for embeddings that one upstream call answers."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from contextlib import aclosing
from itertools import pairwise
from typing import NamedTuple

from llm_server.batching.passing import as_told, common, own, tell
from llm_server.batching.portions import divided, size, weight
from llm_server.contract import (
    Context,
    EmbedCall,
    Embeddings,
    ErrorKind,
    Handler,
    ServerError,
)

OUTAGES = frozenset({ErrorKind.UPSTREAM_ERROR, ErrorKind.UPSTREAM_INVALID})
"""Some servers answer a text that they cannot embed with a 500, as if they had failed altogether."""
DIVISIBLE = OUTAGES | frozenset(
    {
        ErrorKind.INVALID_REQUEST,
        ErrorKind.UNSUPPORTED,
        ErrorKind.CONTEXT_OVERFLOW,
        ErrorKind.CONTENT_REJECTED,
        ErrorKind.TOO_LARGE,
    }
)
"""Failures that one text may have brought about, or the size of the group: its parts are tried alone."""
TOO_MANY = frozenset({ErrorKind.INVALID_REQUEST, ErrorKind.TOO_LARGE})
"""How upstreams refuse more texts than they take at once."""


class Member:
    """A request in a group."""

    __slots__ = ("answer", "call", "ctx", "joined_s", "left", "size")

    def __init__(self, call: EmbedCall, ctx: Context) -> None:
        loop = asyncio.get_running_loop()
        self.call = call
        self.ctx = ctx
        self.size = size(call)
        self.joined_s = loop.time()
        self.answer: asyncio.Future[Embeddings] = loop.create_future()

    @property
    def present(self) -> bool:
        """Whether it still waits: it has not left, and was not answered."""
        return not self.answer.done()

    def give(self, answer: Embeddings) -> None:
        """Answer it, if it still waits."""
        if self.present:
            self.answer.set_result(answer)

    def fail(self, error: ServerError) -> None:
        """Tell it ``error``, in a copy of its own, if it still waits."""
        if self.present:
            self.answer.set_exception(own(error))


class Group:
    """Answers its members: each is given its own vectors and its part of the usage, or its own error.

    Where the upstream refuses the whole for what may be the fault of one, each half is asked by itself, down
    to single requests: about ``2 log2(n)`` more calls for one bad among ``n``, ``2n - 2`` if all are bad.
    Where it fails, and fails for both halves too, it is not one text's fault: all are told.

    Args:
        members: in order of arrival.
        ask: the provider.
        sent: told of every call with its number of texts.
        limited: told of a number of texts that the upstream took, after it had refused twice as many.
    """

    def __init__(
        self,
        members: Sequence[Member],
        ask: Handler,
        sent: Callable[[int], None],
        limited: Callable[[int], None],
    ) -> None:
        self.members = members
        self.calls = 0
        self._ask = ask
        self._sent = sent
        self._limited = limited

    @property
    def abandoned(self) -> bool:
        """Whether nobody waits any more."""
        return not any(member.present for member in self.members)

    async def run(self) -> None:
        """Answer every member, unless cancelled."""
        await self._settle(await self._answered(self.members))

    def give_up(self) -> None:
        """Tell all that still wait that the server stops."""
        _fail(self.members, as_told(asyncio.CancelledError()))

    async def _answered(self, members: Sequence[Member]) -> "_Failure | None":
        """Answer ``members`` by one call; return its failure, of which they are not told yet."""
        present = [member for member in members if member.present]
        if not present:
            return _Failure([], None, None)
        ctx = common(member.ctx for member in present)
        try:
            whole = await self._embedded(combined([member.call for member in present]), ctx)
        except Exception as failure:  # noqa: BLE001 - every member is told
            return _Failure(present, as_told(failure), ctx)
        _give(present, whole, ctx)
        return None

    async def _embedded(self, call: EmbedCall, ctx: Context) -> Embeddings:
        self.calls += 1
        self._sent(len(call.inputs))
        async with aclosing(self._ask(call, ctx)) as answers:
            async for answer in answers:
                if isinstance(answer, Embeddings) and len(answer.vectors) == len(call.inputs):
                    return answer
        message = "The provider did not answer with one embedding for each input."
        raise ServerError(ErrorKind.UPSTREAM_INVALID, message)

    async def _settle(self, failure: "_Failure | None") -> None:
        """Find whose fault a failure is, and tell of it."""
        if failure is None or failure.error is None:
            return
        members, error = failure.members, failure.error
        if len(members) == 1 or error.kind not in DIVISIBLE:
            failure.tell()
            return
        middle = (len(members) + 1) // 2
        halves = members[:middle], members[middle:]
        failures = await asyncio.gather(*map(self._answered, halves))
        if error.kind in TOO_MANY and not any(failures):
            self._limited(max(_texts(half) for half in halves))
        if failure.is_outage and all(each is not None and each.is_outage for each in failures):
            for each in failures:
                if each is not None:
                    each.tell()
            return
        await asyncio.gather(*map(self._settle, failures))


class _Failure(NamedTuple):
    """A call that failed, and for whom. Without an error nobody was left to ask for."""

    members: Sequence[Member]
    error: ServerError | None
    ctx: Context | None

    @property
    def is_outage(self) -> bool:
        """Whether the upstream itself may have failed."""
        return self.error is not None and self.error.kind in OUTAGES

    def tell(self) -> None:
        """Tell every member."""
        if self.error is not None and self.ctx is not None:
            _tell(self.members, self.ctx)
            _fail(self.members, self.error)


def combined(calls: Sequence[EmbedCall]) -> EmbedCall:
    """Return one call for the inputs of all ``calls``, which are alike in everything else."""
    if len(calls) == 1:
        return calls[0]
    return calls[0].amend(inputs=tuple(text for call in calls for text in call.inputs))


def _give(members: Sequence[Member], whole: Embeddings, ctx: Context) -> None:
    if len(members) == 1:
        _tell(members, ctx)
        members[0].give(whole)
        return
    weights = [weight(member.call) for member in members]
    counted = sum(weights) == whole.usage.input_tokens and all(map(_is_counted, members))
    if not counted:
        ctx.estimated.append("usage")
    _tell(members, ctx)
    ends = [0]
    for member in members:
        ends.append(ends[-1] + len(member.call.inputs))
    for member, (start, end), usage in zip(
        members, pairwise(ends), divided(whole.usage, weights), strict=True
    ):
        member.give(Embeddings(model=whole.model, vectors=whole.vectors[start:end], usage=usage))


def _is_counted(member: Member) -> bool:
    return not any(isinstance(each, str) for each in member.call.inputs)


def _texts(members: Iterable[Member]) -> int:
    return sum(len(member.call.inputs) for member in members)


def _tell(members: Iterable[Member], ctx: Context) -> None:
    for member in members:
        tell(member.ctx, ctx)


def _fail(members: Iterable[Member], error: ServerError) -> None:
    for member in members:
        member.fail(error)
