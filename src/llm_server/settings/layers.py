"""The layers beside the file: environment variables and flags of the command line."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from llm_server.settings.problems import Problem
from llm_server.settings.tree import Node, Origin, child, overlay

PREFIX = "LLM_SERVER__"


def environment(env: Mapping[str, str], below: Node) -> tuple[Node, list[Problem]]:
    """Return the layer that ``LLM_SERVER__SECTION__KEY`` variables make, and what is wrong with their names.

    Names are lower-cased; ``MY_PROVIDER`` also means a ``my-Provider`` that ``below`` has.
    A value that starts with ``[`` or ``{`` and is JSON is taken as such, any other as text.
    """
    layer, problems = Node({}, Origin("environment")), []
    for variable in sorted(name for name in env if name.startswith(PREFIX)):
        steps = variable.removeprefix(PREFIX).lower().split("__")
        origin = Origin("environment", variable)
        if all(steps):
            named = _spelled(steps, overlay(below, layer))
            layer = overlay(layer, _nested(named, from_json(_value(env[variable]), origin)))
        else:
            problems.append(Problem(origin, (), "should be LLM_SERVER__SECTION__KEY"))
    return layer, problems


def flags(given: Mapping[str, tuple[str, Any]]) -> Node:
    """Return the layer of ``given`` flags: dotted path to the flag's name and its value."""
    layer = Node({}, Origin("flag"))
    for path, (name, value) in given.items():
        layer = overlay(layer, _nested(path.split("."), from_json(value, Origin("flag", name))))
    return layer


def from_json(value: Any, origin: Origin) -> Node:
    """Return ``value`` (dictionaries, lists, scalars) as nodes that all come from ``origin``."""
    if isinstance(value, Mapping):
        return Node({str(name): from_json(each, origin) for name, each in value.items()}, origin)
    if isinstance(value, list | tuple):
        return Node(tuple(from_json(each, origin) for each in value), origin)
    return Node(value, origin)


def _nested(steps: Iterable[str], node: Node) -> Node:
    for step in reversed(list(steps)):
        node = Node({step: node}, node.origin)
    return node


def _spelled(steps: Iterable[str], root: Node) -> list[str]:
    """Return ``steps`` as the mappings of ``root`` spell them, where they have them."""
    node: Node | None = root
    spelled = []
    for step in steps:
        known = node.value if node and isinstance(node.value, Mapping) else {}
        same = [name for name in known if name.lower().replace("-", "_") == step]
        spelled.append(step if step in known or not same else same[0])
        node = child(node, spelled[-1]) if node else None
    return spelled


def _value(text: str) -> Any:
    if text[:1] in ("[", "{"):
        try:
            return json.loads(text)
        except ValueError:
            return text
    return text
