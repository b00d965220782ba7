"""The corpus keeps its own rules: sources, exact bytes, pairs, and no secret."""

import json
import re

import pytest

from tests.upstreams.cases import BODIES, CORPUS, VENDORS, Case, cases, frames, pairs, refusals

CASES = list(cases())


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_a_case_is_whole_and_names_its_source(case: Case) -> None:
    folder = CORPUS / case.vendor / f"{case.name}.{case.form}"
    files = {path.name for path in folder.iterdir()}
    assert "meta.yaml" in files
    assert len(files & set(BODIES)) == 1
    assert files <= {"meta.yaml", *BODIES}
    assert case.source
    assert case.trust in {"recorded", "documented", "recalled"}
    assert case.path.startswith("/")
    assert case.answer


@pytest.mark.parametrize("case", [case for case in CASES if case.form == "whole"], ids=lambda case: case.id)
def test_a_whole_body_is_json(case: Case) -> None:
    assert case.headers["content-type"].startswith("application/json")
    json.loads(case.body)


@pytest.mark.parametrize("case", [case for case in CASES if case.form == "stream"], ids=lambda case: case.id)
def test_a_stream_is_frames_that_lose_no_byte(case: Case) -> None:
    parts = frames(case.body)
    assert b"".join(parts) == case.body
    assert len(parts) > 1 or case.vendor == "gemini"  # which may tell a short answer in one frame
    case.body.decode()


def test_a_pair_shares_vendor_operation_and_answer() -> None:
    found = list(pairs())
    assert len(found) > 100
    for whole, stream in found:
        assert (whole.operation, whole.status) == (stream.operation, stream.status) == (stream.operation, 200)
        assert whole.answer is stream.answer
        assert (whole.path == stream.path) or whole.vendor == "gemini"


@pytest.mark.parametrize("vendor", VENDORS)
def test_a_refusal_is_no_success_and_names_its_source(vendor: str) -> None:
    for row in refusals(vendor):
        assert row.status >= 400
        assert row.source
        if "json" in row.headers.get("content-type", ""):
            json.loads(row.body)


def test_no_text_holds_a_key() -> None:
    key = re.compile(rb"sk-(?:proj-|ant-)?[A-Za-z0-9]{20}|gsk_[A-Za-z0-9]{20}|AIza[A-Za-z0-9_-]{20}")
    for path in CORPUS.rglob("*"):
        if path.is_file():
            assert not key.search(path.read_bytes()), path
