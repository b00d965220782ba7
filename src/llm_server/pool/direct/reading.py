"""What the parser of HTTP/1.1 says, written into an answer; what leaves in doubt where it ends is refused."""

from collections.abc import Mapping

import httptools

from llm_server.contract import ServerError
from llm_server.pool.direct.answer import Answer
from llm_server.pool.failures import not_http

BODILESS = frozenset((204, 304))
"""Statuses that no body follows, whatever the headers say (RFC 9112 6.3)."""


MAX_SPELLINGS = 256
"""Sequences of header names that are remembered. An upstream has a few; bound on what a hostile one makes."""
MAX_SPELT = 64
"""Names of such a sequence."""

_SPELT: dict[tuple[bytes, ...], tuple[str, ...]] = {}


def decoded(raw: dict[bytes, bytes]) -> dict[str, str]:
    """Return headers by lower-case name; of names that differ in case only the first counts.

    An upstream writes the same names in the same order with every answer, so that is looked up.
    """
    spelling = tuple(raw)
    names = _SPELT.get(spelling) or _spelt(spelling)
    values = b"\n".join(raw.values()).decode("latin-1").split("\n")
    if len(values) == len(names):
        return dict(zip(names, values, strict=True))
    return {name.decode("latin-1").lower(): raw[name].decode("latin-1") for name in reversed(spelling)}


def _spelt(spelling: tuple[bytes, ...]) -> tuple[str, ...]:
    """Return the names as they are looked up; none if two of them are the same then."""
    names = tuple([name.decode("latin-1").lower() for name in spelling])
    if len(set(names)) != len(names):
        return ()
    if len(names) <= MAX_SPELT and sum(map(len, names)) <= MAX_SPELT * MAX_SPELT:
        if len(_SPELT) >= MAX_SPELLINGS:
            _SPELT.clear()
        _SPELT[spelling] = names
    return names


class Reading:
    """Reads one answer at a time with llhttp, which refuses by itself what is malformed.

    That is: bare line feeds, folded lines, control characters and NUL in headers, space before a colon, a
    repeated or odd ``content-length``, one beside ``transfer-encoding``, chunk sizes that are none.
    """

    __slots__ = (
        "_answer",
        "_delimited",
        "_done",
        "_fault",
        "_feed",
        "_head_bytes",
        "_interim",
        "_keep",
        "_max_header_bytes",
        "_parser",
        "_raw",
        "_stray",
        "_version_known",
        "on_header",
    )

    def __init__(self, max_header_bytes: int) -> None:
        self._max_header_bytes = max_header_bytes
        self._raw: dict[bytes, bytes] = {}
        # Called for every header: a method of the dictionary, for one of ours would cost more than parsing.
        # Of a repeated header the first is kept. Trailers land here too and are cleared away (RFC 9110 6.5).
        self.on_header = self._raw.setdefault
        self._parser = httptools.HttpResponseParser(self)
        self._feed = self._parser.feed_data
        self._answer: Answer | None = None

    def _expect(self, answer: Answer) -> None:
        """Read into ``answer`` from now on."""
        self._answer = answer
        self._raw.clear()
        self._fault: ServerError | None = None
        self._head_bytes = 0
        self._done = False
        """Whether the answer has arrived whole."""
        self._keep = False
        """Whether the peer will take another request."""
        self._stray = False
        """Whether something came that belongs to no request."""
        self._delimited = False
        """Whether only the connection's end ends the body."""
        self._interim = False
        self._version_known = False
        """Whether the head began with the only major version that is taken."""

    def _forget(self) -> None:
        """Let go of the parser, which refers to this object."""
        del self._feed
        del self._parser

    def _read(self, answer: Answer, data: bytes) -> None:
        """Parse ``data``; what is wrong with it is in ``_fault`` and ``_stray`` then."""
        if not answer.status:
            if not self._head_bytes:
                # Else the parser is asked, which takes longer.
                self._version_known = data.startswith(b"HTTP/1.")
            self._head_bytes += len(data)
        try:
            self._feed(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            if not self._done and self._fault is None:
                self._fault = not_http(str(error))
            self._stray = True

    def on_message_begin(self) -> None:
        """Notice a second answer, which nobody asked for."""
        if self._done:
            self._stray = True

    def on_headers_complete(self) -> None:
        """Note status and headers, or why they cannot be taken."""
        answer = self._answer
        if answer is None or self._done:
            return
        parser = self._parser
        status = parser.get_status_code()
        headers = decoded(self._raw)
        self._raw.clear()
        if status < 200 or self._head_bytes > self._max_header_bytes:
            self._unusual(status, headers)
        if not self._version_known and parser.get_http_version() not in {"1.1", "1.0"}:
            self._refuse("a version other than 1.1 and 1.0")
        coding = headers.get("transfer-encoding")
        if coding is None:
            self._delimited = "content-length" not in headers and status not in BODILESS
        elif coding.lower() != "chunked":
            self._refuse("a transfer coding other than chunked")
        if self._interim:
            return
        if answer.bodiless:
            self._done = self._stray = True  # the parser waits for a body: the connection serves no other
        answer.coding = headers.get("content-encoding")
        answer.headers = headers
        answer.status = status

    def on_body(self, body: bytes) -> None:
        """Keep a part of the body."""
        answer = self._answer
        if answer is None or self._done:
            self._stray = True
            return
        answer.pieces.append(body)
        answer.buffered += len(body)

    def on_message_complete(self) -> None:
        """Note the end of an answer, unless it was an interim one (RFC 9110 15.2)."""
        if self._interim:
            self._interim = False
        elif not self._done:
            self._done = True
            self._keep = self._parser.should_keep_alive()

    def _unusual(self, status: int, headers: Mapping[str, str]) -> None:
        """Look at a head that is interim, or longer than one should be as far as could be told."""
        if status == 101:
            self._refuse("it switched protocols (101), which was not asked for")
        elif status < 100:
            self._refuse(f"status {status}")
        size = sum(len(name) + len(value) + 4 for name, value in headers.items())
        if size > self._max_header_bytes:
            self._refuse(f"more than {self._max_header_bytes} bytes of headers")
        self._interim = status < 200
        self._version_known = False  # of the head that follows

    def _refuse(self, why: str) -> None:
        self._fault = self._fault or not_http(why)
