"""The seams between rooms: who implements and who uses each is said in its docstring."""

from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from enum import StrEnum
from types import TracebackType
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


async def failed(error: Exception) -> Events:
    """Raise ``error`` where somebody looks for answers."""
    nothing: tuple[Answer, ...] = ()
    for answer in nothing:  # what makes this a generator
        yield answer
    raise error


class Handler(Protocol):
    """The one arrow: every stage wraps a Handler and is a Handler; a provider is the last one."""

    def __call__(self, call: Call, ctx: Context) -> Events:
        """Answer ``call``: one whole value, or chunks if ``call.stream``; raises ``ServerError``."""
        ...


class Taker(Protocol):
    """Takes what a begun call gives as it comes; called by whoever has it, so it must not wait.

    After :meth:`Begun.rest` was called nothing more comes this way.
    """

    def take(self, answer: Answer) -> None:
        """Take the whole answer, which is the end, or the next chunk of a stream."""
        ...

    def end(self) -> None:
        """Note that the stream is complete."""
        ...

    def turn(self) -> None:
        """Ask for the rest, which does not come by itself. This may be called before ``begin`` returns."""
        ...


class Begun(Protocol):
    """A call on the short way: sent, and answered by what it gives to its taker."""

    def rest(self) -> Events:
        """Return what has not been taken, by the ordinary way: with all its waiting, retrying and failing."""
        ...


Begin = Callable[[Call, Context, Taker], Begun | None]
"""The short way of a handler (its method ``begin``): answers a call without a task, a wait or a generator.

It returns nothing, and has done nothing, for a call that it has no short way for or that would have to wait.
It only knows how everything goes well: at the first sign of anything else it tells its taker to turn, and the
ordinary way goes on from there. What both do is the same, so that nobody can tell which way a call went.
"""


def begin_of(handler: Handler) -> Begin:
    """Return the short way of ``handler``, which may have none."""
    begin: Begin = getattr(handler, "begin", _never)
    return begin


def _never(_call: Call, _ctx: Context, _taker: Taker) -> None:
    return None


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

    def glance(self, call: Call, body: bytes) -> Completion | None:
        """Return what :meth:`decode` does, without choices, for a caller who is given ``body`` itself.

        Nothing if that has to be decoded; raises as :meth:`decode`.
        """
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


class Sending(Protocol):
    """A request on its way to an upstream: entered for its answer, and left when that has been read.

    Before it is entered it may be begun: sent if nothing has to wait for that. Who began it hears of what
    comes, and may take it and finish; or enter, which goes on with what was sent.
    """

    async def __aenter__(self) -> HttpResponse: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None: ...

    def begin(self, listener: Callable[[], None], *, whole: bool) -> bool:
        """Send at once; return false, with nothing done, if that would have to wait.

        ``listener`` is called whenever something has come, or gone wrong, until this is entered; only at the
        end if ``whole``.
        """
        ...

    def answered(self) -> Mapping[str, str] | None:
        """Return the headers of a good answer whose body can be taken; nothing if it must be entered."""
        ...

    def taken(self) -> bytes:
        """Return what has come of the body since this was last called."""
        ...

    def body(self) -> bytes | None:
        """Return the whole body of a good answer; nothing if it must be entered for that. Takes nothing."""
        ...

    def over(self) -> bool | None:
        """Return whether the answer has come to its end; nothing if it must be entered."""
        ...

    def finish(self) -> None:
        """End, in the place of entering and leaving, with an answer that is over and was good."""
        ...


class Pool(Protocol):
    """Connections to one upstream origin. Implemented in pool/, used by providers/."""

    def ready(self, ctx: Context) -> bool:
        """Whether a request sent now can be begun; it need not stay so."""
        ...

    def send(self, request: HttpRequest, ctx: Context | None = None) -> Sending:
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
