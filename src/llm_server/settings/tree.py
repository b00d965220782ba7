"""Values that remember where they came from, and how one layer of them lies over another."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

Scalar = str | int | float | None
Path = tuple[str | int, ...]
"""Where a value stands: names of mappings and places in lists, outermost first."""


class Origin(NamedTuple):
    """Where a value was written; ``kind`` is file, environment, flag, discovered or default."""

    kind: str
    place: str = ""
    line: int = 0
    variables: tuple[str, ...] = ()
    """The environment variables that a value of the file is made of."""

    def __str__(self) -> str:
        made_of = f" ({', '.join(f'${{{name}}}' for name in self.variables)})" if self.variables else ""
        return f"{self.kind} {self._where}".rstrip() + made_of

    @property
    def location(self) -> str:
        """How an error names it: ``llm-server.yaml:12``, ``environment LLM_SERVER__SERVER__PORT``."""
        return self._where if self.kind == "file" else str(self)

    @property
    def _where(self) -> str:
        return f"{self.place}:{self.line}" if self.line else self.place


DEFAULT = Origin("default")


@dataclass(frozen=True, slots=True)
class Node:
    """A value of a layer: a scalar, or nodes by name, or nodes in a row."""

    value: "Mapping[str, Node] | tuple[Node, ...] | Scalar" = field(repr=False)  # it may be a secret
    origin: Origin


def overlay(below: Node, above: Node) -> Node:
    """Return both layers as one: mappings are joined name by name; of anything else, ``above`` wins whole."""
    if not isinstance(below.value, Mapping) or not isinstance(above.value, Mapping):
        return above
    joined = dict(below.value)
    for name, node in above.value.items():
        joined[name] = overlay(joined[name], node) if name in joined else node
    return Node(joined, below.origin if below.origin.kind == "file" else above.origin)


def plain(node: Node) -> Any:
    """Return the values alone: dictionaries, lists and scalars."""
    if isinstance(node.value, Mapping):
        return {name: plain(each) for name, each in node.value.items()}
    if isinstance(node.value, tuple):
        return [plain(each) for each in node.value]
    return node.value


def child(node: Node, step: str | int) -> Node | None:
    """Return the node under ``step``, or ``None``."""
    if isinstance(node.value, Mapping):
        return node.value.get(str(step))
    if isinstance(node.value, tuple) and isinstance(step, int) and step < len(node.value):
        return node.value[step]
    return None


def at(root: Node, path: Path) -> Node | None:
    """Return the node at ``path``, or ``None``."""
    node: Node | None = root
    for step in path:
        node = child(node, step) if node else None
    return node


def nearest(root: Node, path: Path) -> Node:
    """Return the deepest node on the way to ``path``: where to look for what is not there."""
    node = root
    for step in path:
        below = child(node, step)
        if below is None:
            break
        node = below
    return node


def written(root: Node, path: Path) -> Path:
    """Return ``path`` as the layers have it: without a setting whose value stands there in its short form.

    ``models.fast.targets[0]`` is ``models.fast[0]`` where ``fast`` is a list.
    """
    node: Node | None = root
    steps: list[str | int] = []
    for step in path:
        if node is not None and isinstance(step, str) and not isinstance(node.value, Mapping):
            continue
        steps.append(step)
        node = child(node, step) if node else None
    return tuple(steps)


def origin(root: Node, path: Path) -> Origin:
    """Return where the value at ``path`` came from: its own origin, or that of the list or scalar around it.

    What stands in no layer is a default.
    """
    found = nearest(root, path)
    written = found is at(root, path) or not isinstance(found.value, Mapping)
    return found.origin if written else DEFAULT


def dotted(path: Path) -> str:
    """Return ``path`` as it is read: ``engine.models[0].name``."""
    text = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)
    return text.removeprefix(".")
