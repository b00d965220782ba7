"""What a local ``$ref`` points at, without ever leaving the document."""

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple
from urllib.parse import unquote

from llm_server.structured.keywords import REFERENCES, Path, is_schema, subschemas

_ANCHORS = ("$anchor", "$dynamicAnchor")


class Place(NamedTuple):
    """One schema object in a document: where it stands, the resource it belongs to, and how deep it is."""

    path: Path
    node: dict[str, Any]
    resource: dict[str, Any]
    depth: int


class References:
    """Every schema object of a document, and where its references lead.

    A subschema with an ``$id`` of its own (``id`` in draft 4) is a resource: references inside it start there
    (JSON Schema 2020-12 core, section 8.2.1). A reference may point outside the usual places, for example to
    ``#/components/schemas/A``: what stands there is a schema too. ``places`` lists all, outer before inner.
    """

    def __init__(self, root: dict[str, Any], identifier: str = "$id") -> None:
        self._root = root
        self._identifier = identifier
        self._resources: dict[int, dict[str, Any]] = {}
        self._anchors: dict[tuple[int, str], dict[str, Any]] = {}
        self._known: dict[tuple[int, str], Any] = {}
        self.places: list[Place] = []
        stack = [Place((), root, root, 1)]
        while stack:
            place = stack.pop()
            if id(place.node) not in self._resources:
                stack += self._enter(place)

    def target(self, reference: str, node: dict[str, Any]) -> Any:
        """Return what ``reference``, standing in ``node``, points at; ``None`` when there is no such place.

        Understands ``#``, ``#/pointer`` and ``#anchor``.
        """
        if not reference.startswith("#"):
            return None
        resource = self._resources.get(id(node), self._root)
        if not reference.startswith("#/") and reference != "#":
            return self._anchors.get((id(resource), unquote(reference[1:])))
        key = id(resource), reference
        if key not in self._known:
            self._known[key] = _followed(resource, _steps(reference[1:]))
        return self._known[key]

    def _enter(self, place: Place) -> Iterator[Place]:
        """Note one place; yield those directly inside it and those that it points at."""
        path, node, resource, depth = place
        name = node.get(self._identifier)
        if isinstance(name, str) and not name.startswith("#"):
            resource = node
        self._resources[id(node)] = resource
        self.places.append(Place(path, node, resource, depth))
        for anchor in self._names(node):
            self._anchors.setdefault((id(resource), anchor), node)
        for reference in references(node):
            target = self.target(reference, node) if reference.startswith("#/") else None
            if is_schema(target):
                yield Place(_steps(reference[1:]), target, resource, 1)
        for steps, each in subschemas(node):
            if is_schema(each):
                yield Place(path + steps, each, resource, depth + 1)

    def _names(self, node: dict[str, Any]) -> Iterator[str]:
        yield from (node[key] for key in _ANCHORS if isinstance(node.get(key), str))
        name = node.get(self._identifier)
        if isinstance(name, str) and name.startswith("#"):
            yield name[1:]


def references(node: dict[str, Any]) -> list[str]:
    """Return every reference that stands directly in ``node``."""
    return [node[key] for key in REFERENCES if key in node and isinstance(node[key], str)]


def _steps(fragment: str) -> tuple[str, ...]:
    """Return the names that a JSON pointer in a URI fragment consists of; RFC 6901, section 6."""
    return tuple(step.replace("~1", "/").replace("~0", "~") for step in unquote(fragment).split("/")[1:])


def _followed(value: Any, names: Iterable[str]) -> Any:
    for name in names:
        if isinstance(value, dict):
            value = value.get(name)
        elif isinstance(value, list) and name.isdecimal() and int(name) < len(value):
            value = value[int(name)]
        else:
            return None
    return value
