"""Providers' own batch APIs: one client that sends, over the translators of the dialects that have one."""

import logging
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Mapping
from contextlib import aclosing
from importlib import import_module
from typing import Any, TypeVar

from msgspec import Struct

from llm_server.contract import (
    BatchClient,
    Call,
    ChatCall,
    Completion,
    Context,
    Embeddings,
    ErrorKind,
    HttpRequest,
    Provider,
    ServerError,
    TokenCount,
    UpstreamBatch,
    missing,
)
from llm_server.providers.dialects.batches import BatchDialect, BatchRequest, BatchResult
from llm_server.providers.http import HttpProvider

_log = logging.getLogger(__name__)

T = TypeVar("T")

GARBAGE = (ValueError, RecursionError)
"""What translators raise for an answer that is none."""
MAX_LINE_BYTES = 64 * 1024 * 1024
"""Bytes of one result; a longer one is garbage."""


def _loaded(path: str) -> Any:
    return import_module(f"llm_server.providers.dialects.{path}.batches")


APIS: dict[str, Callable[[], BatchDialect]] = {
    "openai": lambda: _loaded("openai").Files(),
    "mistral": lambda: _loaded("openai").Jobs(),
    "anthropic": lambda: _loaded("anthropic").Messages(),
    "gemini": lambda: _loaded("gemini").Inlined(),
}
"""The shapes of batch APIs that rows can name."""


def batch_clients(providers: Mapping[str, Provider]) -> dict[str, BatchClient]:
    """Return the batch APIs of those ``providers`` that have one."""
    return {
        name: HttpBatches(provider, APIS[provider.batches]())
        for name, provider in providers.items()
        if isinstance(provider, HttpProvider) and provider.batches
    }


class Result(Struct, frozen=True):
    """A provider's answer to one call: see ``UpstreamAnswer``."""

    provider: HttpProvider
    found: BatchResult

    def decoded(self, call: Call) -> Completion | Embeddings | TokenCount:
        """Return the answer; raises the error that it is."""
        return self.provider.decoded(call, self.found.status, self.found.body)


