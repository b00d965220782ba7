"""Files and batches: the values, and the ports of who keeps them and who may run them more cheaply."""

from collections.abc import AsyncGenerator, AsyncIterable, Mapping, Sequence
from enum import StrEnum
from typing import Literal, Protocol

from msgspec import Struct

from llm_server.contract.answers import Completion, Embeddings, TokenCount, Usage
from llm_server.contract.calls import Call
from llm_server.contract.errors import ServerError


class BatchStatus(StrEnum):
    """Where a batch stands, in OpenAI's words (openai-python 3.54, ``types/batch.py``)."""

    VALIDATING = "validating"
    IN_PROGRESS = "in_progress"
    FINALIZING = "finalizing"
    COMPLETED = "completed"
    FAILED = "failed"
    EXPIRED = "expired"
    CANCELLING = "cancelling"
    CANCELLED = "cancelled"


UNFINISHED = frozenset(
    {BatchStatus.VALIDATING, BatchStatus.IN_PROGRESS, BatchStatus.FINALIZING, BatchStatus.CANCELLING}
)
"""Statuses in which somebody still has to work on a batch."""

LineOutcome = Literal["completed", "failed", "expired"]
"""How a line of a batch ended. ``expired`` is a failure too: it was not asked before the window's end."""


PIECE_BYTES = 1024 * 1024
"""In pieces of this size files are kept: a write holds up others for a few milliseconds."""


class StoredFile(Struct, frozen=True, kw_only=True):
    """A file as it is told of. Times are Unix seconds; ids sort by the time at which they were made."""

    id: str
    tenant: str = ""
    name: str
    purpose: str
    size: int = 0
    """Bytes."""
    created: int = 0
    expires: int | None = None
    batch_id: str = ""
    """The batch whose lines it is made of; empty for a file that was uploaded."""
    failed: bool = False
    """Whether it holds that batch's failures instead of its answers."""


class FileQuery(Struct, frozen=True, kw_only=True):
    """Which files to list: those after the file ``after``, newest first unless ``ascending``."""

    tenant: str = ""
    purpose: str | None = None
    after: str | None = None
    limit: int
    ascending: bool = False
    now: int
    """Unix seconds; files that have expired by then are left out."""


class LineProblem(Struct, frozen=True, kw_only=True):
    """Why a batch could not be run. ``line`` counts from 1; ``None`` for the batch as a whole."""

    code: str
    message: str
    param: str | None = None
    line: int | None = None


class UpstreamBatch(Struct, frozen=True, kw_only=True):
    """A batch as a provider's own batch API tells of it.

    ``completed`` and ``failed`` count lines. ``message`` says what went wrong with the batch as a whole.
    """

    id: str
    ended: bool = False
    completed: int = 0
    failed: int = 0
    message: str = ""


class UpstreamNote(Struct, frozen=True, kw_only=True):
    """Which provider runs a batch, as what model, and what is known of it there.

    ``sent`` is set before the lines are: without an ``id`` it then is not known whether they arrived.
    """

    provider: str
    model: str
    sent: bool = False
    batch: UpstreamBatch | None = None


class Batch(Struct, frozen=True, kw_only=True):
    """A batch. ``times`` has the Unix second at which each status was reached."""

    id: str
    tenant: str = ""
    endpoint: str
    input_file: str
    window: str = "24h"
    status: BatchStatus = BatchStatus.VALIDATING
    times: Mapping[BatchStatus, int] = {}
    expires: int
    """Unix second at which the window ends."""
    metadata: Mapping[str, str] | None = None
    output_expires_after_s: int | None = None
    output_file: str | None = None
    error_file: str | None = None
    problems: tuple[LineProblem, ...] = ()
    model: str | None = None
    """The model of all lines, where they name one only."""
    total: int = 0
    completed: int = 0
    failed: int = 0
    usage: Usage = Usage()
    upstream: UpstreamNote | None = None
    """The provider that runs it through its own batch API; ``None``: this server runs it, line by line."""

    @property
    def created(self) -> int:
        """Unix second at which it was made."""
        return self.times.get(BatchStatus.VALIDATING, 0)


