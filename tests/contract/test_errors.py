"""The error registry is complete and consistent."""

import pytest

from llm_server.contract import Again, Block, ErrorKind, Problem, ServerError
from llm_server.contract.errors import RULES


def test_every_kind_has_a_rule() -> None:
    assert set(RULES) == set(ErrorKind)


@pytest.mark.parametrize("kind", ErrorKind)
def test_blocks_agree_with_names_statuses_and_retries(kind: ErrorKind) -> None:
    rule = RULES[kind]
    assert (kind.status, kind.again, kind.block) == rule
    answered = kind is ErrorKind.OUTPUT_INVALID
    assert (answered or kind.name.startswith("UPSTREAM_")) == (rule.block is Block.UPSTREAM)
    if rule.block is Block.CALLER:
        assert 400 <= rule.status < 500
        elsewhere = kind is ErrorKind.MODEL_NOT_FOUND
        assert rule.again is (Again.ELSEWHERE if elsewhere else Again.NEVER)
    if rule.block is Block.UPSTREAM:
        assert kind.retryable
        statuses = {422} if answered else {429, 502, 503, 504}
        assert rule.status in statuses, "our upstream's answer is never the caller's 400 or 401"


def test_an_exhausted_budget_is_not_retried_by_any_sdk() -> None:
    assert ErrorKind.BUDGET_EXCEEDED.status == 402


def test_an_error_says_what_it_is() -> None:
    error = ServerError(ErrorKind.RATE_LIMITED, "Slow down.", param="p", retry_after_s=1.5, detail="bucket 3")
    assert str(error) == "rate_limited: Slow down."
    assert (error.message, error.param, error.retry_after_s, error.detail) == (
        "Slow down.",
        "p",
        1.5,
        "bucket 3",
    )
    assert (error.provider, error.status) == ("", None)


def test_an_error_lists_every_reason_and_the_words_that_they_are_about() -> None:
    error = ServerError(ErrorKind.OUTPUT_INVALID, "Invalid.")
    assert (error.problems, error.raw_text) == ((), None)
    problem = Problem("/age", "minimum", "at least 0", "-1")
    assert error.because([problem], '{"age": -1}') is error
    assert (error.problems, error.raw_text) == ((problem,), '{"age": -1}')
    assert str(problem) == "/age: expected at least 0, found -1 (minimum)"
    assert str(Problem("", "type", "object", "[]")) == "the answer: expected object, found [] (type)"


def test_where_it_happened_is_noted_once_known() -> None:
    error = ServerError(ErrorKind.UPSTREAM_ERROR, "Broken.")
    assert error.at("acme", 500) is error
    assert (error.provider, error.status) == ("acme", 500)
    error.at("acme")
    assert error.status == 500
