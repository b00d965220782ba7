"""Percentiles, spreads and slopes against their definitions and the standard library."""

import random
from statistics import linear_regression

import pytest
from bench.figures import Slope, percentile, slope, spread
from hypothesis import given
from hypothesis import strategies as st

VALUES = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=50)


@given(VALUES, st.floats(0.01, 1))
def test_a_percentile_is_the_smallest_value_that_the_share_is_not_above(
    values: list[float], share: float
) -> None:
    found = percentile(values, share)
    assert found in values
    assert sum(each <= found for each in values) >= share * len(values)
    assert sum(each < found for each in values) < share * len(values)


def test_a_percentile_of_nothing_is_nothing() -> None:
    assert percentile([], 0.5) == 0


def test_the_spread_is_a_share_of_the_median() -> None:
    assert spread([9, 10, 12]) == pytest.approx(0.3)
    assert spread([0, 0]) == 0


@given(st.lists(st.tuples(st.integers(0, 1000), st.floats(-1e3, 1e3)), min_size=3, max_size=40))
def test_the_slope_is_that_of_least_squares(samples: list[tuple[int, float]]) -> None:
    xs, ys = [float(x) for x, _ in samples], [y for _, y in samples]
    if len(set(xs)) == 1:
        with pytest.raises(ValueError, match="different places"):
            slope(xs, ys)
        return
    fitted = slope(xs, ys)
    assert fitted.slope == pytest.approx(linear_regression(xs, ys).slope, abs=1e-6)
    assert fitted.margin >= 0


def test_two_samples_make_no_line() -> None:
    with pytest.raises(ValueError, match="3 samples"):
        slope([1, 2], [1, 2])


@pytest.mark.parametrize(("rise", "flat"), [(0.0, True), (0.5, False), (-0.5, True)])
def test_a_rise_is_seen_through_noise(rise: float, flat: bool) -> None:
    chance = random.Random(7)
    xs = [float(place) for place in range(400)]
    fitted = slope(xs, [rise * x + chance.gauss(0, 10) for x in xs])
    assert abs(fitted.slope - rise) <= 2 * fitted.margin
    assert fitted.flat is flat


def test_a_line_without_noise_has_no_margin() -> None:
    fitted = slope([0, 1, 2, 3], [1, 3, 5, 7])
    assert fitted == Slope(pytest.approx(2), pytest.approx(0, abs=1e-9))