class BatchOrder(Struct, frozen=True, kw_only=True):
    """What a caller wants run. ``provider_batch``: through the provider's own batch API."""

    endpoint: str
    input_file: str
    window: str = "24h"
    metadata: Mapping[str, str] | None = None
    output_expires_after_s: int | None = None
    provider_batch: bool = False


class LineResult(Struct, frozen=True, kw_only=True):
    """One finished line: its ``number`` in the input file, and ``data``, its line of the output file."""

    number: int
    outcome: LineOutcome
    data: bytes
    usage: Usage = Usage()


class FileStore(Protocol):
    """Keeps files. Implemented in storage/ and testing, used by batching/.

    Writes are lasting when they return. A store that cannot answer raises ``UNAVAILABLE``.
    """

    async def begin(self, file: StoredFile) -> None:
        """Begin a file that nobody sees before :meth:`finish`."""
        ...

    async def append(self, file_id: str, number: int, data: bytes) -> None:
        """Add the piece ``number``, from 0 on, to a begun file: of :data:`PIECE_BYTES`, but for the last one.

        ``NOT_FOUND`` if the file was swept away meanwhile.
        """
        ...

    async def finish(self, file_id: str, expires: int | None = None) -> StoredFile:
        """Let the file be seen, with its size, and with another time to expire at if one is given.

        ``NOT_FOUND`` if it was swept away meanwhile.
        """
        ...

    async def find(self, tenant: str, file_id: str) -> StoredFile | None:
        """Return a finished file, expired or not."""
        ...

    async def page(self, query: FileQuery) -> tuple[StoredFile, ...]:
        """Return the files that ``query`` asks for."""
        ...

    def content(self, file: StoredFile) -> AsyncGenerator[bytes, None]:
        """Yield what is in a file, in pieces of about a megabyte; a batch's file is in order of lines."""
        ...

    async def piece(self, file_id: str, number: int) -> bytes:
        """Return a piece of an uploaded file, empty beyond its end."""
        ...

    async def remove(self, tenant: str, file_id: str) -> bool:
        """Delete a file, begun or finished; whether there was one.

        Raises ``CONFLICT`` while an unfinished batch reads it.
        """
        ...

    async def used(self, tenant: str) -> int:
        """Return how many bytes all files have, begun ones and the lines of unfinished batches included."""
        ...


class BatchStore(Protocol):
    """Keeps batches and their finished lines. Implemented in storage/ and testing, used by batching/.

    A batch is worked on by whoever has claimed it, until ``until`` (Unix seconds): every write of a worker
    names itself as ``owner`` and does nothing once another one has the claim.
    """

    async def add(self, batch: Batch) -> None:
        """Add a new batch."""
        ...

    async def find(self, tenant: str, batch_id: str) -> Batch | None:
        """Return a batch."""
        ...

    async def page(self, tenant: str, after: str | None, limit: int) -> tuple[Batch, ...]:
        """Return batches, newest first, after the batch ``after``."""
        ...

    async def cancel(self, tenant: str, batch_id: str, at: int) -> Batch | None:
        """Let a batch that is validated or in progress be cancelling; return it as it then is."""
        ...

    async def claim(self, owner: str, now: float, until: float, *, given_up: bool = False) -> Batch | None:
        """Take the oldest unfinished batch that nobody has, or whose owner's time is over.

        ``given_up``: only one that is cancelling.
        """
        ...

    async def renew(self, batch_id: str, owner: str, until: float) -> Batch | None:
        """Keep a claim, and return the batch as it is; ``None`` if another one has it."""
        ...

    async def release(self, batch_id: str, owner: str) -> None:
        """Give a claim back, if it is still ``owner``'s."""
        ...

    async def update(
        self, batch: Batch, owner: str, was: BatchStatus, files: Sequence[StoredFile] = ()
    ) -> bool:
        """Replace a batch, all but its counts and usage, and add the files that its lines make.

        Returns whether it was done: only if the claim holds and its status is still ``was``.
        """
        ...

    async def record(self, batch_id: str, owner: str, results: Sequence[LineResult]) -> Batch | None:
        """Keep finished lines, each once, and count them; ``None`` if the claim is lost."""
        ...

    async def recorded(self, batch_id: str) -> tuple[int, ...]:
        """Return the numbers of the finished lines."""
        ...

    async def sizes(self, batch_id: str) -> tuple[int, int]:
        """Return how many bytes the answers and the failures of a batch make as files."""
        ...

    async def sweep(self, now: int, finished_before: int, begun_before: int) -> int:
        """Delete what is over; return how many files and batches.

        These are expired files, but for those that an unfinished batch reads; uploads begun before
        ``begun_before`` and not finished; batches finished before ``finished_before``.
        """
        ...


