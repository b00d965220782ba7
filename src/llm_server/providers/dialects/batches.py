"""What every dialect's ``batches.py`` speaks of: a batch to make, a result, and the port of translators."""

from typing import Protocol

from msgspec import Struct

from llm_server.contract import HttpRequest, UpstreamBatch


class BatchRequest(Struct, frozen=True, kw_only=True):
    """What a batch is made of. ``lines`` are as :meth:`BatchDialect.line` returned them.

    ``path`` is where each would have been sent alone, ``file`` where they were uploaded, if they were.
    """

    model: str
    tag: str
    path: str
    lines: list[bytes]
    headers: tuple[tuple[str, str], ...] = ()
    file: str = ""


class BatchResult(Struct, frozen=True):
    """What became of one request: the status and the body that it would have had if sent alone."""

    key: str
    status: int
    body: bytes


class BatchDialect(Protocol):
    """Pure translation for one shape of batch API. ``ValueError`` from a decoder means garbage."""

    max_lines: int
    max_bytes: int
    has_files: bool
    """Whether the API keeps lines and answers as files of their own, which somebody has to delete."""

    def line(self, key: str, request: HttpRequest) -> bytes:
        """Return one request as part of a batch; raises ``UNSUPPORTED`` for a kind that it does not take."""
        ...

    def upload(self, lines: list[bytes], tag: str) -> HttpRequest | None:
        """Return the request that uploads the lines, ``None`` where they go into the batch itself."""
        ...

    def uploaded(self, body: bytes) -> str:
        """Return the id of an uploaded file."""
        ...

    def files(self, batch: bytes) -> tuple[str, ...]:
        """Return the ids of the files that an ended batch has read and written."""
        ...

    def remove(self, file: str) -> HttpRequest:
        """Return the request that deletes a file."""
        ...

    def create(self, batch: BatchRequest) -> HttpRequest:
        """Return the request that makes a batch."""
        ...

    def batch(self, body: bytes) -> UpstreamBatch:
        """Return where a batch stands."""
        ...

    def show(self, batch_id: str) -> HttpRequest:
        """Return the request that asks for a batch."""
        ...

    def cancel(self, batch_id: str) -> HttpRequest:
        """Return the request that gives a batch up."""
        ...

    def listing(self) -> HttpRequest | None:
        """Return the request that lists the newest batches, ``None`` where they cannot be told apart."""
        ...

    def tagged(self, body: bytes, tag: str) -> UpstreamBatch | None:
        """Return the batch of a list that was made with ``tag``."""
        ...

    def results(self, batch: bytes) -> tuple[HttpRequest | bytes, ...]:
        """Return where the results of an ended batch are: files to be fetched, or lines themselves."""
        ...

    def result(self, line: bytes) -> BatchResult | None:
        """Return what a line of the results says, ``None`` for a request that was never looked at."""
        ...


class WithoutFiles:
    """What ``BatchDialect`` says of files, for APIs that have none: requests go into the batch."""

    has_files = False

    def upload(self, lines: list[bytes], tag: str) -> None:
        """Return nothing: the requests go into the batch."""

    def uploaded(self, body: bytes) -> str:
        """Never called, since there is nothing to upload."""
        raise ValueError(body)

    def files(self, batch: bytes) -> tuple[str, ...]:
        """Never called, since there are no files."""
        raise ValueError(batch)

    def remove(self, file: str) -> HttpRequest:
        """Never called, since there are no files."""
        raise ValueError(file)
