"""Vendors' own batch APIs, as a client sees them: their SDKs' types read the requests and make the answers.

Each answers a text with ``said: <text>``, refuses the text ``bad`` and never looks at the text ``late``.
"""

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import groq.types
import openai.types
import pydantic
from anthropic.types.messages import MessageBatch, MessageBatchIndividualResponse, batch_create_params
from google.genai import types as gemini
from google.genai.batches import _BatchJob_from_mldev, _InlinedRequest_to_mldev
from mistralai.client import models as mistral
from openai.types import batch_create_params as openai_create

from llm_server.wire.multipart import Multipart, Part, boundary_of
from tests.upstreams.script import Head, Script
from tests.upstreams.upstream import Request

NOW = 1_700_000_000
WHEN = datetime.fromtimestamp(NOW, UTC)


def reply(body: Any, status: int = 200) -> Script:
    """Answer with JSON, or with bytes as they are."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Script((Head(status, {"content-type": "application/json"}, len(data)), data))


def chat_answer(text: str) -> dict[str, Any]:
    """An OpenAI chat completion."""
    choice = {
        "index": 0,
        "finish_reason": "stop",
        "message": {"role": "assistant", "content": f"said: {text}"},
    }
    usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
    body = {"id": "c", "object": "chat.completion", "created": NOW, "model": "m", "choices": [choice]}
    return {**body, "usage": usage}


class Vendor:
    """A batch API with one batch. ``polls`` is how often it is asked before it ends.

    Attributes:
        lines: what the batch was made of: key to text.
        made: how many batches were made.
        cancelled: whether it was given up.
        refuses: the status that making a batch is answered with.
        fails: what it says of the batch as a whole when it fails it.
    """

    def __init__(self, polls: int = 2) -> None:
        self.polls = polls
        self.lines: dict[str, str] = {}
        self.made = 0
        self.cancelled = False
        self.fails = ""
        self.tag = ""
        self.forgets_to_answer = False
        self.refuses = 0
        self.seen: list[str] = []
        self.files: set[str] = set()
        """Ids of the files that are kept."""
        self.keeps: set[str] = set()
        """Ids of those that are not deleted, whoever asks."""

    def __call__(self, request: Request) -> Script:
        """Answer a request; what is no part of the API is a failure of the script."""
        self.seen.append(f"{request.method} {request.path}")
        for method, pattern, answer in self.routes():
            if request.method == method and (found := re.fullmatch(pattern, request.path)):
                return answer(request, *found.groups())
        raise AssertionError(f"{request.method} {request.path} is no part of this API")

    def routes(self) -> tuple[tuple[str, str, Callable[..., Script]], ...]:
        raise NotImplementedError

    @property
    def ended(self) -> bool:
        """Whether the batch is over, after one more look."""
        if self.cancelled or self.fails:
            return True
        self.polls -= 1
        return self.polls < 0

    def answered(self) -> dict[str, str]:
        """The lines that were looked at."""
        return {} if self.fails else {key: text for key, text in self.lines.items() if text != "late"}


class FileVendor(Vendor):
    """OpenAI's API over files, under ``prefix``."""

    prefix = "/v1"
    url: str | None = "/v1/chat/completions"
    batch: Callable[..., Any] = openai.types.Batch.model_validate
    file: Callable[..., Any] = openai.types.FileObject.model_validate
    deleted: Callable[..., Any] = openai.types.FileDeleted.model_validate
    create_params: Any = openai_create.BatchCreateParams

    def routes(self) -> tuple[tuple[str, str, Callable[..., Script]], ...]:
        return (
            ("POST", f"{self.prefix}/files", self.upload),
            ("GET", f"{self.prefix}/files/(out|err)/content", self.content),
            ("DELETE", f"{self.prefix}/files/(f1|out|err)", self.delete),
            ("POST", f"{self.prefix}/batches", self.create),
            ("GET", f"{self.prefix}/batches", self.listing),
            ("GET", f"{self.prefix}/batches/b1", self.show),
            ("POST", f"{self.prefix}/batches/b1/cancel", self.cancel),
        )

    def upload(self, request: Request) -> Script:
        fields: dict[str, bytes] = {}
        form, name = Multipart(boundary_of(request.headers["content-type"])), ""
        for each in form.feed(request.body):
            if isinstance(each, Part):
                name = each.name
                fields[name] = b""
            else:
                fields[name] += each
        form.end()
        assert fields.keys() == {"purpose", "file"}
        assert fields["purpose"] == b"batch"
        for line in fields["file"].splitlines():
            asked = json.loads(line)
            keys = {"custom_id", "body"} | ({"method", "url"} if self.url else set())
            assert asked.keys() == keys
            assert asked.get("url") == self.url
            assert asked["body"]["model"] == "m"
            self.lines[asked["custom_id"]] = asked["body"]["messages"][-1]["content"]
        self.files.add("f1")
        return reply(self.uploaded(len(fields["file"])))

    def delete(self, request: Request, file: str) -> Script:
        assert request.body == b""
        assert self.files, "nothing was uploaded"
        if file in self.keeps:
            return reply({"error": {"message": "cannot be deleted now"}}, 500)
        if file not in self.files:
            return reply({"error": {"message": f"No such File object: {file}"}}, 404)
        self.files.remove(file)
        about = {"id": file, "object": "file", "deleted": True}
        return reply(self.deleted(about).model_dump(mode="json", by_alias=True))

    def uploaded(self, size: int) -> Any:
        about = {"id": "f1", "bytes": size, "created_at": NOW, "filename": "x", "object": "file"}
        return self.file({**about, "purpose": "batch", "status": "processed"}).model_dump(mode="json")

    def create(self, request: Request) -> Script:
        asked = pydantic.TypeAdapter(self.create_params).validate_python(request.json(), strict=True)
        assert asked["input_file_id"] == "f1"
        assert asked["completion_window"] == "24h"
        assert asked["endpoint"] == "/v1/chat/completions"
        if self.refuses:
            return reply({"error": {"message": "no batches for you"}}, self.refuses)
        self.tag = asked["metadata"]["llm_server_batch"]
        self.made += 1
        if self.forgets_to_answer:
            self.forgets_to_answer = False
            return reply(b"{}", 502)
        return reply(self.told("validating"))

    def show(self, _: Request) -> Script:
        ended = "failed" if self.fails else "cancelled" if self.cancelled else "completed"
        return reply(self.told(ended if self.ended else "in_progress"))

    def listing(self, _: Request) -> Script:
        listed = [self.told("in_progress")] if self.made else []
        return reply({"object": "list", "data": listed, "has_more": False})

    def cancel(self, _: Request) -> Script:
        self.cancelled = True
        return reply(self.told("cancelling"))

    def told(self, status: str) -> Any:
        over = status in {"completed", "cancelled"}
        about = {"id": "b1", "object": "batch", "endpoint": "/v1/chat/completions", "input_file_id": "f1"}
        about |= {"completion_window": "24h", "created_at": NOW, "status": status}
        about |= {"metadata": {"llm_server_batch": self.tag}, "request_counts": self.counts(over)}
        if over:
            self.files |= {"out", "err"}
            about |= {"output_file_id": "out", "error_file_id": "err"}
        if status == "failed":
            about |= {"errors": {"object": "list", "data": [{"code": "x", "message": self.fails}]}}
        return self.batch(about).model_dump(mode="json")

    def counts(self, over: bool) -> dict[str, int]:
        done = len(self.answered()) if over else 0
        return {"total": len(self.lines), "completed": done, "failed": 0}

    def content(self, _: Request, which: str) -> Script:
        assert which in self.files
        lines = [self.line(key, text) for key, text in reversed(self.answered().items())]
        chosen = [line for line, failed in lines if failed == (which == "err")]
        if which == "err":
            expired = {"code": "batch_expired", "message": "This request could not be executed"}
            late = (key for key, text in self.lines.items() if text == "late")
            chosen += [{"id": "r", "custom_id": key, "response": None, "error": expired} for key in late]
        return reply(b"".join(json.dumps(line).encode() + b"\n" for line in chosen))

    @staticmethod
    def line(key: str, text: str) -> tuple[Any, bool]:
        if text == "bad":
            error = {"message": "this is bad", "type": "invalid_request_error", "param": None, "code": None}
            response = {"status_code": 400, "request_id": "q", "body": {"error": error}}
            return {"id": "r", "custom_id": key, "response": response, "error": None}, True
        response = {"status_code": 200, "request_id": "q", "body": chat_answer(text)}
        return {"id": "r", "custom_id": key, "response": response, "error": None}, False


