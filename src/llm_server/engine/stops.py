"""Find stop sequences in text that comes in pieces."""


class StopScanner:
    """Passes text on up to the first stop sequence, however it is cut.

    What could still become a stop sequence is held back until it is one or cannot be.
    """

    def __init__(self, stops: tuple[str, ...]) -> None:
        self._stops = tuple(stop for stop in stops if stop)
        self._held = ""
        self.matched = ""
        """The stop sequence that was found; empty until then."""

    def feed(self, text: str) -> str:
        """Return what may be passed on now that ``text`` has come. After a match nothing more may."""
        if not self._stops or self.matched:
            return "" if self.matched else text
        text = self._held + text
        found = [(at, -len(stop), stop) for stop in self._stops if (at := text.find(stop)) >= 0]
        if found:
            at, _, self.matched = min(found)
            self._held = ""
            return text[:at]
        cut = len(text) - max(_overlap(text, stop) for stop in self._stops)
        self._held = text[cut:]
        return text[:cut]

    def end(self) -> str:
        """Return what was held back: the text is over, no stop sequence came of it."""
        held, self._held = self._held, ""
        return held


def _overlap(text: str, stop: str) -> int:
    """Return the length of the longest end of ``text`` that begins ``stop``."""
    longest = min(len(text), len(stop) - 1)
    return next((size for size in range(longest, 0, -1) if stop.startswith(text[-size:])), 0)
