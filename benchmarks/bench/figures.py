"""Figures from samples: medians, percentiles, spread, slope."""

import math
from collections.abc import Sequence
from statistics import NormalDist, fmean, median
from typing import NamedTuple


def percentile(values: Sequence[float], share: float) -> float:
    """Return the smallest value that at least ``share`` of all are not above (nearest rank); 0 of nothing."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else 0.0


def spread(values: Sequence[float]) -> float:
    """Return how far the values lie apart, as a share of their median."""
    middle = median(values)
    return (max(values) - min(values)) / middle if middle else 0.0


class Slope(NamedTuple):
    """A straight line through samples: its slope and the half width of its 95 % confidence interval."""

    slope: float
    margin: float

    @property
    def flat(self) -> bool:
        """Whether the samples do not show that the line rises."""
        return self.slope - self.margin <= 0


def slope(xs: Sequence[float], ys: Sequence[float]) -> Slope:
    """Fit by least squares; the margin is 1.96 standard errors, for the many samples that a soak takes.

    Raises ``ValueError`` for fewer than 3 samples or none that differ in ``x``.
    """
    count, x_mean, y_mean = len(xs), fmean(xs), fmean(ys)
    square = sum((x - x_mean) ** 2 for x in xs)
    if count < 3 or not square:
        raise ValueError("a line needs 3 samples at different places")
    rise = sum((x - x_mean) * (y - y_mean) for x, y in zip(xs, ys, strict=True)) / square
    left = sum((y - y_mean - rise * (x - x_mean)) ** 2 for x, y in zip(xs, ys, strict=True))
    return Slope(rise, NormalDist().inv_cdf(0.975) * math.sqrt(left / (count - 2) / square))
