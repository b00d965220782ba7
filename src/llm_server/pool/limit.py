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
NOISE_S = 0.05
"""Seconds that are no sign of anything: so long a busy machine makes this process wait now and then."""
BLIND, DEEPEST = 0.6, 0.5
"""Shares of the limit that may be left after a cut because of latency: while it is not known what is usual,
less than 1 / TOLERANCE, so that the queue that made it is gone; and at least Gradient2Limit's smallest
gradient."""
LATE, BETWEEN = 1 / 2, 1 / 20
"""Doubt that a window adds whose median is surely above TOLERANCE, or above BUFFER: two of the former in a
row are enough, and twenty that let nothing grow."""
HELPED = 0.5
"""Share of the time that a cut should have saved, from which on it has helped."""
THROTTLED = 0.7
"""Share that is left when the upstream refuses: multiplicative decrease, CUBIC's beta (RFC 9438, 4.6)."""
NEAR = 0.9
"""Share that is left instead when it refuses where it did the last time, which is its bound then. Up to there
the limit grows fast, from there on slowly, as CUBIC does around its ``W_max`` (RFC 9438, 4.4): each time
that the bound is found costs a request that is refused."""
FALLING, RISING, LOADED = 0.05, 0.1, 0.02
"""Weights of a new median in the usual one: of a lower one, a higher one, and a higher one under load."""


