"""Errors: recorded refusals, a table, and that no body whatever breaks the decoder."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_server.contract import Block, ErrorKind
from llm_server.providers.dialects.gemini import Gemini
from llm_server.providers.dialects.gemini.errors import in_band
from tests.upstreams.cases import Refusal, refusals

DIALECT = Gemini()

EXPECTED = {
    "bad_request": ErrorKind.INVALID_REQUEST,
    "invalid_auth": ErrorKind.UPSTREAM_AUTH,
    "missing_auth": ErrorKind.UPSTREAM_AUTH,
    "permission": ErrorKind.UPSTREAM_AUTH,
    "region": ErrorKind.UPSTREAM_AUTH,
    "model_not_found": ErrorKind.MODEL_NOT_FOUND,
    "context_length": ErrorKind.INVALID_REQUEST,  # only its prose tells it from other bad requests
    "rate_limit": ErrorKind.UPSTREAM_RATE_LIMITED,
    "server_error": ErrorKind.UPSTREAM_ERROR,
    "overloaded": ErrorKind.UPSTREAM_OVERLOADED,
    "deadline": ErrorKind.UPSTREAM_TIMEOUT,
    "bad_gateway_html": ErrorKind.UPSTREAM_ERROR,
    "gateway_timeout_html": ErrorKind.UPSTREAM_TIMEOUT,
    "empty_body": ErrorKind.UPSTREAM_ERROR,
}


@pytest.mark.parametrize("refusal", refusals("gemini"), ids=lambda refusal: refusal.id)
def test_recorded_refusals(refusal: Refusal) -> None:
    error = DIALECT.decode_error(refusal.status, refusal.headers, refusal.body)
    assert (error.kind, error.status) == (EXPECTED[refusal.name], refusal.status)
    words = json.loads(refusal.body)["error"]["message"] if refusal.body.startswith(b"{") else ""
    # What is wrong with the request is for its caller, anything else for the operator.
    assert bool(words and error.message == words) == (error.kind.block is Block.CALLER)


def test_the_delay_before_another_try() -> None:
    limited = next(refusal for refusal in refusals("gemini") if refusal.name == "rate_limit")
    assert DIALECT.decode_error(429, {"retry-after": "5"}, limited.body).retry_after_s == 34.4
    assert DIALECT.decode_error(429, {"retry-after": "5"}, b"").retry_after_s == 5
    assert DIALECT.decode_error(429, {"retry-after": "Tue, 24 Nov 2026"}, b"").retry_after_s is None
    assert DIALECT.decode_error(429, {"retry-after": "inf"}, b"").retry_after_s is None


def test_a_list_is_its_first_error() -> None:
    body = b'[{"error":{"code":400,"message":"Bad.","status":"INVALID_ARGUMENT"}},\n{}]'
    error = DIALECT.decode_error(400, {}, body)
    assert (error.kind, error.message) == (ErrorKind.INVALID_REQUEST, "Bad.")


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (401, ErrorKind.UPSTREAM_AUTH),
        (402, ErrorKind.UPSTREAM_QUOTA),
        (408, ErrorKind.UPSTREAM_TIMEOUT),
        (413, ErrorKind.TOO_LARGE),
        (418, ErrorKind.INVALID_REQUEST),
        (302, ErrorKind.UPSTREAM_ERROR),
        (599, ErrorKind.UPSTREAM_ERROR),
    ],
)
def test_statuses_without_a_body(status: int, kind: ErrorKind) -> None:
    assert DIALECT.decode_error(status, {}, b"").kind is kind


def test_an_error_in_a_stream_has_the_kind_of_its_code() -> None:
    assert in_band({"candidates": []}) is None
    assert in_band([]) is None
    for code, kind in ((429, ErrorKind.UPSTREAM_RATE_LIMITED), ("x", ErrorKind.UPSTREAM_ERROR)):
        error = in_band([{"error": {"code": code, "message": "No."}}])
        assert error is not None
        assert (error.kind, error.detail.endswith("No.")) == (kind, True)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner) | st.dictionaries(st.sampled_from(["error", "details", "@type", "reason"]), inner)
    ),
)
ERROR = st.fixed_dictionaries(
    {
        "error": st.fixed_dictionaries(
            {}, optional=dict.fromkeys(("code", "message", "status", "details"), JSON)
        )
    }
)


@given(
    status=st.integers(100, 999),
    body=st.binary() | (JSON | ERROR).map(lambda value: json.dumps(value).encode()),
)
def test_no_body_breaks_the_decoder(status: int, body: bytes) -> None:
    assert DIALECT.decode_error(status, {}, body).status == status
