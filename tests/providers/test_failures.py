"""Error answers of every form into errors of ours."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import json

from llm_server.contract import Block, Dialect, ErrorKind, ServerError
from llm_server.providers.dialects.anthropic import Anthropic
from llm_server.providers.dialects.failures import MAX_SAID, OURS, kind_of, retry_after_s
from llm_server.providers.dialects.openai import OpenAI
from llm_server.providers.quirks import Quirks

OPENAI, ANTHROPIC = OpenAI(Quirks()), Anthropic()


def refused(body: Any, status: int = 400, dialect: Dialect = OPENAI, **headers: str) -> ServerError:
    raw = body if isinstance(body, bytes) else json.encode(body)
    return dialect.decode_error(status, headers, raw)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (301, ErrorKind.UPSTREAM_ERROR),
        (400, ErrorKind.INVALID_REQUEST),
        (401, ErrorKind.UPSTREAM_AUTH),
        (402, ErrorKind.UPSTREAM_QUOTA),
        (403, ErrorKind.UPSTREAM_AUTH),
        (404, ErrorKind.MODEL_NOT_FOUND),
        (405, ErrorKind.UPSTREAM_ERROR),
        (408, ErrorKind.UPSTREAM_TIMEOUT),
        (413, ErrorKind.TOO_LARGE),
        (418, ErrorKind.INVALID_REQUEST),
        (422, ErrorKind.INVALID_REQUEST),
        (429, ErrorKind.UPSTREAM_RATE_LIMITED),
        (498, ErrorKind.UPSTREAM_OVERLOADED),
        (500, ErrorKind.UPSTREAM_ERROR),
        (502, ErrorKind.UPSTREAM_ERROR),
        (503, ErrorKind.UPSTREAM_OVERLOADED),
        (504, ErrorKind.UPSTREAM_TIMEOUT),
        (524, ErrorKind.UPSTREAM_TIMEOUT),
        (529, ErrorKind.UPSTREAM_OVERLOADED),
    ],
)
@pytest.mark.parametrize("dialect", [OPENAI, ANTHROPIC], ids=["openai", "anthropic"])
@pytest.mark.parametrize("body", [b"", b"<html>no</html>", b"[]", b"null", b"\xff{", b'"x"', b'{"error":7}'])
def test_status_decides_the_kind_whatever_the_body(
    dialect: Dialect, status: int, kind: ErrorKind, body: bytes
) -> None:
    error = refused(body, status, dialect)
    assert (error.kind, error.status) == (kind, status)
    assert error.message
    assert "<html>" not in error.message


def test_every_kind_that_a_status_means_has_words_of_ours_or_the_vendors() -> None:
    for status in range(300, 600):
        kind = kind_of(status)
        assert kind in OURS or kind.block is Block.CALLER


@given(
    st.binary(max_size=60) | st.recursive(st.none() | st.integers() | st.text(), st.lists, max_leaves=5),
    st.integers(300, 599),
)
def test_no_body_breaks_the_reader(body: Any, status: int) -> None:
    for dialect in (OPENAI, ANTHROPIC):
        for wrapped in (
            body,
            {"error": body},
            {"error": {"message": body, "code": body, "type": body, "param": body}},
        ):
            if isinstance(body, bytes) and wrapped is not body:
                continue
            assert isinstance(refused(wrapped, status, dialect), ServerError)


@pytest.mark.parametrize(
    ("code", "status", "kind"),
    [
        ("context_length_exceeded", 400, ErrorKind.CONTEXT_OVERFLOW),
        ("content_filter", 400, ErrorKind.CONTENT_REJECTED),
        ("content_policy_violation", 400, ErrorKind.CONTENT_REJECTED),
        ("invalid_prompt", 400, ErrorKind.CONTENT_REJECTED),
        ("insufficient_quota", 429, ErrorKind.UPSTREAM_QUOTA),
        ("billing_hard_limit_reached", 400, ErrorKind.UPSTREAM_QUOTA),
        ("model_not_found", 403, ErrorKind.MODEL_NOT_FOUND),
        ("invalid_api_key", 400, ErrorKind.UPSTREAM_AUTH),
        ("tool_use_failed", 400, ErrorKind.UPSTREAM_INVALID),
        ("model_not_available", 400, ErrorKind.MODEL_NOT_FOUND),
        ("3051", 400, ErrorKind.CONTEXT_OVERFLOW),
        ("PRECONDITION_FAILED", 412, ErrorKind.UPSTREAM_QUOTA),
        ("server_is_overloaded", 500, ErrorKind.UPSTREAM_OVERLOADED),
        ("never_heard_of", 400, ErrorKind.INVALID_REQUEST),
    ],
)
def test_documented_codes_refine_the_kind(code: str, status: int, kind: ErrorKind) -> None:
    assert refused({"error": {"message": "m", "code": code}}, status).kind is kind


def test_flagged_input_is_rejected_content_whatever_the_status() -> None:
    error = {"message": "m", "code": 403, "metadata": {"reasons": ["x"], "flagged_input": "y"}}
    assert refused({"error": error}, 403).kind is ErrorKind.CONTENT_REJECTED
    assert refused({"error": {**error, "metadata": {"raw": "z"}}}, 403).kind is ErrorKind.UPSTREAM_AUTH


def test_code_inside_azures_inner_error_counts_first() -> None:
    inner = {"code": "ResponsibleAIPolicyViolation", "content_filter_result": {}}
    assert (
        refused({"error": {"code": "400", "message": "m", "innererror": inner}}).kind
        is ErrorKind.CONTENT_REJECTED
    )


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"error": {"message": "Bad x"}}, "Bad x"),
        ([{"error": {"message": "Bad x"}}], "Bad x"),
        ({"error": "Bad x"}, "Bad x"),
        ({"object": "error", "message": "Bad x", "type": "t", "code": 400}, "Bad x"),
        ({"detail": "Bad x"}, "Bad x"),
        ({"detail": [{"loc": ["body", "x"], "msg": "Bad"}]}, '[{"loc":["body","x"],"msg":"Bad"}]'),
        ({"object": "error", "message": {"detail": [{"msg": "Bad"}]}}, '{"detail":[{"msg":"Bad"}]}'),
        ({"error": {"message": "two\r\nlines\x1b[0m"}}, "two \nlines [0m"),
        ({}, "The provider refused the request with status 400."),
    ],
)
def test_what_is_wrong_with_the_request_is_said_in_the_vendors_words(body: Any, message: str) -> None:
    assert refused(body).message == message


def test_vendors_words_are_cut_and_the_field_is_named() -> None:
    error = refused({"error": {"message": "x" * 9999, "param": "messages[0]"}})
    assert (len(error.message), error.param) == (MAX_SAID, "messages[0]")


@pytest.mark.parametrize("status", [401, 429, 500, 503])
def test_what_is_not_the_callers_fault_is_said_in_our_words(status: int) -> None:
    error = refused({"error": {"message": "organization org-1 is over it", "param": "x"}}, status)
    assert "org-1" not in error.message
    assert error.param is None
    assert ("org-1" in error.detail) == (status != 401)


def test_anthropics_codes() -> None:
    body = {
        "error": {
            "type": "rate_limit_error",
            "message": "m",
            "details": {"error_code": "enforced_spend_limit_reached"},
        }
    }
    error = refused(body, 429, ANTHROPIC)
    assert error.kind is ErrorKind.UPSTREAM_QUOTA
    assert "enforced_spend_limit_reached" in error.detail


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, None),
        ({"retry-after": "13"}, 13.0),
        ({"retry-after": "1.5"}, 1.5),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "-1"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after-ms": "644", "retry-after": "1"}, 0.644),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0.0),
        (
            {
                "x-ratelimit-reset-requests": "1s",
                "x-ratelimit-remaining-requests": "9",
                "x-ratelimit-reset-tokens": "6m0s",
                "x-ratelimit-remaining-tokens": "0",
            },
            360.0,
        ),
        ({"x-ratelimit-reset-requests": "1h2m3.5s", "x-ratelimit-reset-tokens": "20ms"}, 0.02),
        ({"x-ratelimit-reset-tokens": "tomorrow"}, None),
        ({"x-ratelimit-reset-tokens": "1s later"}, None),
    ],
)
def test_retry_after(headers: dict[str, str], expected: float | None) -> None:
    assert retry_after_s(headers) == expected
    assert refused({}, 429, **headers).retry_after_s == expected
    assert refused({}, 400, **headers).retry_after_s is None


def test_retry_after_as_a_date_counts_from_now() -> None:
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=100), usegmt=True)
    after = retry_after_s({"retry-after": date})
    assert after is not None
    assert 50 < after <= 100
