"""Batch APIs over uploaded files of JSON lines: OpenAI's own, which Groq has too, and Mistral's jobs.

Sources: https://platform.openai.com/docs/api-reference/batch, https://console.groq.com/docs/batch,
https://docs.mistral.ai/capabilities/batch; openai 3.54 (``types/batch.py``), groq 1.7, mistralai 3.7
(``models/batchjob.py``, ``models/createbatchjobrequest.py``). Files are deleted alike by all three: ``DELETE
/files/{id}`` (``resources/files.py`` of the first two, ``files.py`` of the third).
"""

import secrets
from typing import Any
from urllib.parse import quote

import msgspec
from msgspec import Raw, Struct

from llm_server.contract import HttpRequest, UpstreamBatch
from llm_server.providers.dialects.batches import BatchRequest, BatchResult

ENDED = frozenset({"completed", "failed", "expired", "cancelled"})
JOBS_ENDED = frozenset({"SUCCESS", "FAILED", "TIMEOUT_EXCEEDED", "CANCELLED"})
TAG = "llm_server_batch"
"""The key in a batch's metadata under which it is found again."""
_JSON = ("content-type", "application/json")
NULL = Raw(b"null")


class _Counts(Struct):
    completed: int = 0
    failed: int = 0


class _Problem(Struct):
    message: str | None = None
    code: str | None = None


class _Problems(Struct):
    data: list[_Problem] | None = None


class _Batch(Struct):
    id: str
    status: str
    request_counts: _Counts | None = None
    errors: _Problems | None = None
    input_file_id: str | None = None
    output_file_id: str | None = None
    error_file_id: str | None = None
    metadata: dict[str, Any] | None = None


class _Job(Struct):
    id: str
    status: str
    succeeded_requests: int = 0
    failed_requests: int = 0
    errors: list[_Problem] = []
    input_files: list[str] = []
    output_file: str | None = None
    error_file: str | None = None
    metadata: dict[str, Any] | None = None


class _Listed(Struct):
    data: list[Raw] | None = None


class _File(Struct):
    id: str


class _Response(Struct):
    status_code: int = 0
    body: Raw = Raw(b"{}")


class _Line(Struct):
    custom_id: str
    response: _Response | None = None
    error: Raw = NULL


_batch = msgspec.json.Decoder(_Batch).decode
_job = msgspec.json.Decoder(_Job).decode
_listed = msgspec.json.Decoder(_Listed).decode
_file = msgspec.json.Decoder(_File).decode
_line = msgspec.json.Decoder(_Line).decode


class Files:
    """OpenAI's batches: see ``BatchDialect``."""

    max_lines = 50_000
    max_bytes = 200 * 1024 * 1024
    has_files = True

    def line(self, key: str, request: HttpRequest) -> bytes:
        """Return one request as a line of the input file."""
        asked = {"custom_id": key, "method": "POST", "url": f"/v1/{request.path}", "body": Raw(request.body)}
        return msgspec.json.encode(asked)

    def upload(self, lines: list[bytes], tag: str) -> HttpRequest:
        """Return the form that uploads the input file."""
        boundary = secrets.token_hex(16)
        body = _form(boundary, tag, lines)
        return HttpRequest(
            path="files",
            body=body,
            headers=(("content-type", f"multipart/form-data; boundary={boundary}"),),
        )

    def uploaded(self, body: bytes) -> str:
        """Return the id of the input file."""
        return _file(body).id

    def files(self, batch: bytes) -> tuple[str, ...]:
        """Return the ids of a batch's files."""
        found = _batch(batch)
        return _named(found.input_file_id, found.output_file_id, found.error_file_id)

    def remove(self, file: str) -> HttpRequest:
        """Return the request that deletes a file."""
        return HttpRequest(method="DELETE", path=f"files/{quote(file, safe='')}", headers=())

    def create(self, batch: BatchRequest) -> HttpRequest:
        """Return the request that makes a batch."""
        asked = {
            "input_file_id": batch.file,
            "endpoint": f"/v1/{batch.path}",
            "completion_window": "24h",
            "metadata": {TAG: batch.tag},
        }
        return HttpRequest(path="batches", body=msgspec.json.encode(asked), headers=(_JSON,))

    def batch(self, body: bytes) -> UpstreamBatch:
        """Return where a batch stands."""
        return _told(_batch(body))

    def show(self, batch_id: str) -> HttpRequest:
        """Return the request that asks for a batch."""
        return HttpRequest(method="GET", path=f"batches/{quote(batch_id, safe='')}")

    def cancel(self, batch_id: str) -> HttpRequest:
        """Return the request that gives a batch up."""
        return HttpRequest(path=f"batches/{quote(batch_id, safe='')}/cancel")

    def listing(self) -> HttpRequest:
        """Return the request that lists the newest batches."""
        return HttpRequest(method="GET", path="batches?limit=100")

    def tagged(self, body: bytes, tag: str) -> UpstreamBatch | None:
        """Return the batch of a list that was made with ``tag``."""
        batches = (_batch(each) for each in _listed(body).data or ())
        return next((_told(each) for each in batches if (each.metadata or {}).get(TAG) == tag), None)

    def results(self, batch: bytes) -> tuple[HttpRequest, ...]:
        """Return where the answers and the errors are."""
        found = _batch(batch)
        return _contents(found.output_file_id, found.error_file_id)

    def result(self, line: bytes) -> BatchResult | None:
        """Return what a line of either file says."""
        return _result(line)


