"""Translators of batch APIs: what they ask, and what they make of answers that are odd or broken."""

import json
import re
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from llm_server.contract import ErrorKind, HttpRequest, ServerError
from llm_server.providers.batches import APIS, GARBAGE
from llm_server.providers.dialects.anthropic.batches import Messages
from llm_server.providers.dialects.batches import BatchDialect, BatchResult
from llm_server.providers.dialects.gemini.batches import Inlined
from llm_server.providers.dialects.openai.batches import Files, Jobs
from llm_server.providers.rows import ROWS

ALL = {name: make() for name, make in APIS.items()}
EACH = pytest.mark.parametrize("api", ALL.values(), ids=ALL)
ODD_IDS = ("../x", "a/b", "a?b=c", "a b", "\u00e4", "..", "a#b", "%2e%2e")


def test_every_row_names_an_api_that_exists() -> None:
    named = {row.name: row.batches for row in ROWS.values() if row.batches}
    assert named == {
        "openai": "openai",
        "groq": "openai",
        "mistral": "mistral",
        "anthropic": "anthropic",
        "gemini": "gemini",
    }
    assert set(named.values()) == APIS.keys()


@EACH
@pytest.mark.parametrize("batch_id", ODD_IDS)
def test_an_id_never_changes_the_path(api: BatchDialect, batch_id: str) -> None:
    plain = api.show("batches/x" if isinstance(api, Inlined) else "x").path
    for request in (api.show(batch_id), api.cancel(batch_id)):
        assert "?" not in request.path
        assert "#" not in request.path
        assert ".." not in request.path.split("/") or batch_id == ".."
        assert request.path.count("/") in {plain.count("/"), plain.count("/") + 1}
        assert request.path.isascii()


@EACH
def test_the_files_of_a_batch_are_named_and_their_ids_never_change_the_path(api: BatchDialect) -> None:
    if not api.has_files:
        with pytest.raises(ValueError, match="b"):
            api.files(b"b")
        with pytest.raises(ValueError, match="f"):
            api.remove("f")
        return
    names = {"input_file_id": "in", "output_file_id": "out", "error_file_id": None}
    names |= {"input_files": ["in"], "output_file": "out", "error_file": None}
    assert api.files(json.dumps({"id": "b", "status": "s", **names}).encode()) == ("in", "out")
    assert api.files(b'{"id":"b","status":"s"}') == ()
    for odd in ODD_IDS:
        request = api.remove(odd)
        assert (request.method, request.body, request.headers) == ("DELETE", b"", ())
        assert re.fullmatch(r"files/[A-Za-z0-9._%-]+", request.path)


@EACH
@example(body=b"[" * 100_000)
@given(body=st.binary(max_size=40) | st.sampled_from([b"{}", b"[]", b"null", b'{"id":5}', b'{"name":[]}']))
def test_garbage_is_a_value_error_and_nothing_else(api: BatchDialect, body: bytes) -> None:
    for decode in (api.batch, api.uploaded, api.files, api.results):
        with pytest.raises(GARBAGE):
            decode(body)
    try:
        assert api.result(body) is None
    except GARBAGE:
        assert not isinstance(api, Inlined) or body not in {b"{}", b'{"id":5}'}


@EACH
def test_a_kind_of_request_that_a_batch_cannot_take_is_refused(api: BatchDialect) -> None:
    odd = HttpRequest(path="v1/odd", body=b"{}")
    if isinstance(api, Files):
        assert json.loads(api.line("k", odd))["custom_id"] == "k"
        return
    with pytest.raises(ServerError) as raised:
        api.line("k", odd)
    assert raised.value.kind is ErrorKind.UNSUPPORTED


@pytest.mark.parametrize("api", [Files(), Jobs()], ids=["files", "jobs"])
@pytest.mark.parametrize(
    ("line", "result"),
    [
        (
            {"custom_id": "k", "response": {"status_code": 200, "body": {"a": 1}}, "error": None},
            (200, {"a": 1}),
        ),
        ({"custom_id": "k", "response": {"status_code": 429, "body": {"e": 1}}}, (429, {"e": 1})),
        ({"custom_id": "k", "response": None, "error": {"message": "m"}}, (400, {"error": {"message": "m"}})),
        ({"custom_id": "k", "response": None, "error": {"code": "batch_expired"}}, None),
        ({"custom_id": "k", "response": None, "error": None}, None),
        ({"custom_id": "k"}, None),
    ],
)
def test_lines_of_files_are_read(api: Files, line: Any, result: tuple[int, Any] | None) -> None:
    found = api.result(json.dumps(line).encode())
    assert told(found) == (None if result is None else ("k", *result))


