"""The fault matrix as data: what an upstream may do wrong, and what the caller must get of it.

A fault is one row. What it does depends on the vendor, whose own bytes are used, and on whether the answer is
streamed; what comes of it must not depend on any dialect.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from llm_server.contract import ErrorKind
from tests.upstreams.cases import Form, Refusal, load, refusal
from tests.upstreams.script import Close, Head, Idle, Pause, Raw, Reset, Script, cut, garbage_body, play
from tests.upstreams.upstream import Answer

Outcome = Literal["moved on", "broken", "answered"]
"""``moved on``: another attempt answered, unseen; ``broken``: the caller was given content, then an error;
``answered``: there was nothing wrong in the end."""

CASE = "unicode"
"""Long enough to break in the middle, in every vendor's corpus."""


def status(code: int, **headers: str) -> Callable[[str, Form], Answer]:
    """Return what gives a vendor's own overload answer another status and these headers."""

    def made(vendor: str, _: Form) -> Refusal:
        given = refusal(vendor, "server_error")
        kept = {name: value for name, value in given.headers.items() if not name.startswith("retry-after")}
        return replace(given, status=code, headers={**kept, **headers})

    return made


def pieces(vendor: str, form: Form) -> Script:
    """Return the answer in several writes, whole or streamed."""
    case = load(vendor, CASE, form)
    half = len(case.body) // 2
    return play(case) if form == "stream" else play(case, cuts=(half,))


def middle(vendor: str, form: Form) -> int:
    """Return the number of a piece that stands after the first content and before the end."""
    return 1 if form == "whole" else sum(isinstance(s, bytes) for s in pieces(vendor, form).steps) // 2


def broken_at(*steps: Close | Idle | Reset, early: bool) -> Callable[[str, Form], Answer]:
    """Return what ends an answer with these steps: right after the headers, or in its middle."""

    def made(vendor: str, form: Form) -> Script:
        return pieces(vendor, form).until_piece(0 if early else middle(vendor, form), *steps)

    return made


def ended_early(vendor: str, form: Form) -> Answer:
    """Return an answer that ends after its headers: a stream in good order, a whole one before its length."""
    return pieces(vendor, form).until_piece(0, *(() if form == "stream" else (Close(),)))


def garbled(vendor: str, form: Form) -> Answer:
    """Return bytes that are no answer at all, with an answer's headers."""
    return garbage_body(load(vendor, CASE, form))


def garbled_late(vendor: str, form: Form) -> Answer:
    """Return an answer with garbage in its middle."""
    case = load(vendor, CASE, form)
    if form == "whole":
        return garbage_body(case)
    garbage = b'event: x\ndata: {"broken": \n\n'
    return play(case).at_piece(middle(vendor, form), garbage)


def dripping(vendor: str, form: Form) -> Answer:
    """Return a good answer that comes slowly, in pieces that are no frames."""
    case = load(vendor, CASE, form)
    parts = cut(case.body, range(0, len(case.body), max(1, len(case.body) // 20)))
    steps = tuple(step for part in parts for step in (part, Pause(0.005)))
    head = play(case).steps[0]
    return Script((head, *steps))


def trickling(vendor: str, form: Form) -> Answer:
    """Return what keeps a connection alive and never comes to anything."""
    head = play(load(vendor, CASE, form)).steps[0]
    assert isinstance(head, Head)
    blank = b": still there\n\n" if form == "stream" else b"\n"
    return Script((replace(head, length=None), *(step for _ in range(500) for step in (blank, Pause(0.02)))))


def closed(_: str, __: Form) -> Answer:
    """Return nothing: the connection is hung up."""
    return Script((Close(),))


def reset(_: str, __: Form) -> Answer:
    """Return nothing: the connection is reset."""
    return Script((Reset(),))


def alien(_: str, __: Form) -> Answer:
    """Return what is not HTTP."""
    return Script((Raw(b"SSH-2.0-OpenSSH_9.6\r\n"),))


def silent(_: str, __: Form) -> Answer:
    """Return nothing, for ever."""
    return Script((Idle(),))


@dataclass(frozen=True)
class Fault:
    """One row of the matrix.

    Attributes:
        does: what the upstream does, by vendor and form; ``None``: it is not there at all.
        kinds: what the attempt may be said to have ended with.
        whole: what comes of a whole answer.
        stream: what comes of a streamed one.
        again: whether the same target is asked again where there is no other.
    """

    does: Callable[[str, Form], Answer] | None
    kinds: frozenset[ErrorKind]
    whole: Outcome = "moved on"
    stream: Outcome = "moved on"
    again: bool = True

    def outcome(self, form: Form) -> Outcome:
        """Return what must come of it."""
        return self.whole if form == "whole" else self.stream


LIMITED = frozenset({ErrorKind.UPSTREAM_RATE_LIMITED})
OVERLOADED = frozenset({ErrorKind.UPSTREAM_OVERLOADED})
FAILED = frozenset({ErrorKind.UPSTREAM_ERROR})
AWAY = frozenset({ErrorKind.UPSTREAM_UNREACHABLE, ErrorKind.UPSTREAM_TRUNCATED})
LATE = frozenset({ErrorKind.UPSTREAM_TIMEOUT})
CUT = frozenset({ErrorKind.UPSTREAM_TRUNCATED})
INVALID = frozenset({ErrorKind.UPSTREAM_INVALID})
HOLDING = "429 with a long retry-after"
"""It says something of the whole upstream, which is left alone for so long."""
INCOMPLETE = CUT | INVALID
"""A whole answer that ends too soon may be seen as either: HTTP's length is missed, or JSON's end."""

FAULTS: dict[str, Fault] = {
    "refused": Fault(None, frozenset({ErrorKind.UPSTREAM_UNREACHABLE})),
    "hung up": Fault(closed, AWAY),
    "reset": Fault(reset, AWAY),
    "not HTTP": Fault(alien, INVALID | AWAY),
    "429 with a short retry-after": Fault(status(429, **{"retry-after-ms": "20"}), LIMITED),
    HOLDING: Fault(status(429, **{"retry-after": "70"}), LIMITED, again=False),
    "429 without retry-after": Fault(status(429), LIMITED),
    "500": Fault(status(500), FAILED),
    "503": Fault(status(503), OVERLOADED),
    "529": Fault(status(529), OVERLOADED),
    "timeout before headers": Fault(silent, LATE, again=False),
    "timeout before content": Fault(broken_at(Idle(), early=True), LATE, again=False),
    "timeout after content": Fault(broken_at(Idle(), early=False), LATE, stream="broken", again=False),
    "trickle without content": Fault(trickling, LATE, again=False),
    "truncated before content": Fault(ended_early, INCOMPLETE),
    "truncated after content": Fault(broken_at(Close(), early=False), INCOMPLETE, stream="broken"),
    "reset after content": Fault(broken_at(Reset(), early=False), INCOMPLETE, stream="broken"),
    "garbage before content": Fault(garbled, INCOMPLETE),
    "garbage after content": Fault(garbled_late, INVALID, stream="broken"),
    "slow drip": Fault(dripping, frozenset(), whole="answered", stream="answered"),
}
