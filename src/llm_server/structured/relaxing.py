"""A schema that asks for less: what no grammar compiler takes is left out, and named."""

from typing import Any

from llm_server.structured.keywords import is_schema, mapped

Node = dict[str, Any]

_UNBUILDABLE = ("(?=", "(?!", "(?<=", "(?<!", "\\b", "\\B", "\\1", "\\2", "\\3", "\\k")
"""Parts of regular expressions that no automaton can follow: lookaround, word boundaries, back references."""


def relaxed(schema: Node) -> tuple[Node, tuple[str, ...]]:
    """Return ``schema`` asking for less, and the keywords that it lost.

    Patterns that no automaton can run are left out, and everything beside a reference: compilers merge the
    two, which never ends where the reference leads back.
    """
    lost: set[str] = set()
    return _Relaxing(lost).node(schema), tuple(sorted(lost))


class _Relaxing:
    def __init__(self, lost: set[str]) -> None:
        self._lost = lost

    def node(self, node: Any) -> Any:
        """Return ``node`` relaxed, with all that is inside."""
        if not is_schema(node):
            return node
        copy = mapped(node, self.node)
        if _unbuildable(copy.get("pattern")):
            del copy["pattern"]
            self._lost.add("pattern")
        self._names(copy)
        self._reference(copy)
        return copy

    def _names(self, node: Node) -> None:
        """Properties named by a pattern without automaton may have any name and any value."""
        patterns = node.get("patternProperties", {})
        if any(_unbuildable(each) for each in patterns):
            node["patternProperties"] = {key: each for key, each in patterns.items() if not _unbuildable(key)}
            node["additionalProperties"] = True
            self._lost.update(("additionalProperties", "patternProperties"))

    def _reference(self, node: Node) -> None:
        beside = node.keys() - {"$ref", "$defs"}
        if "$ref" in node and beside:
            self._lost.update(beside)
            for key in beside:
                del node[key]


def _unbuildable(pattern: Any) -> bool:
    return isinstance(pattern, str) and any(part in pattern for part in _UNBUILDABLE)
