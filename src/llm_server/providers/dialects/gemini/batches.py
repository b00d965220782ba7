"""Batch mode: requests inlined in the batch, answers in the operation that it is.

Source: https://ai.google.dev/api/batch-api and https://ai.google.dev/gemini-api/docs/batch-api (v1beta);
google-genai 3.4 (``batches.py``, the ``_mldev`` functions).
"""

import re
from urllib.parse import quote

import msgspec
from msgspec import Raw, Struct

from llm_server.contract import ErrorKind, HttpRequest, ServerError, UpstreamBatch
from llm_server.providers.dialects.batches import BatchRequest, BatchResult, WithoutFiles

ENDED = re.compile(r"(BATCH|JOB)_STATE_(SUCCEEDED|PARTIALLY_SUCCEEDED|FAILED|CANCELLED|EXPIRED)")
STATUSES = {
    1: 499, 2: 500, 3: 400, 4: 504, 5: 404, 6: 409, 7: 403, 8: 429, 9: 400, 10: 409, 11: 400, 12: 501,
    13: 500, 14: 503, 15: 500, 16: 401,
}  # fmt: skip
"""HTTP status of each canonical code (google/rpc/code.proto)."""
_JSON = ("content-type", "application/json")
_NAME = re.compile(r"batches/[A-Za-z0-9._-]+")


class _Stats(Struct, rename="camel"):
    successful_request_count: int | str = 0
    failed_request_count: int | str = 0


class _Key(Struct, rename="camel"):
    key: str = ""


class _Answer(Struct, rename="camel"):
    response: Raw = Raw(b"")
    error: Raw = Raw(b"")
    metadata: _Key | None = None


class _Answers(Struct, rename="camel"):
    inlined_responses: list[Raw] | None = None


class _Output(Struct, rename="camel"):
    inlined_responses: _Answers | None = None


class _Error(Struct, rename="camel"):
    code: int | None = None
    message: str = ""


class _Metadata(Struct, rename="camel"):
    state: str = ""
    display_name: str = ""
    batch_stats: _Stats | None = None
    output: _Output | None = None


class _Operation(Struct, rename="camel"):
    name: str
    done: bool = False
    metadata: _Metadata | None = None
    response: _Output | None = None
    error: _Error | None = None


class _Listed(Struct, rename="camel"):
    operations: list[_Operation] = []


_operation = msgspec.json.Decoder(_Operation).decode
_listed = msgspec.json.Decoder(_Listed).decode
_answer = msgspec.json.Decoder(_Answer).decode
_error = msgspec.json.Decoder(_Error).decode


class Inlined(WithoutFiles):
    """Inlined batches: see ``BatchDialect``."""

    max_lines = 50_000
    max_bytes = 20 * 1000 * 1000

    def line(self, key: str, request: HttpRequest) -> bytes:
        """Return one request of the batch."""
        if not request.path.endswith(":generateContent"):
            message = "The provider's batch API takes chats only here."
            raise ServerError(ErrorKind.UNSUPPORTED, message, param="url")
        return msgspec.json.encode({"request": Raw(request.body), "metadata": {"key": key}})

    def create(self, batch: BatchRequest) -> HttpRequest:
        """Return the request that makes a batch."""
        name = msgspec.json.encode(batch.tag)
        lines = b",".join(batch.lines)
        body = b'{"batch":{"displayName":%b,"inputConfig":{"requests":{"requests":[%b]}}}}' % (name, lines)
        path = batch.path.removesuffix(":generateContent") + ":batchGenerateContent"
        return HttpRequest(path=path, body=body, headers=(_JSON,))

    def batch(self, body: bytes) -> UpstreamBatch:
        """Return where a batch stands."""
        return _told(_operation(body))

    def show(self, batch_id: str) -> HttpRequest:
        """Return the request that asks for a batch."""
        return HttpRequest(method="GET", path=_path(batch_id))

    def cancel(self, batch_id: str) -> HttpRequest:
        """Return the request that gives a batch up."""
        return HttpRequest(path=f"{_path(batch_id)}:cancel")

    def listing(self) -> HttpRequest:
        """Return the request that lists the newest batches."""
        return HttpRequest(method="GET", path="batches?pageSize=100")

    def tagged(self, body: bytes, tag: str) -> UpstreamBatch | None:
        """Return the batch of a list that was made with ``tag``."""
        for operation in _listed(body).operations:
            if operation.metadata is not None and operation.metadata.display_name == tag:
                return _told(operation)
        return None

    def results(self, batch: bytes) -> tuple[bytes, ...]:
        """Return the answers, which the operation itself holds in one of two places."""
        found = _operation(batch)
        output = found.metadata.output if found.metadata else None
        for place in (found.response, output):
            if place is not None and place.inlined_responses is not None:
                return tuple(map(bytes, place.inlined_responses.inlined_responses or ()))
        return ()

    def result(self, line: bytes) -> BatchResult | None:
        """Return what one answer says."""
        found = _answer(line)
        key = found.metadata.key if found.metadata else ""
        if bytes(found.response):
            return BatchResult(key, 200, bytes(found.response))
        if not bytes(found.error):
            return None
        error = bytes(found.error)
        return BatchResult(key, STATUSES.get(_error(error).code or 2, 500), b'{"error":%b}' % error)


def _told(operation: _Operation) -> UpstreamBatch:
    metadata = operation.metadata or _Metadata()
    stats = metadata.batch_stats or _Stats()
    error = operation.error
    return UpstreamBatch(
        id=operation.name,
        ended=operation.done or ENDED.fullmatch(metadata.state) is not None,
        completed=int(stats.successful_request_count),
        failed=int(stats.failed_request_count),
        message=(error.message or "The provider's batch failed.") if error else "",
    )


def _path(batch_id: str) -> str:
    """Return the path of a batch, whose id is its resource name: a name that is none leads nowhere."""
    return batch_id if _NAME.fullmatch(batch_id) else f"batches/{quote(batch_id, safe='')}"
