"""``multipart/form-data`` as it arrives: RFC 7578, RFC 2046 section 5.1.

Written for uploads that are stored while they come: nothing is held but the end of a piece, in which a
boundary may have begun, and a part's headers.
"""

import re
from collections.abc import Iterator
from enum import Enum
from typing import NamedTuple
from urllib.parse import unquote

from llm_server.contract import ErrorKind, ServerError

MAX_PARTS = 32
MAX_HEADER_BYTES = 8 * 1024
"""Bytes of one part's headers, and of what stands before the first part and after the last."""
_BOUNDARY = re.compile(r';\s*boundary=(?:"([^"]{1,70})"|([^\s";,]{1,70}))', re.IGNORECASE)
_PARAMETER = re.compile(r';\s*([A-Za-z0-9!#$&+.^_`|~*-]+)=("(?:\\.|[^"\\])*"|[^;"]*)', re.DOTALL)


class Part(NamedTuple):
    """The beginning of a part. ``filename`` is ``None`` for a plain field, else whatever the caller says."""

    name: str
    filename: str | None


class _State(Enum):
    BEFORE = "before"
    BOUNDARY = "boundary"
    HEADERS = "headers"
    BODY = "body"
    AFTER = "after"


def boundary_of(content_type: str) -> bytes:
    """Return the boundary that a content type names; ``INVALID_REQUEST`` if it is no form's."""
    found = _BOUNDARY.search(content_type)
    if not content_type.lower().startswith("multipart/form-data") or found is None:
        raise _invalid("Send the file as multipart/form-data.")
    return (found[1] or found[2]).encode("latin-1", "replace")


class Multipart:
    """Reads one form. What :meth:`feed` yields after a :class:`Part` is its content, cut anywhere."""

    def __init__(self, boundary: bytes) -> None:
        self._mark = b"\r\n--" + boundary
        self._held = b"\r\n"  # the first boundary needs no line break before it
        self._state = _State.BEFORE
        self._parts = 0
        self._around = 0

    def feed(self, data: bytes) -> Iterator[Part | bytes]:
        """Yield what ``data`` completes; ``INVALID_REQUEST`` for what is no form, or too much of one."""
        self._held += data
        while True:
            before = self._state, len(self._held)
            yield from self._step()
            if before == (self._state, len(self._held)):
                return

    def end(self) -> None:
        """Raise ``INVALID_REQUEST`` if the form was cut off."""
        if self._state is not _State.AFTER:
            raise _invalid("The form ends before its last boundary.")

    def _step(self) -> Iterator[Part | bytes]:
        match self._state:
            case _State.BEFORE | _State.BODY:
                yield from self._content()
            case _State.BOUNDARY:
                self._boundary()
            case _State.HEADERS:
                yield from self._headers()
            case _State.AFTER:
                self._ignore(self._held)
                self._held = b""

    def _content(self) -> Iterator[bytes]:
        at = self._held.find(self._mark)
        sure = at if at >= 0 else max(0, len(self._held) - len(self._mark) + 1)
        content, self._held = self._held[:sure], self._held[sure:]
        if self._state is _State.BEFORE:
            self._ignore(content)
        elif content:
            yield content
        if at >= 0:
            self._held = self._held[len(self._mark) :]
            self._state = _State.BOUNDARY

    def _boundary(self) -> None:
        """After a boundary comes a line break, or two dashes after the last one."""
        if self._held.startswith(b"--"):
            self._held, self._state = self._held[2:], _State.AFTER
        elif (at := self._held.find(b"\r\n")) >= 0:
            if self._held[:at].strip(b" \t"):
                raise _invalid("A boundary of the form is followed by something else.")
            self._parts += 1
            if self._parts > MAX_PARTS:
                raise _invalid(f"The form has more than {MAX_PARTS} parts.")
            # The line break stays: a part without headers ends them with it.
            self._held, self._state = self._held[at:], _State.HEADERS
        elif len(self._held) > MAX_HEADER_BYTES:
            raise _invalid("A boundary of the form is followed by something else.")

    def _headers(self) -> Iterator[Part]:
        at = self._held.find(b"\r\n\r\n")
        if at > MAX_HEADER_BYTES or (at < 0 and len(self._held) > MAX_HEADER_BYTES):
            raise _invalid(f"The headers of a part are larger than {MAX_HEADER_BYTES} bytes.")
        if at >= 0:
            head, self._held = self._held[:at], self._held[at + 4 :]
            self._state = _State.BODY
            yield _part(head.decode("utf-8", "replace"))

    def _ignore(self, data: bytes) -> None:
        self._around += len(data)
        if self._around > MAX_HEADER_BYTES:
            raise _invalid("There is too much around the parts of the form.")


def _part(head: str) -> Part:
    lines = (line.partition(":") for line in head.split("\r\n"))
    headers = {name.strip().lower(): value.strip() for name, _, value in lines}
    disposition = headers.get("content-disposition", "")
    found = {name.lower(): _text(value) for name, value in _PARAMETER.findall(disposition)}
    if not disposition.lower().startswith("form-data") or "name" not in found:
        raise _invalid("A part of the form has no name.")
    extended = found.get("filename*", "").rpartition("'")[2]
    return Part(found["name"], unquote(extended) or found.get("filename"))


def _text(value: str) -> str:
    """Return a parameter's value: unquoted, and percent-decoded (RFC 7578, section 2)."""
    if value.startswith('"'):
        value = re.sub(r"\\(.)", r"\1", value[1:-1])
    return unquote(value.strip())


def _invalid(message: str) -> ServerError:
    return ServerError(ErrorKind.INVALID_REQUEST, message, param="file")
