"""Division by largest remainder: the parts are the whole, and fair."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_server.batching.portions import apportion, divided, size, weight
from llm_server.contract import Usage
from tests.batching.upstream import ask

WEIGHTS = st.lists(st.integers(0, 10**6), min_size=1, max_size=70)


@given(st.integers(0, 10**9), WEIGHTS)
def test_the_sum_is_the_total_and_nobody_is_one_off_its_share(total: int, weights: list[int]) -> None:
    parts = apportion(total, weights)
    assert sum(parts) == total
    whole = sum(weights)
    for part, each in zip(parts, weights, strict=True):
        share = Fraction(total * each, whole) if whole else Fraction(total, len(weights))
        assert abs(part - share) < 1


@given(WEIGHTS)
def test_counts_that_add_up_are_left_as_they_are(weights: list[int]) -> None:
    if sum(weights):
        assert apportion(sum(weights), weights) == weights


@given(st.integers(0, 10**6), WEIGHTS)
def test_more_weight_is_never_fewer_tokens(total: int, weights: list[int]) -> None:
    weights = sorted(weights, reverse=True)
    parts = apportion(total, weights)
    assert parts == sorted(parts, reverse=True)


@pytest.mark.parametrize(
    ("total", "weights", "parts"),
    [(10, [1, 1, 1], [4, 3, 3]), (1, [0, 0], [1, 0]), (7, [5], [7]), (0, [3, 4], [0, 0])],
)
def test_known_divisions(total: int, weights: list[int], parts: list[int]) -> None:
    assert apportion(total, weights) == parts


@given(st.lists(st.integers(0, 1000), min_size=5, max_size=5), WEIGHTS)
def test_every_kind_of_token_is_divided(counts: list[int], weights: list[int]) -> None:
    usage = Usage(**dict(zip(Usage.__struct_fields__, counts, strict=True)))
    assert sum(divided(usage, weights), Usage()) == usage


def test_weights_and_sizes() -> None:
    assert weight(ask("", "abcd", "äöü")) == 1 + 2 + 2
    assert weight(ask((1, 2, 3), (4,))) == 4
    assert size(ask("ä", "b")) == 3
    assert size(ask((1, 2))) == 8