class AdaptiveLimit:
    """Additive increase, multiplicative decrease (RFC 5681, section 3.1) on the time to the first byte.

    While at least half of the limit is in use and answers begin as fast as usual, the limit grows by its
    square root for each window (the headroom of Envoy's gradient controller). When the upstream refuses (429,
    503) it is cut, at most once for the requests that were under way together.

    When in two windows answers begin :data:`TOLERANCE` times later than usual the limit is cut *on trial*,
    and the next window, of requests sent after the cut, tells whether the load was the cause: if they begin
    sooner the cut stays (and another follows while they still begin late), if not (a slower model, longer
    prompts, another tenant) the limit is put back and what is seen is the usual from then on.

    The cut is a gradient, as Envoy's and Netflix', but of the whole time that a place is held: where answers
    begin ``q`` seconds late and a place is held for ``held_s``, a share ``q / held_s`` of the places waits in
    the upstream's queue (Little's law, 1961), and no more is cut, since the others work. So answers that
    begin a little later and last long cost the limit little, whatever the reason.

    What is usual is not known when the first window is under load already; then cuts go on until one does
    not help. This is what Envoy's and brpc's recurring measurement at a low concurrency is for
    (github.com/apache/brpc, docs/en/auto_concurrency_limiter.md), without its regular price, and it is why
    neither noise nor a slow upstream can walk the limit down to its floor.

    Observations are the first bytes of the *bodies of streams*: servers send the headers of a stream before
    they have started on it. A whole answer comes when its last token is made, so its time tells of the
    answer's length as well; where no streams come, whole answers are the observations all the same, and a
    trial tells lengths from load.

    Args:
        initial: where to start.
        floor: never below.
        ceiling: never above, ``floor`` and ``initial`` included.

    Attributes:
        limit: requests at once.
        usual_s: median time of an observation when the upstream has no queue, 0 until known.
    """

    __slots__ = (
        "_before",
        "_ceiling",
        "_doubt",
        "_due_s",
        "_floor",
        "_good",
        "_peak",
        "_refused_at",
        "_since_s",
        "_skip",
        "_slow_s",
        "_streams",
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
        self._streams = True
        self._good = 0
        self._peak = 0
        self._refused_at = 0
        self._since_s = float("-inf")
        self._skip = 0
        self._before: int | None = None
        self._slow_s = 0.0
        self._due_s = 0.0
        self._sure = False
        self._doubt = 0.0

    def began(self, sent_s: float, now_s: float, busy: int, held_s: float) -> bool:
        """Note that a stream sent at ``sent_s`` has begun while ``busy`` were under way.

        ``held_s`` is the mean time that a request is under way, 0 where not known. Return whether the limit
        changed.
        """
        before = self.limit
        self._good = 0
        if not self._streams:
            self._observe(streams=True)
        self._observed(sent_s, now_s, busy, held_s)
        return self.limit != before

    def succeeded(self, sent_s: float, now_s: float, busy: int, held_s: float) -> bool:
        """Note a whole answer, as :meth:`began` does a stream."""
        before = self.limit
        if not self._streams:
            self._observed(sent_s, now_s, busy, held_s)
        else:
            self._good += 1
            if self._good >= WINDOW:
                self._observe(streams=False)
        return self.limit != before

    def refused(self, sent_s: float, now_s: float) -> bool:
        """Note that the upstream refused for want of room; return whether the limit changed."""
        if sent_s <= self._since_s:
            return False
        self._before = None
        again = 0 < (1 + NEAR) / 2 * self._refused_at <= self.limit
        self._refused_at = self.limit
        return self._cut((NEAR if again else THROTTLED) * self.limit, now_s)

    def _observe(self, *, streams: bool) -> None:
        """Look at streams, or at whole answers, from now on: what was learnt of the others is no measure."""
        self._streams = streams
        self._times_s.clear()
        self._peak = 0
        self.usual_s, self._sure, self._doubt = 0.0, False, 0.0
        if self._before is not None:
            self.limit, self._before = self._before, None

    def _observed(self, sent_s: float, now_s: float, busy: int, held_s: float) -> None:
        if sent_s <= self._since_s:
            return
        if self._skip > 0:
            self._skip -= 1
            return
        self._peak = max(self._peak, busy)
        self._times_s.append(now_s - sent_s)
        if len(self._times_s) >= WINDOW:
            self._judge(sorted(self._times_s), now_s, held_s)
            self._times_s.clear()
            self._peak = 0

    def _judge(self, times_s: list[float], now_s: float, held_s: float) -> None:
        median_s = times_s[WINDOW // 2]
        if self._before is not None:
            self._conclude(self._before, times_s, now_s, held_s)
            return
        loaded = 2 * self._peak >= self.limit
        if not self.usual_s:
            self.usual_s, self._sure = median_s, not loaded
            if loaded:  # the first ones found no queue: look at those that come after them
                self._look_from(now_s, median_s, held_s)
                return
        if loaded and not self._sure:
            self._try(median_s, now_s, held_s)
        elif loaded and median_s > BUFFER * self.usual_s + NOISE_S:
            self._doubt += LATE if self._late(times_s[LOWER]) else BETWEEN
            if self._doubt >= 1:
                self._try(median_s, now_s, held_s)
        else:
            self._doubt = 0.0
            ratio = median_s / self.usual_s
            self.usual_s *= 1 + (ratio - 1) * (FALLING if ratio < 1 else LOADED if loaded else RISING)
            self._grow(self._peak)

    def _late(self, time_s: float) -> bool:
        return time_s > TOLERANCE * self.usual_s + NOISE_S

    def _try(self, median_s: float, now_s: float, held_s: float) -> None:
        """Cut, to see in the next window whether that helps."""
        held_s = max(held_s, median_s)
        share = max(DEEPEST, 1 - (median_s - self.usual_s) / held_s) if self._sure else BLIND
        before, inside = self.limit, min(self.limit, self._peak)
        if self._cut(share * inside, now_s):
            self._look_from(now_s, median_s, held_s)
            self._before, self._slow_s = before, median_s
            # What Little's law promises of the cut, as far as there is so much to be saved.
            self._due_s = held_s * (1 - self.limit / inside)
        else:
            self.usual_s, self._sure = median_s, True  # at the floor, which is as good as it gets

    def _look_from(self, now_s: float, median_s: float, held_s: float) -> None:
        """Look at what is sent from now on, but for a first round of it.

        Of requests that set off together the quick ones come first, and say nothing of the others.
        """
        self._since_s = now_s
        self._skip = int(self.limit * min(1.0, median_s / (held_s or median_s)))

    def _conclude(self, before: int, times_s: list[float], now_s: float, held_s: float) -> None:
        """Judge the trial that ``before`` was the limit of."""
        self._before, self._doubt = None, 0.0
        median_s = times_s[WINDOW // 2]
        if self._slow_s - times_s[UPPER] < HELPED * self._due_s:
            self.limit, self.usual_s, self._sure = before, median_s, True
        elif not self._sure or self._late(median_s):
            self._try(median_s, now_s, held_s)
        else:
            self.usual_s = min(self.usual_s, median_s)

    def _grow(self, busy: int) -> bool:
        if 2 * busy < self.limit or self.limit >= self._ceiling:
            return False
        step = max(1, isqrt(self.limit))
        if self.limit * NEAR > self._refused_at:
            self._refused_at = 0  # it takes more than it did
        else:
            step = max(1, min(step, int(self._refused_at * NEAR) - self.limit))
        self.limit = min(self._ceiling, self.limit + step)
        return True

    def _cut(self, to: float, now_s: float) -> bool:
        before, self.limit = self.limit, max(self._floor, int(to))
        self._since_s = now_s
        self._times_s.clear()
        self._peak = self._good = 0
        return self.limit != before