class GroqVendor(FileVendor):
    """The same, as Groq's SDK describes it."""

    prefix = "/openai/v1"
    batch = groq.types.BatchCreateResponse.model_validate
    file = groq.types.FileCreateResponse.model_validate
    deleted = groq.types.FileDeleteResponse.model_validate
    create_params = groq.types.BatchCreateParams

    def uploaded(self, size: int) -> Any:
        about = {"id": "f1", "bytes": size, "created_at": NOW, "filename": "x", "object": "file"}
        return self.file({**about, "purpose": "batch"}).model_dump(mode="json")


class MistralVendor(FileVendor):
    """Files, and batch jobs."""

    url = None
    deleted = mistral.DeleteFileResponse.model_validate

    def routes(self) -> tuple[tuple[str, str, Callable[..., Script]], ...]:
        return (
            ("POST", "/v1/files", self.upload),
            ("GET", "/v1/files/(out|err)/content", self.content),
            ("DELETE", "/v1/files/(f1|out|err)", self.delete),
            ("POST", "/v1/batch/jobs", self.create),
            ("GET", "/v1/batch/jobs", self.listing),
            ("GET", "/v1/batch/jobs/b1", self.show),
            ("POST", "/v1/batch/jobs/b1/cancel", self.cancel),
        )

    def uploaded(self, size: int) -> Any:
        about = {"id": "f1", "object": "file", "bytes": size, "created_at": NOW, "filename": "x"}
        about |= {"purpose": "batch", "sample_type": "batch_request", "source": "upload"}
        return mistral.CreateFileResponse.model_validate(about).model_dump(mode="json", by_alias=True)

    def create(self, request: Request) -> Script:
        asked = mistral.CreateBatchJobRequest.model_validate(request.json())
        assert (asked.endpoint, asked.model, asked.input_files) == ("/v1/chat/completions", "m", ["f1"])
        assert isinstance(asked.metadata, dict)
        if self.refuses:
            return reply({"message": "no batches for you"}, self.refuses)
        self.tag = asked.metadata["llm_server_batch"]
        self.made += 1
        if self.forgets_to_answer:
            self.forgets_to_answer = False
            return reply(b"{}", 502)
        return reply(self.told("QUEUED"))

    def show(self, _: Request) -> Script:
        ended = "FAILED" if self.fails else "CANCELLED" if self.cancelled else "SUCCESS"
        return reply(self.told(ended if self.ended else "RUNNING"))

    def listing(self, _: Request) -> Script:
        listed = [self.told("RUNNING")] if self.made else []
        return reply({"object": "list", "data": listed, "total": len(listed)})

    def cancel(self, _: Request) -> Script:
        self.cancelled = True
        return reply(self.told("CANCELLATION_REQUESTED"))

    def told(self, status: str) -> Any:
        over = status in {"SUCCESS", "CANCELLED"}
        done = len(self.answered()) if over else 0
        about: dict[str, Any] = {"id": "b1", "input_files": ["f1"], "endpoint": "/v1/chat/completions"}
        about |= {"errors": [{"message": self.fails}] if self.fails else [], "status": status}
        about |= {"created_at": NOW, "total_requests": len(self.lines), "completed_requests": done}
        about |= {"succeeded_requests": done, "failed_requests": 0, "model": "m"}
        about |= {"metadata": {"llm_server_batch": self.tag}}
        if over:
            self.files |= {"out", "err"}
            about |= {"output_file": "out", "error_file": "err"}
        return mistral.BatchJob.model_validate(about).model_dump(mode="json", by_alias=True)


