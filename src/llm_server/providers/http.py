"""The one provider that sends: a dialect, a pool and what is known about the upstream."""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from functools import lru_cache, partial

import msgspec

from llm_server.contract import (
    Attempt,
    Begun,
    Call,
    ChatCall,
    Chunk,
    Completion,
    Context,
    Dialect,
    Embeddings,
    ErrorKind,
    Events,
    Facts,
    HttpRequest,
    HttpResponse,
    ModelInfo,
    Pool,
    Sending,
    ServerError,
    State,
    StreamDecoder,
    Taker,
    TextCall,
    TokenCount,
    unfold,
)
from llm_server.contract.errors import Block
from llm_server.providers import prompts
from llm_server.providers.attribution import without_attribution
from llm_server.providers.config import ProviderConfig
from llm_server.providers.dialects.failures import garbage, introduced
from llm_server.providers.provenance import Reader, is_unsigned, marked, own
from llm_server.providers.started import Started, Ways

MODELS_TIMEOUT_S = 10.0
"""Seconds that a list of models is waited for."""
MAX_ERROR_BYTES = 64 * 1024
"""Of an error answer's body so much is read; a proxy's error page can be endless."""
MAX_MODEL_NAME = 256
"""Characters of a model's name."""
MIN_BLOTTED = 8
"""Characters from which on a secret is blotted out of errors; shorter ones are words of their own."""

UPSTREAM_IDS = ("x-request-id", "request-id", "apim-request-id", "mistral-correlation-id")
"""Response headers in which vendors name a request."""


_IDS = frozenset(UPSTREAM_IDS)


