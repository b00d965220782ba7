"""Counts kept as plain numbers and handed to their metrics now and then.

A counter of ``prometheus_client`` costs a lock and two calls, a histogram also a walk over its buckets: for
every request. Here both cost an addition; whoever scrapes settles what has come together.
"""

from bisect import bisect_left
from collections.abc import Sequence

from prometheus_client import Counter, Gauge, Histogram


class Tally:
    """What is still to be added to one series, of a counter or of a gauge."""

    __slots__ = ("_series", "count")

    def __init__(self, series: Counter | Gauge) -> None:
        self.count = 0
        self._series = series

    def settle(self) -> None:
        """Hand over."""
        count, self.count = self.count, 0
        if count:
            self._series.inc(count)


class Times:
    """What is still to be added to one series of a histogram, whose upper bounds are ``bounds_s``."""

    __slots__ = ("_bounds_s", "_counts", "_series", "_sum_s")

    def __init__(self, series: Histogram, bounds_s: Sequence[float]) -> None:
        self._series = series
        self._bounds_s = tuple(bounds_s)
        self._counts = [0] * (len(bounds_s) + 1)
        self._sum_s = 0.0

    def observe(self, seconds: float) -> None:
        """Note one time; it belongs to the first bucket whose bound it does not pass."""
        self._counts[bisect_left(self._bounds_s, seconds)] += 1
        self._sum_s += seconds

    def settle(self) -> None:
        """Hand over, by writing where the library does: it can only be told one time after the other."""
        counts, self._counts = self._counts, [0] * len(self._counts)
        sum_s, self._sum_s = self._sum_s, 0.0
        if not any(counts):
            return
        series = self._series
        series._sum.inc(sum_s)
        for bucket, count in zip(series._buckets, counts, strict=True):
            if count:
                bucket.inc(count)