class AnthropicVendor(Vendor):
    """Message Batches."""

    def routes(self) -> tuple[tuple[str, str, Callable[..., Script]], ...]:
        return (
            ("POST", "/v1/messages/batches", self.create),
            ("GET", "/v1/messages/batches/b1", self.show),
            ("POST", "/v1/messages/batches/b1/cancel", self.cancel),
            ("GET", "/v1/messages/batches/b1/results", self.results),
        )

    def create(self, request: Request) -> Script:
        assert request.headers["anthropic-version"] == "2023-06-01"
        asked = pydantic.TypeAdapter(batch_create_params.BatchCreateParams).validate_python(request.json())
        for each in asked["requests"]:
            assert re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", each["custom_id"])
        for each in request.json()["requests"]:
            assert each["params"]["model"] == "m"
            content = each["params"]["messages"][-1]["content"]
            self.lines[each["custom_id"]] = content if isinstance(content, str) else content[0]["text"]
        self.made += 1
        return reply(self.told("in_progress"))

    def show(self, _: Request) -> Script:
        return reply(self.told("ended" if self.ended else "in_progress"))

    def cancel(self, _: Request) -> Script:
        self.cancelled = True
        return reply(self.told("canceling"))

    def told(self, status: str) -> Any:
        done = len(self.answered()) if status == "ended" else 0
        counts = {"succeeded": done, "errored": 0, "canceled": 0, "expired": 0}
        batch = MessageBatch.model_validate(
            {
                "id": "b1",
                "type": "message_batch",
                "created_at": WHEN,
                "expires_at": WHEN,
                "processing_status": status,
                "request_counts": {**counts, "processing": len(self.lines) - done},
                "results_url": "http://evil.example/steal" if status == "ended" else None,
            }
        )
        return batch.model_dump(mode="json")

    def results(self, request: Request) -> Script:
        assert request.headers["anthropic-version"] == "2023-06-01"
        lines = [self.result(key, text) for key, text in reversed(self.lines.items())]
        made = [MessageBatchIndividualResponse.model_validate(line) for line in lines]
        return reply(b"".join(each.model_dump_json(exclude_none=True).encode() + b"\n" for each in made))

    @staticmethod
    def result(key: str, text: str) -> dict[str, Any]:
        if text == "late":
            return {"custom_id": key, "result": {"type": "expired"}}
        if text == "bad":
            error = {"type": "error", "error": {"type": "invalid_request_error", "message": "this is bad"}}
            return {"custom_id": key, "result": {"type": "errored", "error": {**error, "request_id": "q"}}}
        message = {
            "id": "msg",
            "type": "message",
            "role": "assistant",
            "model": "m",
            "stop_reason": "end_turn",
        }
        message |= {"content": [{"type": "text", "text": f"said: {text}"}], "stop_sequence": None}
        message |= {"usage": {"input_tokens": 3, "output_tokens": 2}}
        return {"custom_id": key, "result": {"type": "succeeded", "message": message}}


