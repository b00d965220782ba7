"""A bounded memory of what was made from the same input before."""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from threading import Lock
from typing import Generic, TypeVar

_K = TypeVar("_K", bound=Hashable)
_V = TypeVar("_V")


class Recent(Generic[_K, _V]):
    """The most recently used values: at most ``count`` of them, weighing at most ``weight`` together.

    Weights are in whatever unit the owner counts, usually bytes. Safe to use from several threads; a value is
    made outside the lock: two threads may make the same one, and the later replaces the earlier.
    """

    def __init__(self, count: int, weight: int) -> None:
        self._count = count
        self._weight = weight
        self._held = 0
        self._values: OrderedDict[_K, tuple[_V, int]] = OrderedDict()
        self._lock = Lock()

    def get(self, key: _K) -> _V | None:
        """Return the value of ``key``, now the most recent, or ``None``."""
        with self._lock:
            entry = self._values.get(key)
            if entry is None:
                return None
            self._values.move_to_end(key)
            return entry[0]

    def put(self, key: _K, value: _V, weight: int) -> None:
        """Remember ``value`` unless it alone is too heavy; forget the least recent until the bounds hold."""
        if weight > self._weight:
            return
        with self._lock:
            self._held += weight - self._values.pop(key, (value, 0))[1]
            self._values[key] = (value, weight)
            while len(self._values) > self._count or self._held > self._weight:
                self._held -= self._values.popitem(last=False)[1][1]

    def get_or(self, key: _K, make: Callable[[], _V], weight: int) -> _V:
        """Return the value of ``key``, made by ``make`` when it is not remembered."""
        value = self.get(key)
        if value is None:
            value = make()
            self.put(key, value, weight)
        return value

    def forget(self, key: _K) -> None:
        """Forget the value of ``key``, if it is remembered."""
        with self._lock:
            entry = self._values.pop(key, None)
            self._held -= entry[1] if entry else 0

    def __len__(self) -> int:
        return len(self._values)