class Jobs(Files):
    """Mistral's batch jobs: files as OpenAI's, batches of another form."""

    max_lines = 1_000_000

    def line(self, key: str, request: HttpRequest) -> bytes:
        """Return one request as a line of the input file; the job says where all of them go."""
        return msgspec.json.encode({"custom_id": key, "body": Raw(request.body)})

    def files(self, batch: bytes) -> tuple[str, ...]:
        """Return the ids of a job's files."""
        found = _job(batch)
        return _named(*found.input_files, found.output_file, found.error_file)

    def create(self, batch: BatchRequest) -> HttpRequest:
        """Return the request that makes a job."""
        asked = {
            "input_files": [batch.file],
            "endpoint": f"/v1/{batch.path}",
            "model": batch.model,
            "metadata": {TAG: batch.tag},
            "timeout_hours": 24,
        }
        return HttpRequest(path="batch/jobs", body=msgspec.json.encode(asked), headers=(_JSON,))

    def batch(self, body: bytes) -> UpstreamBatch:
        """Return where a job stands."""
        return _job_told(_job(body))

    def show(self, batch_id: str) -> HttpRequest:
        """Return the request that asks for a job."""
        return HttpRequest(method="GET", path=f"batch/jobs/{quote(batch_id, safe='')}")

    def cancel(self, batch_id: str) -> HttpRequest:
        """Return the request that gives a job up."""
        return HttpRequest(path=f"batch/jobs/{quote(batch_id, safe='')}/cancel")

    def listing(self) -> HttpRequest:
        """Return the request that lists the newest jobs."""
        return HttpRequest(method="GET", path="batch/jobs?page=0&page_size=100")

    def tagged(self, body: bytes, tag: str) -> UpstreamBatch | None:
        """Return the job of a list that was made with ``tag``."""
        jobs = (_job(each) for each in _listed(body).data or ())
        return next((_job_told(each) for each in jobs if (each.metadata or {}).get(TAG) == tag), None)

    def results(self, batch: bytes) -> tuple[HttpRequest, ...]:
        """Return where the answers and the errors are."""
        found = _job(batch)
        return _contents(found.output_file, found.error_file)


def _form(boundary: str, tag: str, lines: list[bytes]) -> bytes:
    """Return a form with the purpose and the file (RFC 7578)."""
    start = (
        f"--{boundary}\r\n"
        'Content-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
        f"--{boundary}\r\n"
        f'Content-Disposition: form-data; name="file"; filename="{tag}.jsonl"\r\n'
        "Content-Type: application/jsonl\r\n\r\n"
    )
    return b"".join((start.encode(), b"\n".join(lines), f"\n\r\n--{boundary}--\r\n".encode()))


def _contents(*files: str | None) -> tuple[HttpRequest, ...]:
    return tuple(
        HttpRequest(method="GET", path=f"files/{quote(file, safe='')}/content") for file in _named(*files)
    )


def _named(*files: str | None) -> tuple[str, ...]:
    return tuple(file for file in files if file)


def _told(batch: _Batch) -> UpstreamBatch:
    counts = batch.request_counts or _Counts()
    problems = (batch.errors.data if batch.errors else None) or []
    message = next((each.message for each in problems if each.message), "")
    failed = batch.status == "failed"
    return UpstreamBatch(
        id=batch.id,
        ended=batch.status in ENDED,
        completed=counts.completed,
        failed=counts.failed,
        message=(message or "The provider's batch failed.") if failed else "",
    )


def _job_told(job: _Job) -> UpstreamBatch:
    message = next((each.message for each in job.errors if each.message), "")
    failed = job.status == "FAILED"
    return UpstreamBatch(
        id=job.id,
        ended=job.status in JOBS_ENDED,
        completed=job.succeeded_requests,
        failed=job.failed_requests,
        message=(message or "The provider's batch failed.") if failed else "",
    )


def _result(line: bytes) -> BatchResult | None:
    """Return a line's status and body: an error without a response is one of the batch, like expiry."""
    found = _line(line)
    if found.response is not None and found.response.status_code:
        return BatchResult(found.custom_id, found.response.status_code, bytes(found.response.body))
    error = bytes(found.error)
    if error == b"null" or b"batch_expired" in error:
        return None
    return BatchResult(found.custom_id, 400, b'{"error":%b}' % error)
