"""Server-sent events, written and read incrementally.

Follows the WHATWG HTML standard, section 9.2.6 "Interpreting an event stream"
(https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation): lines end with
LF, CRLF or CR, a blank line dispatches, one leading byte order mark is ignored, one space after a field's
colon is dropped.
"""

import re

from msgspec import Struct

from llm_server.contract import ErrorKind, ServerError

MAX_EVENT_BYTES = 8 * 1024 * 1024
"""Default bound on one event: room for an inline image, not for a runaway upstream."""

_BOM = b"\xef\xbb\xbf"
_KINDS = {
    b"event: " + kind.encode(): kind
    for kind in (
        "message_start",
        "content_block_start",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
        "ping",
        "error",
    )
}
"""The lines of the types that streams are full of."""
_LINE_END = re.compile(rb"\r\n|\n|\r")
_BLANK_LINE = re.compile(rb"(?:\r\n|\n|\r(?!\n))(?:\r\n|\n|\r(?!\n))")


class ServerSentEvent(Struct, frozen=True):
    """One event: ``data`` its data lines joined by LF, ``raw`` its exact bytes with the blank line.

    A frame without data (comments, ``id``, ``retry``) has empty ``data``: it means nothing and may be passed
    on or dropped.
    """

    event: str
    data: bytes
    raw: bytes


def frame(data: bytes, event: str = "") -> bytes:
    """Return one event as bytes; ``data`` may have several lines."""
    head = b"event: " + event.encode() + b"\n" if event else b""
    if b"\n" in data or b"\r" in data:
        data = b"\ndata: ".join(_LINE_END.split(data))
    return b"%bdata: %b\n\n" % (head, data)


class Parser:
    """Cuts a byte stream into events, wherever the stream itself is cut.

    The same bytes give the same events however they are divided over :meth:`feed`. A final CR may be half of
    a CRLF, so an event that ends with one waits for the next byte or :meth:`end`.
    """

    def __init__(self, max_event_bytes: int = MAX_EVENT_BYTES) -> None:
        self._max = max_event_bytes
        self._pending = bytearray()
        self._scanned = 0
        self._carriage_returns = False
        self._at_start = True

    def feed(self, data: bytes) -> list[ServerSentEvent]:
        """Return the events that ``data`` completes.

        Raises:
            ServerError: ``UPSTREAM_INVALID`` when one event is larger than the bound.
        """
        if not (self._pending or self._carriage_returns or b"\r" in data) and len(data) <= self._max:
            if 0 <= data.find(b"\n\n") == len(data) - 2:  # the usual read of a stream as it is generated
                return [self._event(data)]
            *frames, rest = data.split(b"\n\n")  # the usual read: whole frames, lines ended with LF
            self._pending += rest
            return [self._event(raw + b"\n\n") for raw in frames]
        self._pending += data
        self._carriage_returns = self._carriage_returns or b"\r" in data
        events, start = [], 0
        while (stop := self._next_end()) >= 0:
            self._check(stop - start)
            events.append(self._event(bytes(self._pending[start:stop])))
            start = self._scanned = stop
        del self._pending[:start]
        self._scanned = max(0, len(self._pending) - 3)  # a blank line is at most four bytes: CR LF CR LF
        self._check(len(self._pending))
        return events

    def end(self) -> list[ServerSentEvent]:
        """Return what the end of the stream completes.

        The standard discards an event without its blank line; one whose last line is complete is given here,
        because some servers close right after their last line.
        """
        rest = bytes(self._pending)
        self._pending.clear()
        return [self._event(rest)] if rest.endswith((b"\n", b"\r")) else []

    def _next_end(self) -> int:
        """Return the position after the next blank line, or -1."""
        if not self._carriage_returns:
            at = self._pending.find(b"\n\n", self._scanned)
            return at + 2 if at >= 0 else -1
        found = _BLANK_LINE.search(self._pending, self._scanned)
        if found is None:
            return -1
        stop = found.end()
        undecided = stop == len(self._pending) and self._pending[-1:] == b"\r"
        return -1 if undecided else stop

    def _check(self, size: int) -> None:
        if size > self._max:
            raise ServerError(
                ErrorKind.UPSTREAM_INVALID,
                "The provider sent a stream event that is too large.",
                detail=f"server-sent event of more than {self._max} bytes",
            )

    def _event(self, raw: bytes) -> ServerSentEvent:
        body = raw.removeprefix(_BOM) if self._at_start else raw
        self._at_start = False
        if not self._carriage_returns and body.endswith(b"\n\n"):
            at, last = body.find(b"\n"), len(body) - 2
            if at == last and body.startswith(b"data: "):
                return ServerSentEvent("", body[6:-2], raw)
            if body.startswith(b"\ndata: ", at) and body.find(b"\n", at + 7) == last:
                kind = _KINDS.get(body[:at])  # one line for the type, one for the data
                if kind is not None:
                    return ServerSentEvent(kind, body[at + 7 : last], raw)
        event, data = b"", []
        for line in _LINE_END.split(body):
            field, _, value = line.partition(b":")
            if field == b"data":
                data.append(value.removeprefix(b" "))
            elif field == b"event":
                event = value.removeprefix(b" ")
        return ServerSentEvent(event.decode(errors="replace"), b"\n".join(data), raw)