class HttpBatches:
    """A provider's batch API: see ``BatchClient``. Lines are held in memory while they are sent."""

    def __init__(self, provider: HttpProvider, dialect: BatchDialect) -> None:
        self._provider = provider
        self._dialect = dialect

    async def submit(self, model: str, lines: AsyncIterable[tuple[str, Call]], tag: str) -> UpstreamBatch:
        """Send calls to be answered later; ``UNSUPPORTED`` for more than the API takes."""
        entries: list[bytes] = []
        headers: dict[tuple[str, str], None] = {}
        size, path = 0, ""
        async for key, call in lines:
            request = self._encoded(model, call)
            entry = self._dialect.line(key, request)
            size += len(entry) + 1
            if len(entries) >= self._dialect.max_lines or size > self._dialect.max_bytes:
                raise self._too_large()
            entries.append(entry)
            headers |= dict.fromkeys(request.headers)
            path = request.path
        file = await self._upload(entries, tag)
        upstream_name = self._provider.upstream_name(model)
        batch = BatchRequest(
            model=upstream_name, tag=tag, path=path, lines=entries, headers=tuple(headers), file=file
        )
        return self._read(self._dialect.batch, await self._created(batch))

    def refusal(self, model: str, call: Call) -> ServerError | None:
        """Return why a call cannot be sent, ``None`` if it can."""
        try:
            self._dialect.line("", self._encoded(model, call))
        except ServerError as error:
            return error
        return None

    async def find(self, tag: str) -> UpstreamBatch | None:
        """Return the batch that was submitted as ``tag``, if it is among the newest and can be told."""
        request = self._dialect.listing()
        if request is None:
            return None
        body = await self._provider.exchange(request)
        return self._read(lambda listed: self._dialect.tagged(listed, tag), body)

    async def show(self, batch_id: str) -> UpstreamBatch:
        """Return where a batch stands."""
        body = await self._provider.exchange(self._dialect.show(batch_id))
        return self._read(self._dialect.batch, body)

    async def cancel(self, batch_id: str) -> None:
        """Ask for a batch to be given up; one that is over already is left as it is."""
        try:
            await self._provider.exchange(self._dialect.cancel(batch_id))
        except ServerError:
            if not (await self.show(batch_id)).ended:
                raise

    async def results(self, batch_id: str) -> AsyncGenerator[tuple[str, Result], None]:
        """Yield what became of each call."""
        body = await self._provider.exchange(self._dialect.show(batch_id))
        for source in self._read(self._dialect.results, body):
            lines = _only(source) if isinstance(source, bytes) else _lines(self._provider.pieces(source))
            async with aclosing(lines):
                async for line in lines:
                    found = self._read(self._dialect.result, line)
                    if found is not None:
                        yield found.key, Result(self._provider, found)

    async def clear(self, batch_id: str) -> AsyncGenerator[ServerError | None, None]:
        """Delete the files of an ended batch; yield for each what kept it, ``None`` for one that is gone."""
        if not self._dialect.has_files:
            return
        body = await self._provider.exchange(self._dialect.show(batch_id))
        for file in self._read(self._dialect.files, body):
            yield await self._kept(file)

    async def _created(self, batch: BatchRequest) -> bytes:
        """Return what making ``batch`` is answered; where it was refused, its file is of no use any more."""
        try:
            return await self._provider.exchange(self._dialect.create(batch))
        except ServerError as error:
            # After any other failure there may be a batch all the same, which reads the file.
            if batch.file and error.status is not None and 400 <= error.status < 500:
                kept = await self._kept(batch.file)
                if kept is not None:
                    _log.warning("a file could not be deleted at its provider: %s", kept)
            raise

    async def _kept(self, file: str) -> ServerError | None:
        """Delete a file; return what kept it. One that is not there any more is gone."""
        try:
            await self._provider.exchange(self._dialect.remove(file))
        except ServerError as error:
            return None if error.status == 404 else error
        return None

    def _encoded(self, model: str, call: Call) -> HttpRequest:
        """Return ``call`` as it would be sent alone; ``UNSUPPORTED`` for what the model or a batch lacks."""
        if isinstance(call, ChatCall) and call.output is not None and call.output.schema_id:
            message = "A registered schema cannot be named with provider_batch; write it into the request."
            raise ServerError(ErrorKind.UNSUPPORTED, message, param="response_format")
        lacking = missing(call, self._provider.facts(model))
        if lacking:
            message = f"The provider's model does not support {lacking}."
            raise ServerError(ErrorKind.UNSUPPORTED, message)
        return self._provider.encoded(call.addressed(model), Context(request_id=""))

    async def _upload(self, lines: list[bytes], tag: str) -> str:
        request = self._dialect.upload(lines, tag)
        if request is None:
            return ""
        return self._read(self._dialect.uploaded, await self._provider.exchange(request))

    def _read(self, decode: Callable[[bytes], T], body: bytes) -> T:
        """Return what ``decode`` makes of ``body``; ``UPSTREAM_INVALID`` for garbage."""
        try:
            return decode(body)
        except GARBAGE as error:
            message = "The provider's batch API gave an answer that cannot be read."
            raise ServerError(ErrorKind.UPSTREAM_INVALID, message, detail=str(error)[:500]) from None

    def _too_large(self) -> ServerError:
        message = (
            f"The provider's batch API takes up to {self._dialect.max_lines} requests "
            f"of {self._dialect.max_bytes} bytes together."
        )
        return ServerError(ErrorKind.UNSUPPORTED, message, param="input_file_id")


async def _only(line: bytes) -> AsyncGenerator[bytes, None]:
    yield line


async def _lines(pieces: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    """Yield the lines of what comes in pieces, without empty ones."""
    held = b""
    async with aclosing(pieces):
        async for piece in pieces:
            *whole, held = (held + piece).split(b"\n")
            for line in whole:
                if line.strip():
                    yield line
            if len(held) > MAX_LINE_BYTES:
                raise ServerError(ErrorKind.UPSTREAM_INVALID, "The provider's result is too large.")
    if held.strip():
        yield held
