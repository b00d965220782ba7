"""An upstream whose vectors say which text they are of, and whose answers come when the test says."""

import asyncio
from collections.abc import Sequence
from typing import Any

from llm_server.contract import (
    Attempt,
    Call,
    Context,
    EmbedCall,
    Embeddings,
    ErrorKind,
    Events,
    ServerError,
    Usage,
)
from llm_server.testing import FakeProvider

BAD = "bad"
"""What a text begins with that this upstream refuses."""


def vector_of(text: str | tuple[int, ...]) -> tuple[float, ...]:
    """The vector of a text: nothing but itself."""
    return tuple(float(ord(each)) if isinstance(each, str) else float(each) for each in text)


def tokens_of(text: str | tuple[int, ...]) -> int:
    """What the upstream counts, by no rule that anybody could guess."""
    return len(text) if isinstance(text, tuple) else (len(text) * 7 + sum(map(ord, text))) % 23 + 1


def usage_of(texts: Sequence[str | tuple[int, ...]]) -> Usage:
    """What a call with these texts costs."""
    return Usage(input_tokens=sum(map(tokens_of, texts)), cached_tokens=len(texts) // 2)


def embedded(call: EmbedCall) -> Embeddings:
    """The upstream's answer."""
    return Embeddings(
        model="told",
        vectors=tuple(map(vector_of, call.inputs)),
        usage=usage_of(call.inputs),
        raw=b"" if call.amended else call.raw,
    )


def is_bad(text: str | tuple[int, ...]) -> bool:
    return isinstance(text, str) and text.startswith(BAD)


class Gated(FakeProvider):
    """Holds every call until it is answered by :meth:`answer` or failed by :meth:`refuse`.

    Attributes:
        held: the calls that wait, in order of arrival, each with its context and what ends its waiting.
        most: texts that it takes at once.
        used: the usage of every answer given.
        refusal: the kind of error that bad texts, and too many, are refused with.
    """

    def __init__(self) -> None:
        super().__init__()
        self.held: list[tuple[EmbedCall, Context, asyncio.Future[ServerError | None]]] = []
        self.most = 2048
        self.used: list[Usage] = []
        self.refusal = ErrorKind.INVALID_REQUEST
        self.left = 0

    async def __call__(self, call: Call, ctx: Context) -> Events:
        assert isinstance(call, EmbedCall)
        self.calls.append(call)
        held = call, ctx, asyncio.get_running_loop().create_future()
        self.held.append(held)
        self.open += 1
        try:
            failure = await held[2]
        except asyncio.CancelledError:
            self.left += 1
            raise
        finally:
            self.open -= 1
            self.held.remove(held)
        if ctx.attempt is not None:
            ctx.attempt.dialect, ctx.attempt.upstream_id = "theirs", f"up-{len(self.calls)}"
        if failure is None and (any(map(is_bad, call.inputs)) or len(call.inputs) > self.most):
            failure = ServerError(self.refusal, f"Refused: {call.inputs!r}.")
        if failure is not None:
            raise failure.at(self.name, 400)
        answer = embedded(call)
        self.used.append(answer.usage)
        yield answer

    def answer(self, at: int = 0, failure: ServerError | None = None) -> None:
        """Let the held call ``at`` be answered, or fail."""
        if not self.held[at][2].done():
            self.held[at][2].set_result(failure)

    async def answer_all(self) -> None:
        """Answer whatever is held until nothing is."""
        await settle()
        while self.held:
            for at in range(len(self.held)):
                self.answer(at)
            await settle()


class Heard:
    """Remembers what an observer of batches is told."""

    def __init__(self) -> None:
        self.texts: list[int] = []
        self.waits: list[tuple[int, int]] = []
        self.joined = 0

    def sent(self, provider: str, texts: int) -> None:
        assert provider == "fake"
        self.texts.append(texts)

    def waited(self, provider: str, waits_s: Sequence[float], calls: int) -> None:
        assert min(waits_s) >= 0
        self.waits.append((len(waits_s), calls))

    def shared(self, provider: str) -> None:
        assert provider == "fake"
        self.joined += 1


class ByHand(asyncio.SelectorEventLoop):
    """An event loop whose clock only the test moves."""

    now_s = 1000.0

    def time(self) -> float:
        return self.now_s

    def pass_time(self, seconds: float) -> None:
        """Move the clock; what is due runs in the loop's next turns."""
        self.now_s += seconds


async def settle(turns: int = 30) -> None:
    """Let everything run that can."""
    for _ in range(turns):
        await asyncio.sleep(0)


def ask(*texts: str | tuple[int, ...], **fields: Any) -> EmbedCall:
    return EmbedCall(**{"model": "m", "inputs": texts, **fields})


def context(**fields: Any) -> Context:
    attempt = Attempt(provider="fake", model="m", started_s=1.0)
    return Context(**{"request_id": "r", "attempts": [attempt], **fields})
