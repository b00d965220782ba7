"""Message Batches: requests inside the batch, results as JSON lines once it has ended.

Source: https://platform.claude.com/docs/en/build-with-claude/batch-processing; anthropic 2.12
(``types/messages/message_batch*.py``).
"""

from urllib.parse import quote

import msgspec
from msgspec import Raw, Struct

from llm_server.contract import ErrorKind, HttpRequest, ServerError, UpstreamBatch
from llm_server.providers.dialects.anthropic.errors import TYPE_STATUS
from llm_server.providers.dialects.batches import BatchRequest, BatchResult, WithoutFiles

PATH = "v1/messages"
_ALONE = ("content-type", "application/json")


class _Counts(Struct):
    succeeded: int = 0
    errored: int = 0


class _Batch(Struct):
    id: str
    processing_status: str
    request_counts: _Counts | None = None


class _Error(Struct):
    type: str = ""


class _Errored(Struct):
    error: _Error | None = None


class _Result(Struct):
    type: str
    message: Raw = Raw(b"")
    error: Raw = Raw(b"{}")


class _Line(Struct):
    custom_id: str
    result: _Result


_batch = msgspec.json.Decoder(_Batch).decode
_line = msgspec.json.Decoder(_Line).decode
_errored = msgspec.json.Decoder(_Errored).decode


class Messages(WithoutFiles):
    """Message Batches: see ``BatchDialect``."""

    max_lines = 100_000
    max_bytes = 256 * 1000 * 1000

    def line(self, key: str, request: HttpRequest) -> bytes:
        """Return one request of the batch."""
        if request.path != PATH:
            message = "The provider's batch API takes messages only."
            raise ServerError(ErrorKind.UNSUPPORTED, message, param="url")
        return msgspec.json.encode({"custom_id": key, "params": Raw(request.body)})

    def create(self, batch: BatchRequest) -> HttpRequest:
        """Return the request that makes a batch."""
        headers = tuple(each for each in batch.headers if each != _ALONE)
        body = b'{"requests":[%b]}' % b",".join(batch.lines)
        return HttpRequest(path=f"{PATH}/batches", body=body, headers=(_ALONE, *headers))

    def batch(self, body: bytes) -> UpstreamBatch:
        """Return where a batch stands."""
        found = _batch(body)
        counts = found.request_counts or _Counts()
        return UpstreamBatch(
            id=found.id,
            ended=found.processing_status == "ended",
            completed=counts.succeeded,
            failed=counts.errored,
        )

    def show(self, batch_id: str) -> HttpRequest:
        """Return the request that asks for a batch."""
        return _asking("GET", batch_id)

    def cancel(self, batch_id: str) -> HttpRequest:
        """Return the request that gives a batch up."""
        return _asking("POST", batch_id, "/cancel")

    def listing(self) -> None:
        """Return nothing: batches have no name of their maker's to be told apart by."""

    def tagged(self, body: bytes, tag: str) -> UpstreamBatch | None:
        """Never called, since there is no list."""
        raise ValueError(body, tag)

    def results(self, batch: bytes) -> tuple[HttpRequest, ...]:
        """Return where the results are: never the URL that the answer names, which could be anybody's."""
        return (_asking("GET", _batch(batch).id, "/results"),)

    def result(self, line: bytes) -> BatchResult | None:
        """Return what a line says; nothing for a request that was cancelled or expired."""
        found = _line(line)
        if found.result.type == "succeeded":
            return BatchResult(found.custom_id, 200, bytes(found.result.message))
        if found.result.type != "errored":
            return None
        error = bytes(found.result.error)
        kind = (_errored(error).error or _Error()).type
        return BatchResult(found.custom_id, TYPE_STATUS.get(kind, 500), error)


def _asking(method: str, batch_id: str, end: str = "") -> HttpRequest:
    return HttpRequest(
        method=method,
        path=f"{PATH}/batches/{quote(batch_id, safe='')}{end}",
        headers=(("anthropic-version", "2023-06-01"),),
    )
