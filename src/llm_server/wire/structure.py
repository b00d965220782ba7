"""Checks of a body's structure that the decoder of the types does not make, for all of the body.

Readers differ in which of two equal names they take, and this decides who may call what; and what is nested
without end, or is millions of small values, is an attack on whoever reads it, here or behind us.
"""

import re
from array import array
from itertools import accumulate

import jiter

from llm_server.contract import ErrorKind, ServerError

MAX_DEPTH = 64
"""Bound on nested arrays and objects."""
MAX_MEMBERS = 250_000
"""Bound on arrays, objects and their members with names: reading as many takes a tenth of a second or two."""
MAX_VALUES = 1_000_000
"""Bound on values of all kinds; the token ids of the largest embedding requests are some 300,000."""

_JITER_DEPTH = 200
"""What jiter reads nested; it cannot be told another (``DEFAULT_RECURSION_LIMIT`` of its ``value.rs``)."""
_WRAPS = _JITER_DEPTH - MAX_DEPTH + 1
"""Arrays around a body, so that jiter refuses it from :data:`MAX_DEPTH` on. It does not count empty ones, by
which it is one too generous: one more array makes it too strict by one, and what it refuses is looked at."""
_SMALL = 4096
"""Bytes up to which counting brackets costs less than reading the wrapping."""
_LARGE = 512 * 1024
"""Bytes up to which a body cannot hold more than is read in some 50 milliseconds."""

_CROWDED = f"The body has more than {MAX_MEMBERS} arrays, objects and members, or {MAX_VALUES} values."
_DROPPED = bytes(code for code in range(256) if code not in b'[]{}:,"')
_STEPS = bytes.maketrans(b"[{]}", b"\x01\x01\xff\xff")
_DUPLICATE = re.compile(r'Detected duplicate key "(?P<key>.*)" at ', re.DOTALL)
_PLACE = re.compile(r"(?P<what>.*) at line (?P<line>\d+) column (?P<column>\d+)$", re.DOTALL)


def check_structure(body: bytes) -> str:
    """Return why ``body`` is not JSON, empty if it is.

    Raises:
        ServerError: ``INVALID_REQUEST`` for a name that is given twice in one object (``param`` is the name),
            for too much nesting, and for too many values.
    """
    if len(body) > _LARGE and _is_crowded(body):
        raise _invalid(_CROWDED)
    # Splitting counts faster than counting does.
    flat = len(body) <= _SMALL and len(body.split(b"[")) + len(body.split(b"{")) < MAX_DEPTH
    words = _read(body, 0 if flat else _WRAPS)
    if words.startswith("recursion limit exceeded"):
        if _depth(body) > MAX_DEPTH:
            raise _invalid(f"The body is nested more than {MAX_DEPTH} levels deep.")
        words = _read(body, _WRAPS - 1)
    return words


def _read(body: bytes, wraps: int) -> str:
    """Return why ``body``, within ``wraps`` arrays, is not JSON; raises for a name given twice."""
    wrapped = b"%b%b%b" % (b"[" * wraps, body, b"]" * wraps) if wraps else body
    try:
        jiter.from_json(wrapped, catch_duplicate_keys=True, allow_inf_nan=False)
    except ValueError as error:
        words = str(error)
    else:
        return ""
    place = ""
    if found := _PLACE.match(words):
        # What is around the body stands in its first line.
        column = int(found["column"]) - (wraps if found["line"] == "1" else 0)
        place = f" at line {found['line']}, column {max(1, column)}"
    if twice := _DUPLICATE.match(words):
        name = twice["key"][:64]
        raise _invalid(f"{name}: this field is given more than once{place}.", name)
    return f"{found['what'] if found else words}{place}"


def _invalid(message: str, param: str | None = None) -> ServerError:
    return ServerError(ErrorKind.INVALID_REQUEST, message, param=param)


def _is_crowded(body: bytes) -> bool:
    """Whether ``body``, JSON or not, has more values than are read in reasonable time."""
    return _are_many(body.translate(None, _DROPPED)) and _are_many(_outside_strings(body))


def _are_many(marks: bytes) -> bool:
    members = marks.count(b"[") + marks.count(b"{") + marks.count(b":")
    return members > MAX_MEMBERS or marks.count(b",") > MAX_VALUES


def _depth(body: bytes) -> int:
    """Return how many arrays and objects are open at once in ``body``, JSON or not."""
    brackets = _outside_strings(body).translate(_STEPS, b":,")
    return max(accumulate(array("b", brackets)), default=0)


def _outside_strings(body: bytes) -> bytes:
    """Return the marks of ``body`` that are not in strings; runs in C throughout."""
    bare = body.replace(b"\\\\", b"").replace(b'\\"', b"").translate(None, _DROPPED)
    return b"".join(bare.split(b'"')[::2])
