"""Rewrite a schema into the subset that a model's own schema mode takes, and take its answers back out.

Rewriting may narrow (an object is closed) or widen (a keyword is dropped, which is told), never mislead:
whatever comes back is checked against the schema as it was. What the subset cannot express at all, a map with
free keys where every object is closed, is :class:`~.limits.Inexpressible`, and another method is used.
"""

from collections.abc import Callable
from typing import Any

import msgspec
from msgspec import Struct

from llm_server.contract import SchemaRules
from llm_server.structured.limits import check_limits
from llm_server.structured.restoring import Restorer
from llm_server.structured.rewriter import MARK, WRAPPED, Rewriter, is_object, wrapper
from llm_server.structured.schema import Schema

Node = dict[str, Any]


class Rewritten(Struct, frozen=True):
    """A schema as it is sent, and the way back.

    ``dropped`` names the keywords that the sent one no longer says. ``unwrap`` turns an answer to the sent
    schema into one to the original; it is the identity where ``direct``, so that the model's text is the
    answer's. ``unchanged``: the sent schema is the original.
    """

    schema: Node
    dropped: tuple[str, ...]
    unwrap: Callable[[Any], Any]
    direct: bool
    unchanged: bool
    restorer: Restorer

    @property
    def source(self) -> bytes:
        """The sent schema's bytes."""
        return msgspec.json.encode(self.schema)


def rewrite(schema: Schema, rules: SchemaRules) -> Rewritten:
    """Return ``schema`` as ``rules`` take it.

    Raises:
        Inexpressible: no rewriting within the rules admits the answers that are meant.
    """
    wrapping = rules.root_object and not is_object(schema.value)
    if rules == SchemaRules(root_object=rules.root_object, enforced=rules.enforced):
        return _as_it_is(schema.value, wrapping=wrapping)
    rewriter = Rewriter(schema, rules)
    dispensable: dict[int, frozenset[str]] = {}
    root = _unmarked(rewriter.root(wrapping=wrapping), dispensable)
    check_limits(root, rules)
    restorer = Restorer(root, dispensable, WRAPPED if rewriter.wrapped else "")
    unchanged = root == schema.value
    direct = not rewriter.wrapped and not dispensable
    return Rewritten(root, rewriter.dropped, restorer.whole, direct, unchanged, restorer)


def _as_it_is(root: Node, *, wrapping: bool) -> Rewritten:
    """Wrap at most. Definitions stay at the root; other references into it then start one floor lower."""
    if not wrapping:
        restorer = Restorer(root, {}, "")
        return Rewritten(root, (), restorer.whole, True, True, restorer)
    stays = {key: each for key, each in root.items() if key in _STAYS}
    inner = {key: each for key, each in root.items() if key not in _STAYS and key not in {"$id", "id"}}
    sent = _lowered({**wrapper(inner), **stays})
    restorer = Restorer(sent, {}, WRAPPED)
    return Rewritten(sent, (), restorer.whole, False, False, restorer)


_STAYS = ("$schema", "$defs", "definitions")
"""What of a root stays the root's when the rest becomes a property."""
_DEFINED = ("#/$defs/", "#/definitions/")


def _lowered(value: Any) -> Any:
    """Return ``value`` with every reference into the old root starting at the property that it became."""
    if isinstance(value, list):
        return [_lowered(each) for each in value]
    if not isinstance(value, dict):
        return value
    return {
        key: _moved(each) if key == "$ref" and isinstance(each, str) else _lowered(each)
        for key, each in value.items()
    }


def _moved(reference: str) -> str:
    into = reference == "#" or (reference.startswith("#/") and not reference.startswith(_DEFINED))
    return f"#/properties/{WRAPPED}{reference[1:]}" if into else reference


def _unmarked(value: Any, dispensable: dict[int, frozenset[str]]) -> Any:
    """Return what is sent, and note by an object's identity which of its nulls stand for nothing."""
    if isinstance(value, list):
        return [_unmarked(each, dispensable) for each in value]
    if not isinstance(value, dict):
        return value
    sent = {key: _unmarked(each, dispensable) for key, each in value.items() if key != MARK}
    if MARK in value:
        dispensable[id(sent)] = value[MARK]
    return sent
