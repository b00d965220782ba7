"""The seams between rooms: who implements and who uses each is said in its docstring."""

from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from enum import StrEnum
from typing import Protocol, runtime_checkable

from msgspec import Struct

from llm_server.contract.answers import Answer, Chunk, Completion, Embeddings, TokenCount, Usage
from llm_server.contract.calls import Call
from llm_server.contract.context import Context
from llm_server.contract.errors import ServerError
from llm_server.contract.facts import Facts
from llm_server.contract.pools import PoolReport
from llm_server.contract.routes import Plan, Route, Target

Events = AsyncGenerator[Answer, None]
"""The answer on its way back: chunks, or one whole value. Whoever iterates closes it (``aclosing``)."""


class Handler(Protocol):
    """The one arrow: every stage wraps a Handler and is a Handler; a provider is the last one."""

    def __call__(self, call: Call, ctx: Context) -> Events:
        """Answer ``call``: one whole value, or chunks if ``call.stream``; raises ``ServerError``."""
        ...


class ModelInfo(Struct, frozen=True, kw_only=True):
    """A model as listed to callers. ``created`` is Unix seconds, 0 where unknown."""

    id: str
    provider: str
    created: int = 0
    display_name: str = ""
    context_tokens: int | None = None
    max_output_tokens: int | None = None
    capabilities: tuple[str, ...] = ()
    """Names of what it can do, as in ``Facts``; empty where unknown."""


class State(StrEnum):
    """Whether a part of the server can serve."""

    READY = "ready"
    STARTING = "starting"
    FAILED = "failed"


@runtime_checkable
class Provider(Protocol):
    """A source of models. Implemented in providers/ and engine/, used by pipeline/ and api/."""

    name: str

    def facts(self, model: str) -> Facts:
        """Return what ``model`` can do; optimistic for unknown names of a hosted provider."""
        ...

    def __call__(self, call: Call, ctx: Context) -> Events:
        """Answer ``call``, whose model is this provider's own name; times go to ``ctx.attempt``."""
        ...

    async def models(self) -> tuple[ModelInfo, ...]:
        """Return the models that can be asked for now; raises ``ServerError`` when it cannot be known."""
        ...

    def state(self) -> tuple[State, str]:
        """Return whether it can serve, and a word for the operator. Never waits."""
        ...

    async def start(self) -> None:
        """Make ready (load a model). Returns when ready or failed; failure shows in ``state``."""
        ...

    async def close(self) -> None:
        """Release everything."""
        ...


JSON_BODY = (("content-type", "application/json"),)
"""The headers of a request that has nothing but a body of JSON."""


class HttpRequest(Struct, frozen=True, kw_only=True):
    """A request to an upstream. ``path`` is below the provider's base URL; ``dropped`` names lost fields."""

    path: str
    body: bytes = b""
    method: str = "POST"
    headers: tuple[tuple[str, str], ...] = JSON_BODY
    dropped: tuple[str, ...] = ()


class StreamDecoder(Protocol):
    """Decodes one streamed answer, fed with bytes cut anywhere."""

    def feed(self, data: bytes) -> Iterable[Chunk]:
        """Return the chunks that ``data`` completes; raises for an in-band error or garbage."""
        ...

    def end(self) -> Iterable[Chunk]:
        """Return what was held back at the end; ``UPSTREAM_TRUNCATED`` without a terminal event."""
        ...


class Dialect(Protocol):
    """Pure translation, outbound. Implemented in providers/dialects/, used by the one HTTP provider."""

    name: str

    def encode(self, call: Call, facts: Facts) -> HttpRequest:
        """Return ``call`` as this upstream wants it; ``ServerError(UNSUPPORTED)`` if it cannot be said."""
        ...

    def decode(self, call: Call, body: bytes) -> Completion | Embeddings | TokenCount:
        """Return the whole answer in ``body``; ``UPSTREAM_INVALID`` for garbage."""
        ...

    def decoder(self, call: Call) -> StreamDecoder:
        """Return a decoder for one streamed answer to ``call``."""
        ...

    def decode_error(self, status: int, headers: Mapping[str, str], body: bytes) -> ServerError:
        """Return what an error answer means. Never raises, whatever the body."""
        ...

    def models_request(self) -> HttpRequest:
        """Return the request that lists models."""
        ...

    def decode_models(self, body: bytes) -> tuple[ModelInfo, ...]:
        """Return the models of a list answer, provider left empty."""
        ...