@pytest.mark.parametrize(
    ("result", "told_"),
    [
        ({"type": "succeeded", "message": {"a": 1}}, (200, {"a": 1})),
        ({"type": "errored", "error": {"error": {"type": "overloaded_error"}}}, 529),
        ({"type": "errored", "error": {"error": {"type": "of tomorrow"}}}, 500),
        ({"type": "errored"}, 500),
        ({"type": "canceled"}, None),
        ({"type": "expired"}, None),
        ({"type": "of tomorrow"}, None),
    ],
)
def test_results_of_messages_are_read(result: Any, told_: Any) -> None:
    found = Messages().result(json.dumps({"custom_id": "k", "result": result}).encode())
    if isinstance(told_, int):
        assert found is not None
        assert found.status == told_
    else:
        assert told(found) == (None if told_ is None else ("k", *told_))


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        ({"response": {"candidates": []}, "metadata": {"key": "k"}}, 200),
        ({"error": {"code": 8}, "metadata": {"key": "k"}}, 429),
        ({"error": {"code": 99}, "metadata": {"key": "k"}}, 500),
        ({"error": {}, "metadata": {"key": "k"}}, 500),
        ({"metadata": {"key": "k"}}, None),
    ],
)
def test_inlined_answers_are_read(answer: Any, status: int | None) -> None:
    found = Inlined().result(json.dumps(answer).encode())
    assert (None if found is None else (found.key, found.status)) == (status and ("k", status))


@pytest.mark.parametrize(
    ("state", "ended"),
    [
        ("BATCH_STATE_PENDING", False),
        ("BATCH_STATE_RUNNING", False),
        ("JOB_STATE_QUEUED", False),
        ("", False),
        ("BATCH_STATE_SUCCEEDED", True),
        ("JOB_STATE_SUCCEEDED", True),
        ("JOB_STATE_PARTIALLY_SUCCEEDED", True),
        ("BATCH_STATE_EXPIRED", True),
        ("BATCH_STATE_CANCELLED", True),
        ("BATCH_STATE_FAILED", True),
    ],
)
def test_the_state_of_an_operation_is_read(state: str, ended: bool) -> None:
    stats = {"successfulRequestCount": "7", "failedRequestCount": 2}
    found = Inlined().batch(
        json.dumps({"name": "batches/b", "metadata": {"state": state, "batchStats": stats}}).encode()
    )
    assert (found.id, found.ended, found.completed, found.failed) == ("batches/b", ended, 7, 2)


@pytest.mark.parametrize(
    "operation",
    [
        {"response": {"inlinedResponses": {"inlinedResponses": [{"a": 1}]}}},
        {"metadata": {"output": {"inlinedResponses": {"inlinedResponses": [{"a": 1}]}}}},
    ],
)
def test_answers_are_found_in_either_place(operation: Any) -> None:
    assert Inlined().results(json.dumps({"name": "batches/b", **operation}).encode()) == (b'{"a": 1}',)


def test_an_operation_without_answers_has_none() -> None:
    for more in (
        {},
        {"response": {}},
        {"response": {"inlinedResponses": {}}},
        {"metadata": {"output": None}},
    ):
        assert Inlined().results(json.dumps({"name": "batches/b", **more}).encode()) == ()


def test_results_of_messages_are_never_fetched_from_the_url_that_the_answer_names() -> None:
    batch = {"id": "b", "processing_status": "ended", "results_url": "http://evil.example/x"}
    (request,) = Messages().results(json.dumps(batch).encode())
    assert request.path == "v1/messages/batches/b/results"


def told(result: BatchResult | None) -> tuple[str, int, Any] | None:
    return None if result is None else (result.key, result.status, json.loads(result.body))