class HttpProvider:
    """A hosted provider behind one base URL: see :class:`llm_server.contract.Provider`.

    ``facts`` answers for each model. A text call to a model without completions is asked as chats, which
    ``Context.dropped`` then says as ``completions:chat``. Credentials are the pool's; here they are known so
    that no error that leaves this object holds one, whoever wrote it there.
    """

    def __init__(
        self,
        name: str,
        dialect: Dialect,
        pool: Pool,
        config: ProviderConfig,
        facts: Callable[[str], Facts],
    ) -> None:
        self.name = name
        self._dialect = dialect
        self._pool = pool
        self._config = config
        self._facts = facts
        self._trouble = ""
        self._ways = Ways(dialect, name, self._sent, self._asked, self._note, self._succeeded)
        self.batches = ""
        """The shape of the provider's own batch API; empty if it has none."""
        secrets = (config.api_key, *config.headers.values())
        self._secrets = [secret for secret in secrets if secret and len(secret.reveal()) >= MIN_BLOTTED]

    def facts(self, model: str) -> Facts:
        """Return what ``model`` can do: configuration over catalog over row."""
        return self._facts(model)

    def __call__(self, call: Call, ctx: Context) -> Events:
        """Answer ``call``; the upstream connection is closed when the answers are."""
        if type(call) is TextCall and not self._facts(call.model).completions:
            return self._as_chats(call, ctx)
        return self._asked(call, ctx)

    def begin(self, call: Call, ctx: Context, taker: Taker) -> Begun | None:
        """Send ``call`` if the pool has room and a connection; see :class:`llm_server.contract.Begin`."""
        if not self._pool.ready(ctx) or (type(call) is TextCall and not self._facts(call.model).completions):
            return None
        started = Started(self._ways, call, ctx, taker)
        started.begin()
        return started

    async def models(self) -> tuple[ModelInfo, ...]:
        """Return the configured models, else the provider's own list."""
        names = dict.fromkeys((*self._config.models, *self._config.deployments))
        if names:
            return tuple(ModelInfo(id=name, provider=self.name) for name in names)
        try:
            async with asyncio.timeout(MODELS_TIMEOUT_S):
                listed = await self._listed()
        except TimeoutError:
            late = ServerError(ErrorKind.UPSTREAM_TIMEOUT, "The provider did not list its models in time.")
            self._sign(late)
            raise late from None
        except ServerError as error:
            self._sign(error)
            raise
        return tuple(msgspec.structs.replace(model, provider=self.name) for model in listed)

    def state(self) -> tuple[State, str]:
        """Return ``READY``, and the kind of the last failure until something succeeds."""
        return State.READY, self._trouble

    @property
    def pool(self) -> Pool:
        """What it sends through; providers with the same upstream share one."""
        return self._pool

    def stats(self) -> Mapping[str, int]:
        """Return the pool's numbers, for metrics."""
        return self._pool.stats()

    async def start(self) -> None:
        """Begin to open the connections that are kept ahead; others open when they are needed."""
        self._pool.warm()

    async def close(self) -> None:
        """Close all connections."""
        await self._pool.close()

    def upstream_name(self, model: str) -> str:
        """Return what the provider calls ``model``."""
        return self._config.deployments.get(model, model)

    def encoded(self, call: Call, ctx: Context) -> HttpRequest:
        """Return ``call`` as it would be sent; what it loses is noted in ``ctx``."""
        try:
            return self._encoded(call, ctx)
        except ServerError as error:
            self._sign(error)
            raise

    def decoded(self, call: Call, status: int, body: bytes) -> Completion | Embeddings | TokenCount:
        """Return the answer that a status and a body give to ``call``; raises the error that they are."""
        try:
            if not 200 <= status < 300:
                raise self._dialect.decode_error(status, {}, body)
            return self._dialect.decode(call, body)
        except ServerError as error:
            self._sign(error)
            raise

    async def exchange(self, request: HttpRequest) -> bytes:
        """Return the body that answers any ``request``; raises for every status but 2xx."""
        async with aclosing(self.pieces(request)) as pieces:
            return b"".join([piece async for piece in pieces])

    async def pieces(self, request: HttpRequest) -> AsyncGenerator[bytes, None]:
        """Yield the body that answers any ``request``, as it arrives; raises as :meth:`exchange`."""
        try:
            async with self._pool.send(request) as response:
                if not 200 <= response.status < 300:
                    raise await self._refused(response)
                async with aclosing(response.chunks()) as chunks:
                    async for chunk in chunks:
                        yield chunk
        except ServerError as error:
            self._sign(error)
            raise

    async def _as_chats(self, call: TextCall, ctx: Context) -> Events:
        """Answer each prompt as a conversation of its own."""
        try:
            ctx.dropped.append(prompts.NOTED)
            chats = prompts.as_chats(call, self._facts(call.model))
        except ServerError as error:
            self._sign(error)
            raise
        async with aclosing(prompts.answer(chats, partial(self._asked, ctx=ctx))) as answers:
            async for answer in answers:
                yield answer

    async def _asked(self, call: Call, ctx: Context, started: Started | None = None) -> Events:
        attempt = ctx.attempt
        try:
            sending = self._sent(call, ctx) if started is None else started.sending()
            async with sending as response:
                if attempt is not None:
                    self._note(response.headers, attempt)
                if started is not None:
                    started.check()
                if not 200 <= response.status < 300:
                    raise await self._refused(response)
                if call.stream:
                    decoder = None if started is None else started.decoder
                    async with aclosing(self._streamed(call, response, decoder)) as chunks:
                        async for chunk in chunks:
                            yield marked(chunk, self.name) if ctx.marked else chunk
                else:
                    whole = self._dialect.decode(call, await response.read())
                    yield marked(whole, self.name) if ctx.marked else whole
            self._trouble = ""
        except ServerError as error:
            self._sign(error)
            raise
        finally:
            if attempt is not None:
                attempt.ended_s = time.perf_counter()

    def _sent(self, call: Call, ctx: Context) -> Sending:
        """Return ``call`` as a request, which goes when it is entered or begun."""
        request = self._encoded(call, ctx)
        attempt = ctx.attempt
        if attempt is not None:
            attempt.dialect = self._dialect.name
            attempt.started_s = attempt.started_s or time.perf_counter()
        return self._pool.send(request, ctx)

    def _encoded(self, call: Call, ctx: Context) -> HttpRequest:
        check_model_name(call.model)
        facts = self._facts(call.model)
        if isinstance(call, ChatCall):
            first = not ctx.attempts or ctx.attempts[0].provider == self.name
            if not (first and is_unsigned(call.raw)):
                call = own(call, Reader(self.name, self._dialect.name, first), ctx.dropped)
            if call.dialect != self._dialect.name:
                call = within_limit(without_attribution(call), facts, ctx.dropped)
        if self._config.deployments:
            call = call.addressed(self._config.deployments.get(call.model, call.model))
        request = self._dialect.encode(call, facts)
        if request.dropped:
            ctx.dropped.extend(name for name in request.dropped if name not in ctx.dropped)
        return request

    async def _streamed(
        self, call: Call, response: HttpResponse, decoder: StreamDecoder | None
    ) -> AsyncGenerator[Chunk, None]:
        """Yield the chunks of a stream; ``decoder`` is that of one of which a part was taken already."""
        kind = response.headers.get("content-type", "")
        if kind.startswith("text/html"):
            raise garbage("a page of HTML")
        if kind.startswith("application/json"):
            # Asked for a stream, some servers still answer whole, above all to say that they failed.
            whole = self._dialect.decode(call, await response.read())
            for chunk in unfold(whole) if isinstance(whole, Completion) else ():
                yield chunk
            return
        decoder = decoder or self._dialect.decoder(call)
        async with aclosing(response.chunks()) as pieces:
            async for piece in pieces:
                for chunk in decoder.feed(piece):
                    yield chunk
        for chunk in decoder.end():
            yield chunk

    async def _listed(self) -> tuple[ModelInfo, ...]:
        async with self._pool.send(self._dialect.models_request()) as response:
            if not 200 <= response.status < 300:
                raise await self._refused(response)
            return self._dialect.decode_models(await response.read())

    async def _refused(self, response: HttpResponse) -> ServerError:
        body = bytearray()
        try:
            async with aclosing(response.chunks()) as pieces:
                async for piece in pieces:
                    body += piece
                    if len(body) >= MAX_ERROR_BYTES:
                        break
        except ServerError:
            body.clear()  # the status says enough
        return self._dialect.decode_error(response.status, response.headers, bytes(body))

    def _sign(self, error: ServerError) -> None:
        """Note where ``error`` happened, name this provider in it, and blot out every secret in it."""
        error.at(self.name)
        error.message = introduced(error, self.name)
        if error.kind.block is Block.UPSTREAM:
            self._trouble = error.kind.value
        for secret in self._secrets:
            error.message = secret.redact(error.message)
            error.detail = secret.redact(error.detail)
            error.param = error.param and secret.redact(error.param)
        error.args = (f"{error.kind}: {error.message}",)

    def _succeeded(self, attempt: Attempt | None) -> None:
        """Note that all went well."""
        self._trouble = ""
        if attempt is not None:
            attempt.ended_s = time.perf_counter()

    def _note(self, headers: Mapping[str, str], attempt: Attempt) -> None:
        """Write down when the answer began and what the upstream calls it, unless it calls it by a secret."""
        attempt.first_byte_s = attempt.first_byte_s or time.perf_counter()
        if _IDS.isdisjoint(headers):
            return
        for name in UPSTREAM_IDS:
            if found := headers.get(name):
                for secret in self._secrets:
                    found = secret.redact(found)
                attempt.upstream_id = found
                return


def within_limit(call: ChatCall, facts: Facts, dropped: list[str]) -> ChatCall:
    """Return ``call`` asking for no more tokens than the model can write, and say so in ``dropped``.

    Clients ask for what their own vendor's models can write (64,000), others answer that with an error.
    """
    asked, limit = call.sampling.max_tokens, facts.max_output_tokens
    if asked is None or limit is None or asked <= limit:
        return call
    dropped.append("max_tokens:capped")
    sampling = msgspec.structs.replace(call.sampling, max_tokens=limit)
    return msgspec.structs.replace(call, sampling=sampling)


@lru_cache(maxsize=1024)
def check_model_name(model: str) -> None:
    """Refuse a name that could be more than a name where a dialect puts it into a path.

    Raises:
        ServerError: ``INVALID_REQUEST``.
    """
    odd = not model.isprintable() or "\\" in model or (".." in model and ".." in model.split("/"))
    if odd or not 0 < len(model) <= MAX_MODEL_NAME:
        raise ServerError(ErrorKind.INVALID_REQUEST, "model: not a model's name.", param="model")
