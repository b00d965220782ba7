"""What a scripted upstream does to answer one request: a sequence of steps, faults included.

A script is data. ``Head`` sends the status line and headers, ``bytes`` one piece of the body (exactly one
write), and the other steps are what real networks do. A script that runs out ends the response as HTTP says.
"""

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise

from tests.upstreams.cases import Case, Refusal, frames


@dataclass(frozen=True)
class Head:
    """Send status and headers. With ``length`` the body is framed by it, otherwise it is chunked."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    length: int | None = None


@dataclass(frozen=True)
class Hold:
    """Wait until the test sets ``until`` (or the client leaves). ``reached`` is set when the script waits."""

    until: asyncio.Event = field(default_factory=asyncio.Event)
    reached: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass(frozen=True)
class Idle:
    """Send nothing more, for ever: only the client's leaving ends the response."""


@dataclass(frozen=True)
class Pause:
    """Send nothing for so long: a slow upstream, not a way to wait for anything."""

    seconds: float


@dataclass(frozen=True)
class Close:
    """Close the connection in the middle of the response (FIN without the end that HTTP asks for)."""


@dataclass(frozen=True)
class Reset:
    """Abort the connection (RST).

    A kernel may drop bytes that the client has not read yet: put a ``Hold`` in front to be sure that it has.
    """


@dataclass(frozen=True)
class Raw:
    """Write these bytes past all HTTP framing, then close: an answer that is not HTTP."""

    data: bytes


Step = Head | bytes | Hold | Idle | Pause | Close | Reset | Raw
HOP_HEADERS = {"content-length", "transfer-encoding", "connection"}


@dataclass(frozen=True)
class Script:
    """The steps of one response."""

    steps: tuple[Step, ...]

    @property
    def body(self) -> bytes:
        """All body bytes that the script would send, joined."""
        return b"".join(step for step in self.steps if isinstance(step, bytes))

    def before(self, *steps: Step) -> "Script":
        """Return the script with these steps in front: ``Hold`` delays the headers, ``Reset`` refuses."""
        return replace(self, steps=(*steps, *self.steps))

    def after_head(self, *steps: Step) -> "Script":
        """Return the script with these steps between headers and first byte."""
        return self.at_piece(0, *steps)

    def at_piece(self, index: int, *steps: Step) -> "Script":
        """Return the script with these steps before body piece ``index`` (0 is the first)."""
        pieces = [at for at, step in enumerate(self.steps) if isinstance(step, bytes)]
        at = pieces[index] if index < len(pieces) else len(self.steps)
        return replace(self, steps=(*self.steps[:at], *steps, *self.steps[at:]))

    def until_piece(self, index: int, *steps: Step) -> "Script":
        """Return the script cut before body piece ``index``, ending with these steps instead.

        Without steps the response ends cleanly there: an answer that stops without its terminal event.
        """
        pieces = [at for at, step in enumerate(self.steps) if isinstance(step, bytes)]
        return replace(self, steps=(*self.steps[: pieces[index]], *steps))


def play(case: Case | Refusal, *, cuts: Iterable[int] | None = None) -> Script:
    """Return the script that sends a case as its vendor would.

    A stream goes out frame by frame and chunked, a whole answer in one piece with its length. ``cuts`` are
    byte offsets into the body at which to split it instead.
    """
    headers = {name: value for name, value in case.headers.items() if name.lower() not in HOP_HEADERS}
    streamed = isinstance(case, Case) and case.form == "stream"
    length = None if streamed else len(case.body)
    pieces = cut(case.body, cuts) if cuts is not None else frames(case.body) if streamed else (case.body,)
    return Script((Head(case.status, headers, length), *(piece for piece in pieces if piece)))


def cut(body: bytes, cuts: Iterable[int]) -> tuple[bytes, ...]:
    """Split bytes at offsets; offsets outside the body are ignored and order does not matter."""
    bounds = [0, *sorted({at for at in cuts if 0 < at < len(body)}), len(body)]
    return tuple(body[start:stop] for start, stop in pairwise(bounds))


def garbage_body(case: Case | Refusal) -> Script:
    """Return a script that promises the case's headers and sends bytes that are no JSON and no UTF-8."""
    return replace_body(case, b"\xff\xfe{not json\x00" * 3)


def garbage_event(case: Case, *, at: int = 1) -> Script:
    """Return the case's stream with one event of garbage before frame ``at``."""
    return play(case).at_piece(at, b'data: {"broken": \n\n')


def replace_body(case: Case | Refusal, body: bytes) -> Script:
    """Return a script with the case's status and headers and another body."""
    return play(replace(case, body=body), cuts=())