class GeminiVendor(Vendor):
    """Inlined batches."""

    def routes(self) -> tuple[tuple[str, str, Callable[..., Script]], ...]:
        return (
            ("POST", "/v1beta/models/m:batchGenerateContent", self.create),
            ("GET", "/v1beta/batches", self.listing),
            ("GET", "/v1beta/batches/b1", self.show),
            ("POST", "/v1beta/batches/b1:cancel", self.cancel),
        )

    def create(self, request: Request) -> Script:
        batch = request.json()["batch"]
        assert batch.keys() == {"displayName", "inputConfig"}
        self.tag = batch["displayName"]
        sample = gemini.InlinedRequest(contents="x", metadata={"key": "k"})
        keys = _InlinedRequest_to_mldev(None, sample).keys()  # type: ignore[arg-type]  # needs no client
        for each in batch["inputConfig"]["requests"]["requests"]:
            assert each.keys() == keys
            contents = pydantic.TypeAdapter(list[gemini.Content]).validate_python(each["request"]["contents"])
            assert contents[-1].parts
            self.lines[each["metadata"]["key"]] = contents[-1].parts[0].text or ""
        self.made += 1
        if self.forgets_to_answer:
            self.forgets_to_answer = False
            return reply(b"{}", 502)
        return reply(self.told("BATCH_STATE_PENDING"))

    def show(self, _: Request) -> Script:
        end = "BATCH_STATE_CANCELLED" if self.cancelled else "BATCH_STATE_SUCCEEDED"
        return reply(self.told(end if self.ended else "BATCH_STATE_RUNNING"))

    def listing(self, _: Request) -> Script:
        return reply({"operations": [self.told("BATCH_STATE_RUNNING")]} if self.made else {})

    def cancel(self, _: Request) -> Script:
        self.cancelled = True
        return reply({})

    def told(self, state: str) -> Any:
        metadata: dict[str, Any] = {"displayName": self.tag, "state": state, "model": "models/m"}
        operation: dict[str, Any] = {"name": "batches/b1", "metadata": metadata}
        if state in {"BATCH_STATE_SUCCEEDED", "BATCH_STATE_CANCELLED"}:
            answers = [self.answer(key, text) for key, text in reversed(self.answered().items())]
            metadata["batchStats"] = {"requestCount": str(len(self.lines))}
            metadata["batchStats"]["successfulRequestCount"] = str(len(answers))
            metadata["output"] = {"inlinedResponses": {"inlinedResponses": answers}}
            operation |= {"done": True, "response": metadata["output"]}
        if self.fails:
            operation |= {"done": True, "error": {"code": 3, "message": self.fails}}
        job = gemini.BatchJob.model_validate(_BatchJob_from_mldev(operation))
        assert job.name == "batches/b1"
        return operation

    @staticmethod
    def answer(key: str, text: str) -> dict[str, Any]:
        if text == "bad":
            return {"error": {"code": 3, "message": "this is bad"}, "metadata": {"key": key}}
        content = {"role": "model", "parts": [{"text": f"said: {text}"}]}
        response = {"candidates": [{"content": content, "finishReason": "STOP"}], "modelVersion": "m"}
        response |= {
            "usageMetadata": {"promptTokenCount": 3, "candidatesTokenCount": 2, "totalTokenCount": 5}
        }
        return {"response": response, "metadata": {"key": key}}


VENDORS: dict[str, Callable[[], Vendor]] = {
    "openai": FileVendor,
    "groq": GroqVendor,
    "mistral": MistralVendor,
    "anthropic": AnthropicVendor,
    "gemini": GeminiVendor,
}
