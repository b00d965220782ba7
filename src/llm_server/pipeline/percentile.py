"""A percentile of the latest values of something."""

SIZE = 256
"""Values kept: the 99th percentile is then that of two or three, the 95th that of a dozen."""
ENOUGH = 20
"""Values below which a percentile says nothing."""
EVERY = 16
"""Values after which it is worked out anew: sorting 256 numbers takes some 10 microseconds."""


class Recent:
    """The last 256 values, for a percentile that follows what changes."""

    __slots__ = ("_count", "_known", "_values")

    def __init__(self) -> None:
        self._values: list[float] = []
        self._count = 0
        self._known: dict[float, float] = {}

    def add(self, value: float) -> None:
        """Note a value."""
        if len(self._values) < SIZE:
            self._values.append(value)
        else:
            self._values[self._count % SIZE] = value
        self._count += 1
        if self._count % EVERY == 0:
            self._known.clear()

    def percentile(self, share: float) -> float | None:
        """Return the value that ``share`` of them do not exceed; ``None`` before there are enough."""
        if self._count < ENOUGH:
            return None
        known = self._known.get(share)
        if known is None:
            ordered = sorted(self._values)
            known = ordered[min(len(ordered) - 1, int(share * len(ordered)))]
            self._known[share] = known
        return known
