"""Run a batch by a provider's own batch API, and bring what it answered into our lines."""

import asyncio
import logging
import random
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping
from contextlib import aclosing
from typing import TypeVar

import msgspec

from llm_server.batching.offline.asking import FAULTS, WAITING, Asking, decoded, failure, written
from llm_server.batching.offline.job import Job
from llm_server.batching.offline.lines import Asked
from llm_server.batching.offline.outcome import Named, not_asked
from llm_server.contract import (
    BatchClient,
    Call,
    LineResult,
    ServerError,
    UpstreamAnswer,
    UpstreamBatch,
    UpstreamNote,
)

_log = logging.getLogger(__name__)

Left = Iterable[tuple[int, int, int]]
T = TypeVar("T")

GROUP = 100
"""Lines that are kept at once."""
LONGEST_WAIT_S = 60.0
STOPPING_S = 15 * 60.0
"""How long a provider may take to give a batch up (OpenAI: "up to 10 minutes")."""
CLEARING_S = 30.0
"""How long the end of a batch waits for its files to be deleted at the provider."""


class RefusedError(Exception):
    """The provider does not take the batch as a whole, or gave it up."""


class Remote:
    """Runs batches at providers.

    Args:
        clients: the batch APIs, by provider's name.
        asking: knows how lines are read and written.
        poll_s: seconds between two questions after a batch.
    """

    def __init__(self, clients: Mapping[str, BatchClient], asking: Asking, poll_s: float) -> None:
        self._clients = clients
        self._asking = asking
        self._poll_s = poll_s

    def has(self, provider: str) -> bool:
        """Whether a provider has a batch API."""
        return provider in self._clients

    async def __call__(self, job: Job, left: Left) -> None:
        """Have the lines that are ``left`` answered; a batch that was sent before is only waited for.

        Raises:
            RefusedError: the provider refuses the batch as a whole.
        """
        left = list(left)
        note = self._note(job)
        if note.batch is None:
            note = await self._sent(job, left)
            if note.batch is None:
                return
        batch = await self._ended(job)
        await self._patiently(lambda: self._collected(job))
        if batch.message and job.batch.completed == 0:
            raise RefusedError(batch.message)
        await self._unanswered(job)

    async def stop(self, job: Job) -> None:
        """Have the batch given up, and keep what is finished of it."""
        note = self._note(job)
        if note.batch is None:
            return
        client, batch_id = self._client(note), note.batch.id
        try:
            async with asyncio.timeout(STOPPING_S):
                if not note.batch.ended:
                    await self._patiently(lambda: client.cancel(batch_id))
                await self._ended(job)
                await self._patiently(lambda: self._collected(job))
        except (TimeoutError, RefusedError):
            return

    async def clear(self, job: Job) -> None:
        """Delete what the batch has left at its provider; what cannot be deleted is logged, and stays."""
        note = job.batch.upstream
        if note is None or note.batch is None:
            return
        told = "a file of batch %s stays at provider %s: %s"
        try:
            async with asyncio.timeout(CLEARING_S):
                async with aclosing(self._client(note).clear(note.batch.id)) as files:
                    async for error in files:
                        job.cleared(note.provider, deleted=error is None)
                        if error is not None:
                            _log.warning(told, job.batch.id, note.provider, error)
        except (ServerError, TimeoutError, RefusedError) as error:
            job.cleared(note.provider, deleted=False)
            _log.warning(told, job.batch.id, note.provider, str(error) or "it takes too long")

    async def _sent(self, job: Job, left: Left) -> UpstreamNote:
        """Send the lines, but for those that cannot be said: these have failed."""
        note = self._note(job)
        client = self._client(note)
        sendable = [place for place in left if await self._says(job, client, place)]
        if not sendable:
            return note

        async def send() -> UpstreamBatch:
            known = await client.find(job.batch.id) if self._note(job).sent else None
            if known is not None:
                return known
            await job.note(upstream=msgspec.structs.replace(note, sent=True))
            async with aclosing(self._calls(job, sendable)) as calls:
                return await client.submit(note.model, calls, job.batch.id)

        batch = await self._patiently(send)
        note = msgspec.structs.replace(note, sent=True, batch=batch)
        await job.note(upstream=note)
        return note

    async def _says(self, job: Job, client: BatchClient, place: tuple[int, int, int]) -> bool:
        """Whether a line can be sent; one that cannot be has failed."""
        number, offset, size = place
        asked = await job.lines.read(offset, size)
        codec = self._asking.codec(job.batch.endpoint)
        try:
            error = client.refusal(self._note(job).model, decoded(codec, asked))
        except ServerError as failed:
            error = failed
        if error is not None:
            await job.keep([failure(Named(number, asked.custom_id), error, codec)])
        return error is None

    async def _calls(
        self, job: Job, places: list[tuple[int, int, int]]
    ) -> AsyncGenerator[tuple[str, Call], None]:
        codec = self._asking.codec(job.batch.endpoint)
        for number, offset, size in places:
            yield _key(number), decoded(codec, await job.lines.read(offset, size))

    async def _ended(self, job: Job) -> UpstreamBatch:
        """Wait until the provider's batch is over, noting its progress."""
        while True:
            note = self._note(job)
            assert note.batch is not None
            batch_id, client = note.batch.id, self._client(note)
            if note.batch.ended:
                return note.batch
            batch = await self._patiently(lambda: client.show(batch_id))  # noqa: B023 - called before the next round
            if batch != note.batch:
                await job.note(upstream=msgspec.structs.replace(note, batch=batch))
            if not batch.ended:
                await asyncio.sleep(self._poll_s)

    async def _collected(self, job: Job) -> None:
        """Keep what the provider answered to the lines that are not finished."""
        note = self._note(job)
        assert note.batch is not None
        places = {number: (offset, size) for number, offset, size in await job.left()}
        group: list[LineResult] = []
        async with aclosing(self._client(note).results(note.batch.id)) as results:
            async for key, answer in results:
                number = _number(key)
                if (place := places.pop(number, None)) is None:
                    continue
                group.append(self._line(job, number, await job.lines.read(*place), answer))
                if len(group) >= GROUP:
                    await job.keep(group)
                    group = []
        if group:
            await job.keep(group)
        job.collected = True

    def _line(self, job: Job, number: int, asked: Asked, answer: UpstreamAnswer) -> LineResult:
        codec = self._asking.codec(job.batch.endpoint)
        named = Named(number, asked.custom_id)
        try:
            call = decoded(codec, asked)
            return written(named, codec, call, answer.decoded(call))
        except ServerError as error:
            return failure(named, error, codec)

    async def _unanswered(self, job: Job) -> None:
        """Fail the lines that the provider did not answer."""
        for number, offset, size in await job.left():
            asked = await job.lines.read(offset, size)
            message = "The provider gave no answer to this request before its batch ended."
            await job.keep([not_asked(Named(number, asked.custom_id), "no_answer", message)])

    async def _patiently(self, ask: Callable[[], Awaitable[T]]) -> T:
        """Do what ``ask`` does, again and again while the provider is busy or fails; waits grow.

        Raises:
            RefusedError: it will not be done.
        """
        wait_s = 1.0
        while True:
            try:
                return await ask()
            except ServerError as error:
                if error.kind not in WAITING | FAULTS:
                    raise RefusedError(error.message) from error
                _log.warning("a provider's batch waits: %s %s", error.message, error.detail)
                after_s = max(wait_s * random.random(), error.retry_after_s or 0.0)  # noqa: S311 - jitter, no secret
                await asyncio.sleep(min(after_s, LONGEST_WAIT_S))
                wait_s = min(2 * wait_s, LONGEST_WAIT_S)

    def _note(self, job: Job) -> UpstreamNote:
        assert job.batch.upstream is not None
        return job.batch.upstream

    def _client(self, note: UpstreamNote) -> BatchClient:
        found = self._clients.get(note.provider)
        if found is None:
            raise RefusedError(f"Provider '{note.provider}' is no longer configured, or has no batch API.")
        return found


def _key(number: int) -> str:
    """Return what a line is called at the provider: they allow few characters, callers use any."""
    return f"line-{number}"


def _number(key: str) -> int:
    digits = key.removeprefix("line-")
    return int(digits) if digits.isascii() and digits.isdigit() and len(digits) < 10 else 0
