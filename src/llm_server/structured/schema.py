"""Schemas that the rest may trust: well-formed for their draft, bounded, with no way out of the document."""

from collections.abc import Callable, Mapping
from functools import partial
from hashlib import sha256
from typing import Any

import msgspec
from msgspec import Struct

from llm_server.structured.bounds import (
    MAX_BYTES,
    MAX_PATTERNS,
    MAX_SOURCE_BYTES,
    check_bounds,
    check_nesting,
    count_patterns,
    refuse,
)
from llm_server.structured.drafts import METASCHEMAS, Draft, build, candidates, engine
from llm_server.structured.keywords import Path
from llm_server.structured.problems import shortened
from llm_server.structured.references import References
from llm_server.structured.remembering import Recent

ANNOTATIONS = frozenset({"title", "description", "default", "examples", "$comment"})
"""Keywords that constrain nothing, and so cost nothing but their bytes."""


class Schema(Struct, frozen=True, eq=False):
    """A JSON Schema that passed every check of :func:`load`.

    ``canonical`` is its text with sorted keys and no white space, ``id`` the SHA-256 of that in hexadecimal:
    two spellings of one schema have the same. ``value`` is the parsed form and ``document`` knows
    where its references lead; both are shared by all: never change them. ``patterns``: how many it holds.
    """

    canonical: bytes
    id: str
    draft: Draft
    value: dict[str, Any]
    document: References
    patterns: int


def load(source: bytes | Mapping[str, Any]) -> Schema:
    """Return the schema written in ``source``; one that was seen lately costs a hash.

    The draft is that of ``$schema``. Where it is absent or of somebody's own, the newest draft that takes the
    schema counts: older ones are left for what only they say (``items: [...]``, ``exclusiveMinimum: true``).

    Raises:
        ServerError: ``INVALID_REQUEST`` with the pointer of the place at fault in its message and ``param``,
            when the source is no JSON object, no schema of its draft, refers to another document, refers to
            itself without end or passes a limit of :mod:`~llm_server.structured.bounds`.
    """
    text = source if isinstance(source, bytes) else _written(source)
    if len(text) > MAX_SOURCE_BYTES:
        refuse((), f"it has {len(text)} bytes; at most {MAX_SOURCE_BYTES} are taken, descriptions included.")
    return _RECENT.get_or(sha256(text).digest(), lambda: _checked(text), len(text))


_RECENT: Recent[bytes, Schema] = Recent(count=512, weight=4 * 1024 * 1024)
"""Loaded schemas by the hash of their source; a parsed schema takes about ten times its text."""


def _written(source: Mapping[str, Any]) -> bytes:
    try:
        return msgspec.json.encode(source)
    except (TypeError, ValueError) as error:
        refuse((), f"it is not JSON: {error}.")
    except RecursionError:
        refuse((), "it is nested too deep.")


def _checked(text: bytes) -> Schema:
    value = _parsed(text)
    check_nesting(value)
    canonical = msgspec.json.encode(value, order="sorted")
    draft = _draft(value)
    document = References(value, "id" if draft == "4" else "$id")
    if (size := _constraints(document, canonical)) > MAX_BYTES:
        refuse((), f"it has {size} bytes without its descriptions; at most {MAX_BYTES} are taken.")
    check_bounds(document)
    patterns = count_patterns(document)
    if patterns > MAX_PATTERNS:
        refuse((), f"it has {patterns} patterns; at most {MAX_PATTERNS} are taken.")
    if objection := _objection(lambda: build(value, draft, formats=True, patterns=patterns)):
        refuse(*objection)
    return Schema(canonical, sha256(canonical).hexdigest(), draft, value, document, patterns)


def _parsed(text: bytes) -> dict[str, Any]:
    try:
        value = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        refuse((), f"it is not JSON: {error}.")
    except RecursionError:
        refuse((), "it is nested too deep.")
    if not isinstance(value, dict):
        refuse((), "it must be a JSON object.")
    return value


def _constraints(document: References, canonical: bytes) -> int:
    """Return how many of the ``canonical`` bytes are left without the annotations of every schema inside."""
    annotations = (
        {key: place.node[key]} for place in document.places for key in ANNOTATIONS & place.node.keys()
    )
    braces, comma = 2, 1
    return len(canonical) - sum(len(msgspec.json.encode(each)) - braces + comma for each in annotations)


def _draft(value: dict[str, Any]) -> Draft:
    """Return the first draft that takes ``value``; refuse with the objection of the first."""
    objections: list[tuple[Path, str]] = []
    for draft in candidates(value):
        candidate = {**value, "$schema": METASCHEMAS[draft]}
        objection = _objection(partial(engine().meta.validate, candidate))
        if objection is None:
            return draft
        objections.append(objection)
    return refuse(*objections[0])


def _objection(check: Callable[[], object]) -> tuple[Path, str] | None:
    """Return the place and the reason for which ``check`` fails, if it does."""
    try:
        check()
    except engine().ValidationError as error:
        message = error.message.replace('is not a "regex"', "is no regular expression, or too large a one")
        return tuple(error.instance_path), f"{shortened(message)}."
    return None