class HttpResponse(Protocol):
    """An upstream's answer whose body is still coming."""

    status: int
    headers: Mapping[str, str]
    """Lower-case names."""

    async def read(self) -> bytes:
        """Return the whole body."""
        ...

    def chunks(self) -> AsyncGenerator[bytes, None]:
        """Yield the body as it arrives, cut anywhere."""
        ...


class Pool(Protocol):
    """Connections to one upstream origin. Implemented in pool/, used by providers/."""

    def send(
        self, request: HttpRequest, ctx: Context | None = None
    ) -> AbstractAsyncContextManager[HttpResponse]:
        """Send; the connection is back, or closed if the body was not read to its end, on leaving.

        ``ctx`` tells how urgent the request is, until when an answer is of use, and whether it goes to an
        upstream that is ejected; its latest attempt is told how long it waited for a place.

        Raises ``UPSTREAM_UNREACHABLE``, ``UPSTREAM_TIMEOUT``, ``UPSTREAM_TRUNCATED`` or ``UPSTREAM_INVALID``
        for what went wrong there. Without a call: ``OVERLOADED`` when there is no room, ``UNAVAILABLE`` while
        the upstream is ejected, ``UPSTREAM_RATE_LIMITED`` while it wants no request, each with
        ``retry_after_s``, and ``DEADLINE`` when the caller's time was over.
        """
        ...

    def warm(self) -> None:
        """Begin to open the connections that are kept ahead, without waiting for them."""
        ...

    def stats(self) -> Mapping[str, int]:
        """Return numbers for metrics.

        ``open``, ``idle``, ``busy``, ``limit``, ``waiting`` and ``waiting_<class>``, ``ejected`` (0 or 1),
        and since the start ``opened``, ``reused``, ``resent`` and ``shed_<class>``.
        """
        ...

    def report(self) -> PoolReport:
        """Return everything about the upstream, for the operator."""
        ...

    async def close(self) -> None:
        """Close all connections."""
        ...


class RouterStrategy(Protocol):
    """Decides where a call goes. Implemented in routing/, used by pipeline/."""

    def route(self, model: str) -> Route:
        """Return what a caller's model name stands for; ``MODEL_NOT_FOUND`` if nothing."""
        ...

    def plan(self, call: Call, candidates: tuple[Target, ...], facts: Callable[[Target], Facts]) -> Plan:
        """Return the order of attempts; raises ``UNSUPPORTED`` when every candidate lacks something."""
        ...


class Observer(Protocol):
    """Hears of every request. Implemented in telemetry/, called by pipeline/; must not raise or wait."""

    def started(self, ctx: Context) -> None:
        """A request entered the pipeline."""
        ...

    def first_content(self, ctx: Context) -> None:
        """The first content is on its way to the caller."""
        ...

    def finished(self, ctx: Context, usage: Usage, error: ServerError | None) -> None:
        """The request left the pipeline, whole, failed or abandoned (``CLIENT_CLOSED``)."""
        ...


class GroupObserver(Protocol):
    """Hears what was batched. Implemented in telemetry/, called by batching/; must not raise or wait."""

    def sent(self, provider: str, texts: int) -> None:
        """A call with ``texts`` inputs to embed went to ``provider``."""
        ...

    def waited(self, provider: str, waits_s: Sequence[float], calls: int) -> None:
        """Requests that waited for their group so many seconds each were answered by ``calls`` calls."""
        ...

    def shared(self, provider: str) -> None:
        """A request joined the call of an identical one."""
        ...