class BatchClient(Protocol):
    """A provider's own batch API. Implemented in providers/, used by batching/. All raise ``ServerError``."""

    async def submit(self, model: str, lines: AsyncIterable[tuple[str, Call]], tag: str) -> UpstreamBatch:
        """Send calls, each under a key of its own, to be answered later.

        Raises ``UNSUPPORTED`` for more than the API takes; a call that cannot be said is left out: see
        :meth:`refusal`.
        """
        ...

    def refusal(self, model: str, call: Call) -> ServerError | None:
        """Return why a call cannot be sent, ``None`` if it can."""
        ...

    async def find(self, tag: str) -> UpstreamBatch | None:
        """Return the batch that was submitted as ``tag``; ``None`` if there is none or it cannot be told."""
        ...

    async def show(self, batch_id: str) -> UpstreamBatch:
        """Return where a batch stands."""
        ...

    async def cancel(self, batch_id: str) -> None:
        """Ask for a batch to be given up; what is finished by then stays."""
        ...

    def results(self, batch_id: str) -> AsyncGenerator[tuple[str, "UpstreamAnswer"], None]:
        """Yield what became of each call of a batch that has ended, by key, in any order."""
        ...

    def clear(self, batch_id: str) -> AsyncGenerator[ServerError | None, None]:
        """Delete the files that an ended batch has read and written, where the API keeps such files.

        Yields for each what kept it from being deleted, ``None`` for one that is gone.
        """
        ...


class UpstreamAnswer(Protocol):
    """What a provider's batch API answered to one call."""

    def decoded(self, call: Call) -> Completion | Embeddings | TokenCount:
        """Return the answer to ``call``; raises the ``ServerError`` that it is."""
        ...


class LineCodec(Protocol):
    """What the lines of one endpoint look like. Implemented in wire/, used by batching/."""

    def decode(self, body: bytes, headers: Mapping[str, str]) -> Call:
        """Return the call that ``body`` asks for; raises ``INVALID_REQUEST``."""
        ...

    def whole(self, call: Call, answer: Completion | Embeddings | TokenCount) -> bytes:
        """Return the body of an answer."""
        ...

    def error(self, error: ServerError, request_id: str) -> bytes:
        """Return the body of an error answer."""
        ...


class BatchObserver(Protocol):
    """Hears of batches. Implemented in telemetry/, called by batching/; must not raise or wait."""

    def entered(self, status: BatchStatus) -> None:
        """A batch reached a status."""
        ...

    def ended(self, outcome: LineOutcome, count: int) -> None:
        """Lines were recorded."""
        ...

    def running(self, change: int) -> None:
        """This process works on so many batches more, or fewer."""
        ...

    def cleared(self, provider: str, *, deleted: bool) -> None:
        """A file that a batch has had at its provider was deleted there, or could not be."""
        ...
