"""Errors: recorded refusals, a table, and that no body whatever breaks the decoder."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_server.contract import Block, ErrorKind
from llm_server.providers.dialects.cohere import Cohere
from tests.upstreams.cases import Refusal, refusals

DIALECT = Cohere()

EXPECTED = {
    "bad_request": ErrorKind.INVALID_REQUEST,
    "invalid_auth": ErrorKind.UPSTREAM_AUTH,
    "billing": ErrorKind.UPSTREAM_QUOTA,
    "permission": ErrorKind.UPSTREAM_AUTH,
    "model_not_found": ErrorKind.MODEL_NOT_FOUND,
    "context_length": ErrorKind.INVALID_REQUEST,  # only its prose tells it from other bad requests
    "content_policy": ErrorKind.CONTENT_REJECTED,
    "rate_limit": ErrorKind.UPSTREAM_RATE_LIMITED,
    "cancelled": ErrorKind.UPSTREAM_ERROR,
    "server_error": ErrorKind.UPSTREAM_ERROR,
    "overloaded": ErrorKind.UPSTREAM_OVERLOADED,
    "bad_gateway_html": ErrorKind.UPSTREAM_ERROR,
    "gateway_timeout_html": ErrorKind.UPSTREAM_TIMEOUT,
    "empty_body": ErrorKind.UPSTREAM_ERROR,
}


@pytest.mark.parametrize("refusal", refusals("cohere"), ids=lambda refusal: refusal.id)
def test_recorded_refusals(refusal: Refusal) -> None:
    error = DIALECT.decode_error(refusal.status, refusal.headers, refusal.body)
    assert (error.kind, error.status) == (EXPECTED[refusal.name], refusal.status)
    words = json.loads(refusal.body)["message"] if refusal.body.startswith(b"{") else ""
    # What is wrong with the request is for its caller, anything else for the operator.
    assert bool(words and error.message == words) == (error.kind.block is Block.CALLER)


def test_the_delay_before_another_try() -> None:
    assert DIALECT.decode_error(429, {"retry-after": "2"}, b"").retry_after_s == 2
    assert DIALECT.decode_error(429, {}, b"").retry_after_s is None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["message", "id", "data"]), inner),
)


@given(status=st.integers(100, 999), body=st.binary() | JSON.map(lambda value: json.dumps(value).encode()))
def test_no_body_breaks_the_decoder(status: int, body: bytes) -> None:
    assert DIALECT.decode_error(status, {}, body).status == status


def test_no_depth_breaks_the_decoder() -> None:
    assert DIALECT.decode_error(500, {}, b"[" * 100_000).kind is ErrorKind.UPSTREAM_ERROR
