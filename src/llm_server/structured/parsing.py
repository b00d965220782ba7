"""From the text that a model wrote to a value: strictly, or as leniently as is possible without inventing.

No value is nested deeper than :data:`~.validation.MAX_DEPTH`: jiter ends at 200 levels (its
``DEFAULT_RECURSION_LIMIT``), and what is read leniently is looked at.
"""

import re
from math import isfinite
from typing import Any

import jiter
import msgspec

from llm_server.structured.bounds import deeper
from llm_server.structured.validation import MAX_DEPTH

_FENCE = re.compile(r"```[A-Za-z0-9_-]*[ \t]*\n?(?P<inside>.*?)```", re.DOTALL)
_STRING = re.compile(r'"(?:[^"\\]|\\.)*"', re.DOTALL)
_QUOTES = ('"', "'", "`")
_VAST = re.compile(r"[0-9][eE]\+?0*[1-9][0-9]{2}|[0-9]{300}")
"""Where a number may be that no double holds (the largest is about 1.8e308): readers make it infinite."""
MAX_READ = 2 * 1024 * 1024
"""Most characters of an answer that is read: 128,000 tokens, as much as models write, are a quarter of it."""
MAX_REPAIRED = 256 * 1024
"""Characters up to which a broken text is read leniently: that is slow Python."""


def strict(text: str, *, unique: bool = True) -> Any:
    """Return the JSON value that ``text`` is; white space around it is allowed.

    Without ``unique`` a key may be said twice, and its last value counts, as in ECMAScript's ``JSON.parse``.

    Raises:
        ValueError: it is none (RFC 8259), says a key twice, which readers read differently, has a NaN or a
            number that is too large for a double, or is nested too deeply.
    """
    value = jiter.from_json(text.encode(), allow_inf_nan=False, catch_duplicate_keys=unique)
    return _finite(value) if _VAST.search(text) else value


def partial(text: str) -> Any:
    """Return the value of the beginning of a JSON text, as far as it goes; raises ``ValueError``."""
    value = jiter.from_json(text.encode(), allow_inf_nan=False, partial_mode="trailing-strings")
    return _finite(value) if _VAST.search(text) else value


def written(value: Any) -> str:
    """Return ``value`` as JSON text."""
    return msgspec.json.encode(value).decode()


def lenient(text: str) -> Any:
    """Return the JSON value in ``text``: inside a fence, amid prose, or with the slips that models make.

    Nothing is invented: a text that ends in the middle of a value is not completed.

    Raises:
        ValueError: there is no such value.
    """
    if len(text) > MAX_REPAIRED:
        raise ValueError("too long to be read leniently")
    fences = [found["inside"] for found in _FENCE.finditer(text)]
    body = fences[0] if len(fences) == 1 else text
    starts = [at for mark in "{[" if (at := body.find(mark)) >= 0]
    if not starts or not _is_one_value(body := body[min(starts) :]):
        raise ValueError("no JSON value, or more than one")
    end = max(body.rfind("}"), body.rfind("]")) + 1
    try:
        return strict(body[:end])
    except ValueError:
        return _repaired(body[:end])


def bare(text: str) -> str:
    """Return a short answer without the quotes, fences and white space that models put around it."""
    found = _FENCE.search(text)
    inside = (found["inside"] if found else text).strip()
    quoted = len(inside) > 1 and inside[0] == inside[-1] and inside[0] in _QUOTES
    return inside[1:-1] if quoted else inside


def _repaired(text: str) -> Any:
    import json_repair

    try:
        value = json_repair.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if not isinstance(value, dict | list) or deeper(value, MAX_DEPTH):
        raise ValueError("no JSON value, or one that is nested too deeply")
    written(_finite(value))  # lone surrogates have no UTF-8: a UnicodeEncodeError is a ValueError
    return value


def _finite(value: Any) -> Any:
    """Return ``value``; raises ``ValueError`` for a number in it that is infinite."""
    left = [value]
    while left:
        each = left.pop()
        if isinstance(each, float) and not isfinite(each):
            raise ValueError("a number is too large for a double")
        left += each.values() if isinstance(each, dict) else each if isinstance(each, list) else ()
    return value


def _is_one_value(text: str) -> bool:
    """Whether ``text`` closes all that it opens, once: what is missing, or which of several, none knows."""
    outside = _STRING.sub("", text)
    if outside.count('"') % 2:
        return False
    depth = values = 0
    for mark in outside:
        depth += (mark in "{[") - (mark in "}]")
        values += depth == 0 and mark in "}]"
    return depth == 0 and values == 1
