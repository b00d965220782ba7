"""Make, show, list and cancel batches."""

import re
import time
from collections.abc import Awaitable, Callable, Collection, Sequence

from msgspec import Struct

from llm_server.batching.offline.files import PURPOSE, Files, unknown
from llm_server.batching.offline.lines import LineError, model_of, parse
from llm_server.batching.offline.names import new_id
from llm_server.contract import (
    Batch,
    BatchOrder,
    BatchStatus,
    BatchStore,
    ErrorKind,
    FileStore,
    ServerError,
    Target,
    UpstreamNote,
)
from llm_server.contract.batches import PIECE_BYTES

WINDOW = re.compile(r"([1-9][0-9]{0,2})([hd])")
HOUR_S = 3600
LONGEST_WINDOW_S = 7 * 24 * HOUR_S

Stores = Callable[[], Awaitable[tuple[FileStore, BatchStore]]]


class Routes(Struct, frozen=True):
    """Where requests may lead.

    ``endpoints`` are those that a batch can be of; ``targets`` returns what a model's name stands for and
    raises ``MODEL_NOT_FOUND``; ``batching`` are the providers with a batch API of their own.
    """

    endpoints: Collection[str]
    targets: Callable[[str], Sequence[Target]]
    batching: Collection[str]


class Batches:
    """What callers do with batches.

    Args:
        stores: opens where files and batches are kept.
        routes: where requests may lead.
        wake: is told of every batch that is new or changed.
        clock: Unix seconds.
    """

    def __init__(
        self,
        stores: Stores,
        files: Files,
        routes: Routes,
        wake: Callable[[str], None],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._stores = stores
        self._files = files
        self._routes = routes
        self._wake = wake
        self._clock = clock

    async def create(self, tenant: str, order: BatchOrder) -> Batch:
        """Make a batch, to be validated and run from now on.

        Raises:
            ServerError: ``INVALID_REQUEST`` or ``UNSUPPORTED`` naming the field; ``NOT_FOUND`` for the file.
        """
        if order.endpoint not in self._routes.endpoints:
            message = f"endpoint: must be one of {', '.join(self._routes.endpoints)}."
            raise ServerError(ErrorKind.INVALID_REQUEST, message, param="endpoint")
        window_s = seconds(order.window)
        await self._readable(tenant, order.input_file)
        upstream = await self._upstream(order) if order.provider_batch else None
        now = int(self._clock())
        batch = Batch(
            id=new_id("batch_"),
            tenant=tenant,
            endpoint=order.endpoint,
            input_file=order.input_file,
            window=order.window,
            times={BatchStatus.VALIDATING: now},
            expires=now + window_s,
            metadata=order.metadata,
            output_expires_after_s=order.output_expires_after_s,
            upstream=upstream,
        )
        await (await self._stores())[1].add(batch)
        self._wake(batch.id)
        return batch

    async def show(self, tenant: str, batch_id: str) -> Batch:
        """Return a batch; ``NOT_FOUND`` if there is none, or it is another's."""
        found = await (await self._stores())[1].find(tenant, batch_id)
        if found is None:
            raise _unknown(batch_id)
        return found

    async def page(self, tenant: str, after: str | None, limit: int) -> Sequence[Batch]:
        """Return batches, newest first, after the batch ``after``; ``NOT_FOUND`` if there is none."""
        store = (await self._stores())[1]
        if after is not None and await store.find(tenant, after) is None:
            raise _unknown(after, "after")
        return await store.page(tenant, after, limit)

    async def cancel(self, tenant: str, batch_id: str) -> Batch:
        """Have a batch given up; what is finished of it stays. ``CONFLICT`` when it is over already."""
        found = await (await self._stores())[1].cancel(tenant, batch_id, int(self._clock()))
        if found is None:
            raise _unknown(batch_id)
        if found.status is not BatchStatus.CANCELLING:
            message = f"A batch that is {found.status} cannot be cancelled."
            raise ServerError(ErrorKind.CONFLICT, message, param="batch_id")
        self._wake(batch_id)
        return found

    async def _readable(self, tenant: str, file_id: str) -> None:
        try:
            file = await self._files.show(tenant, file_id)
        except ServerError as error:
            raise unknown(file_id, "input_file_id") if error.kind is ErrorKind.NOT_FOUND else error from None
        if file.purpose != PURPOSE:
            message = f"The file's purpose is '{file.purpose}'; it must be '{PURPOSE}'."
            raise ServerError(ErrorKind.INVALID_REQUEST, message, param="input_file_id")

    async def _upstream(self, order: BatchOrder) -> UpstreamNote:
        """Return which provider can run the batch: the first with a batch API that its model leads to."""
        files = (await self._stores())[0]
        head = await files.piece(order.input_file, 0)
        line, newline, _ = head.lstrip().partition(b"\n")
        if not newline and len(head) >= PIECE_BYTES:
            message = "With provider_batch the file's first line must be smaller than a megabyte."
            raise ServerError(ErrorKind.UNSUPPORTED, message, param="provider_batch")
        try:
            model = model_of(parse(line, order.endpoint).body)
        except LineError as error:
            message = f"The file's first line cannot be read: {error}"
            raise ServerError(ErrorKind.INVALID_REQUEST, message, param="input_file_id") from None
        targets = self._routes.targets(model)
        for target in targets:
            if target.provider in self._routes.batching:
                return UpstreamNote(provider=target.provider, model=target.model)
        names = ", ".join(dict.fromkeys(target.provider for target in targets))
        message = f"Model '{model[:128]}' leads to {names}, which has no batch API; leave provider_batch out."
        raise ServerError(ErrorKind.UNSUPPORTED, message, param="provider_batch")


def seconds(window: str) -> int:
    """Return a completion window (``24h``, ``7d``) in seconds; ``INVALID_REQUEST`` if it is none."""
    found = WINDOW.fullmatch(window)
    length_s = int(found[1]) * (HOUR_S if found[2] == "h" else 24 * HOUR_S) if found else 0
    if not 0 < length_s <= LONGEST_WINDOW_S:
        message = "completion_window: expected hours or days up to 7d, such as '24h'."
        raise ServerError(ErrorKind.INVALID_REQUEST, message, param="completion_window")
    return length_s


def _unknown(batch_id: str, param: str = "batch_id") -> ServerError:
    return ServerError(ErrorKind.NOT_FOUND, f"There is no batch '{batch_id[:64]}'.", param=param)
