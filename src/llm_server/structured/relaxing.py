"""A schema that asks for less: what no grammar compiler takes is left out, and named."""

from collections.abc import Iterable
from typing import Any

from msgspec import Struct

from llm_server.structured.keywords import is_schema, mapped

Node = dict[str, Any]

_UNBUILDABLE = ("(?=", "(?!", "(?<=", "(?<!", "\\b", "\\B", "\\1", "\\2", "\\3", "\\k")
"""Parts of regular expressions that no automaton can follow: lookaround, word boundaries, back references."""
_COUNTS = frozenset({"maxItems", "maxLength", "maxProperties", "minItems", "minLength", "minProperties"})
_BOUNDS = frozenset({"exclusiveMaximum", "exclusiveMinimum", "maximum", "minimum"})
_SPELLED = {**dict.fromkeys(_BOUNDS, (1e-9, 1e15)), "multipleOf": (1e-6, 1e9)}
"""Numbers that llguidance can follow digit by digit lie between these, or are 0."""
MAX_REPEATED = 20_000
"""Most items that all ``minItems`` and ``maxItems`` of a schema may ask for: each becomes a rule."""


class Keeping(Struct, frozen=True):
    """What a relaxed schema keeps: patterns for texts and for names, multiples, counts up to ``repeated``."""

    patterns: bool = True
    names: bool = True
    multiples: bool = True
    repeated: int = MAX_REPEATED


def relaxed(schema: Node, keeping: Keeping) -> tuple[Node, tuple[str, ...]]:
    """Return ``schema`` asking for less, and the keywords that it lost.

    Left out are patterns that no automaton can run, counts and numbers that are too large to be spelled out,
    and everything beside a reference: compilers merge the two, without end where the reference leads back.
    """
    lost: set[str] = set()
    return _Relaxing(lost, keeping).node(schema), tuple(sorted(lost))


class _Relaxing:
    def __init__(self, lost: set[str], keeping: Keeping) -> None:
        self._lost = lost
        self._keeping = keeping

    def node(self, node: Any) -> Any:
        """Return ``node`` relaxed, with all that is inside."""
        if not is_schema(node):
            return node
        copy = mapped(node, self.node)
        self._drop(copy, (key for key in copy if not self._kept(key, copy[key])))
        self._names(copy)
        self._drop(copy, copy.keys() - {"$ref", "$defs"} if "$ref" in copy else ())
        return copy

    def _drop(self, node: Node, keywords: Iterable[str]) -> None:
        for key in list(keywords):
            del node[key]
            self._lost.add(key)

    def _kept(self, keyword: str, value: Any) -> bool:
        if keyword == "pattern":
            return self._keeping.patterns and _buildable(value)
        if keyword == "multipleOf" and not self._keeping.multiples:
            return False
        if keyword in _COUNTS:
            return bool(value <= self._keeping.repeated)
        smallest, largest = _SPELLED.get(keyword, (0, 0))
        return keyword not in _SPELLED or value == 0 or smallest <= abs(value) <= largest

    def _names(self, node: Node) -> None:
        """Properties named by a pattern without automaton may have any name and any value."""
        patterns = node.get("patternProperties", {})
        kept = {key: each for key, each in patterns.items() if self._keeping.names and _buildable(key)}
        if len(kept) < len(patterns):
            node["patternProperties"] = kept
            node["additionalProperties"] = True
            self._lost.update(("additionalProperties", "patternProperties"))


def _buildable(pattern: str) -> bool:
    return not any(part in pattern for part in _UNBUILDABLE)
