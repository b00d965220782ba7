"""One group: the requests for embeddings that one upstream call answers."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from contextlib import aclosing
from itertools import pairwise

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

DIVISIBLE = frozenset(
    {
        ErrorKind.INVALID_REQUEST,
        ErrorKind.UNSUPPORTED,
        ErrorKind.CONTEXT_OVERFLOW,
        ErrorKind.CONTENT_REJECTED,
        ErrorKind.TOO_LARGE,
        ErrorKind.UPSTREAM_ERROR,
        ErrorKind.UPSTREAM_INVALID,
    }
)
"""Failures that one text may have brought about, or the size of the group: the parts are tried by themselves.
Some servers answer a text that they cannot embed with a 500."""
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
        await self._answer(self.members)

    def give_up(self) -> None:
        """Tell all that still wait that the server stops."""
        _fail(self.members, as_told(asyncio.CancelledError()))

    async def _answer(self, members: Sequence[Member]) -> bool:
        """Answer ``members``, and return whether the upstream took them as they are."""
        present = [member for member in members if member.present]
        if not present:
            return False
        ctx = common(member.ctx for member in present)
        try:
            whole = await self._embedded(combined([member.call for member in present]), ctx)
        except Exception as failure:  # noqa: BLE001 - every member is told
            error = as_told(failure)
            if len(present) == 1 or error.kind not in DIVISIBLE:
                _tell(present, ctx)
                _fail(present, error)
            else:
                await self._halved(present, error)
            return False
        _give(present, whole, ctx)
        return True

    async def _embedded(self, call: EmbedCall, ctx: Context) -> Embeddings:
        self.calls += 1
        self._sent(len(call.inputs))
        async with aclosing(self._ask(call, ctx)) as answers:
            async for answer in answers:
                if isinstance(answer, Embeddings) and len(answer.vectors) == len(call.inputs):
                    return answer
        message = "The provider did not answer with one embedding for each input."
        raise ServerError(ErrorKind.UPSTREAM_INVALID, message)

    async def _halved(self, members: Sequence[Member], error: ServerError) -> None:
        middle = (len(members) + 1) // 2
        halves = members[:middle], members[middle:]
        taken = await asyncio.gather(*map(self._answer, halves))
        if error.kind in TOO_MANY and all(taken):
            self._limited(max(_texts(half) for half in halves))


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
