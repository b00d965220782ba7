"""How many requests an upstream can take at once, learnt from how fast its answers begin."""

from math import isqrt

WINDOW = 50
"""Observations that are judged together, by their median: Envoy measures its ``minRTT`` over 50 requests and
samples the p50 (envoy.filters.http.adaptive_concurrency)."""
LOWER, UPPER = 18, 31
"""Places, from 0, of the window's times between which the true median lies in 19 of 20 cases, whatever their
distribution (the sign test's interval: binomial, n = 50, p = 1/2)."""
BUFFER = 1.25
"""While the median is at most so many times the usual one, the limit grows: Envoy's ``buffer``, 25 %."""
TOLERANCE = 1.5
"""From so many times on it is a sign of a queue: ``rttTolerance`` of Netflix' Gradient2Limit."""
CUT, DEEPEST, SETTLED = 0.6, 0.5, 0.8
"""Shares of the limit that may be left after a cut because of latency: less than 1 / TOLERANCE, so that the
queue that made it is gone, and not less than Gradient2Limit's smallest gradient; and what is left in the end
if that was enough, since the capacity lies between."""
LATE, BETWEEN = 1 / 2, 1 / 20
"""Doubt that a window adds whose median is surely above TOLERANCE, or above BUFFER: two of the former in a
row are enough, and twenty that let nothing grow."""
THROTTLED = 0.7
"""Share that is left when the upstream refuses: multiplicative decrease, CUBIC's beta (RFC 9438, 4.6)."""
HELPED = 0.8
"""A cut has helped when the median fell below this share of what it was: halfway between 1 and CUT."""
FALLING, RISING, LOADED = 0.05, 0.1, 0.02
"""Weights of a new median in the usual one: of a lower one, a higher one, and a higher one under load."""


class AdaptiveLimit:
    """Additive increase, multiplicative decrease (RFC 5681, section 3.1) on the time to the first byte.

    While at least half of the limit is in use and answers begin as fast as usual, the limit grows by its
    square root for each window (the headroom of Envoy's gradient controller). When the upstream refuses (429,
    503) it is cut, at most once for the requests that were under way together.

    When in two windows answers begin :data:`TOLERANCE` times later than usual the limit is cut *on trial*, by
    the gradient usual / now within bounds, and the next window, of requests sent after the cut, tells whether
    the load was the cause: if they begin sooner most of the cut stays (or another follows while they still
    begin late), if not (a slower model, longer prompts, another tenant) the limit is put back and what is
    seen is the usual from then on. What is usual is not known when the first window is under load already;
    then cuts go on until one does not help. This is what Envoy's and brpc's recurring measurement at a low
    concurrency is for (github.com/apache/brpc, docs/en/auto_concurrency_limiter.md), without its regular
    price, and it is why neither noise nor a slow upstream can walk the limit down to its floor.

    Only the first byte of the *body of a stream* is an observation. A whole answer comes when its last token
    is made, so its time tells of the answer's length; and servers send the headers of a stream before they
    have started on it. Whole answers that succeed let the limit grow, and refusals cut it.

    Args:
        initial: where to start.
        floor: never below.
        ceiling: never above, ``floor`` and ``initial`` included.

    Attributes:
        limit: requests at once.
        usual_s: median time to the first byte when the upstream has no queue, 0 until known.
    """

    __slots__ = (
        "_before",
        "_ceiling",
        "_doubt",
        "_floor",
        "_good",
        "_peak",
        "_since_s",
        "_slow_s",
        "_sure",
        "_times_s",
        "limit",
        "usual_s",
    )

    def __init__(self, initial: int, floor: int, ceiling: int) -> None:
        self._ceiling = ceiling
        self._floor = min(floor, ceiling)
        self.limit = max(self._floor, min(initial, ceiling))
        self.usual_s = 0.0
        self._times_s: list[float] = []
        self._good = 0
        self._peak = 0
        self._since_s = float("-inf")
        self._before: int | None = None
        self._slow_s = 0.0
        self._sure = False
        self._doubt = 0.0

    def began(self, sent_s: float, now_s: float, busy: int) -> bool:
        """Note that a stream sent at ``sent_s`` has begun while ``busy`` were under way.

        Return whether the limit changed.
        """
        if sent_s <= self._since_s:
            return False
        self._peak = max(self._peak, busy)
        self._times_s.append(now_s - sent_s)
        if len(self._times_s) < WINDOW:
            return False
        before = self.limit
        self._judge(sorted(self._times_s), now_s)
        self._times_s.clear()
        self._peak = 0
        return self.limit != before

    def succeeded(self, busy: int) -> bool:
        """Note a whole answer that came while ``busy`` were under way; return whether the limit changed."""
        self._good += 1
        if self._good < WINDOW or self._good < self.limit:
            return False
        self._good = 0
        return self._before is None and not self._doubt and self._grow(busy)

    def refused(self, sent_s: float, now_s: float) -> bool:
        """Note that the upstream refused for want of room; return whether the limit changed."""
        if sent_s <= self._since_s:
            return False
        self._before = None
        return self._cut(THROTTLED * self.limit, now_s)

    def _judge(self, times_s: list[float], now_s: float) -> None:
        median_s = times_s[WINDOW // 2]
        if self._before is not None:
            self._conclude(self._before, times_s, now_s)
            return
        loaded = 2 * self._peak >= self.limit
        if not self.usual_s:
            self.usual_s, self._sure = median_s, not loaded
            if loaded:
                self._since_s = now_s  # the first ones found no queue: look at those that come after them
                return
        ratio = median_s / self.usual_s
        if loaded and not self._sure:
            self._try(median_s, now_s)
        elif loaded and ratio > BUFFER:
            self._doubt += LATE if times_s[LOWER] > TOLERANCE * self.usual_s else BETWEEN
            if self._doubt >= 1:
                self._try(median_s, now_s)
        else:
            self._doubt = 0.0
            self.usual_s *= 1 + (ratio - 1) * (FALLING if ratio < 1 else LOADED if loaded else RISING)
            self._grow(self._peak)

    def _try(self, median_s: float, now_s: float) -> None:
        """Cut, to see in the next window whether that helps."""
        before, self._slow_s = self.limit, median_s
        share = max(DEEPEST, min(CUT, self.usual_s / median_s))
        if self._cut(share * min(self.limit, self._peak), now_s):
            self._before = before
        else:
            self.usual_s, self._sure = median_s, True  # at the floor, which is as good as it gets

    def _conclude(self, before: int, times_s: list[float], now_s: float) -> None:
        """Judge the trial that ``before`` was the limit of."""
        self._before, self._doubt = None, 0.0
        median_s = times_s[WINDOW // 2]
        if times_s[UPPER] >= HELPED * self._slow_s:
            self.limit, self.usual_s, self._sure = before, median_s, True
        elif not self._sure or median_s > TOLERANCE * self.usual_s:
            self._try(median_s, now_s)
        else:
            self.limit = max(self.limit, int(SETTLED * before))
            self.usual_s = min(self.usual_s, median_s)

    def _grow(self, busy: int) -> bool:
        if 2 * busy < self.limit or self.limit >= self._ceiling:
            return False
        self.limit = min(self._ceiling, self.limit + max(1, isqrt(self.limit)))
        return True

    def _cut(self, to: float, now_s: float) -> bool:
        before, self.limit = self.limit, max(self._floor, int(to))
        self._since_s = now_s
        self._times_s.clear()
        self._peak = self._good = 0
        return self.limit != before
