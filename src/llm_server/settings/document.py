"""Read a YAML file into nodes that know their line.

Unquoted scalars are read by the core schema of YAML 1.2, as editors do: ``no`` and ``2024-10-21`` are text
(https://yaml.org/spec/1.2.2/#103-core-schema). Anchors and aliases work; merge keys and other tags do not.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path as FilePath
from typing import Any

import yaml

from llm_server.settings.interpolation import InterpolationError, interpolate
from llm_server.settings.problems import Problem, SettingsError
from llm_server.settings.tree import Node, Origin, Path, Scalar

MAX_BYTES = 1 << 20
MAX_NODES = 20_000
"""Values in a file after its aliases are expanded: a bound against the "billion laughs" attack."""
MAX_DEPTH = 40

_TAG = "tag:yaml.org,2002:"


class _Loader(yaml.SafeLoader):
    """Resolves unquoted scalars by the core schema instead of YAML 1.1."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012  # PyYAML replaces it, per class


for _name, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", list("-+0123456789")),
    ("float", r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", list("-+.0123456789")),
    ("merge", r"<<", ["<"]),
):
    _Loader.add_implicit_resolver(_TAG + _name, re.compile(rf"^(?:{_pattern})$"), _first)

_SCALARS: Mapping[str, Callable[[str], Scalar]] = {
    _TAG + "null": lambda _: None,
    _TAG + "bool": lambda text: text.lower() == "true",
    _TAG + "int": lambda text: int(text, 0 if text[:2] in ("0o", "0x") else 10),
    _TAG + "float": float,
}


def read(path: FilePath, env: Mapping[str, str]) -> tuple[Node, list[Problem]]:
    """Return the values of a YAML file, variables resolved from ``env``, and what is wrong in it.

    A value with a problem is ``None`` in the result.

    Raises:
        SettingsError: the file is missing, unreadable, too large, or no YAML mapping.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise _unreadable(Origin("file", str(path)), f"cannot be read: {error.strerror}") from error
    if len(data) > MAX_BYTES:
        raise _unreadable(Origin("file", str(path)), f"is larger than {MAX_BYTES} bytes")
    return parse(data, str(path), env)


def parse(data: bytes, name: str, env: Mapping[str, str]) -> tuple[Node, list[Problem]]:
    """Return the values in ``data``, the bytes of a file called ``name``; see :func:`read`."""
    root = _compose(data, name)
    if root is None or root.tag == _TAG + "null":
        return Node({}, Origin("file", name)), []
    if not isinstance(root, yaml.MappingNode):
        line = root.start_mark.line + 1
        raise _unreadable(Origin("file", name, line), "should be a mapping of names to values")
    reader = _Reader(name, env)
    return Node(dict(reader.entries(root, ())), Origin("file", name)), reader.problems


def _compose(data: bytes, name: str) -> yaml.Node | None:
    try:
        root: yaml.Node | None = yaml.compose(data, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        origin = Origin("file", name, mark.line + 1 if mark else 0)
        raise _unreadable(origin, f"is not valid YAML: {error.problem or error.context}") from error
    except yaml.YAMLError as error:  # the reader's: bytes that are no text
        raise _unreadable(Origin("file", name), f"is not valid YAML: {error}".splitlines()[0]) from error
    except RecursionError as error:
        raise _unreadable(Origin("file", name), "is nested too deeply") from error
    return root


def _unreadable(origin: Origin, words: str) -> SettingsError:
    return SettingsError([Problem(origin, (), words)])


class _Reader:
    """Turns composed YAML into nodes and collects what is wrong."""

    def __init__(self, name: str, env: Mapping[str, str]) -> None:
        self.problems: list[Problem] = []
        self._name = name
        self._env = env
        self._left = MAX_NODES

    def entries(self, node: yaml.MappingNode, path: Path) -> Iterator[tuple[str, Node]]:
        """Yield what stands in a mapping, with the line of each name as origin."""
        lines: dict[str, int] = {}
        for key, value in node.value:
            origin, name = self._at(key), str(key.value)
            if not isinstance(key, yaml.ScalarNode):
                self._wrong(origin, path, "has a name that is a list or a mapping")
            elif key.tag == _TAG + "merge":
                self._wrong(origin, path, "has a merge key (<<): write the values out instead")
            elif name in lines:
                self._wrong(origin, (*path, name), f"is written twice, first in line {lines[name]}")
            else:
                lines[name] = origin.line
                yield name, self._node(value, origin, (*path, name))

    def _node(self, node: yaml.Node, origin: Origin, path: Path) -> Node:
        self._left -= 1
        if self._left < 0:
            raise _unreadable(origin, f"holds more than {MAX_NODES} values")
        if len(path) > MAX_DEPTH:
            raise _unreadable(origin, "is nested too deeply")
        if isinstance(node, yaml.MappingNode):
            return Node(dict(self.entries(node, path)), origin)
        if isinstance(node, yaml.SequenceNode):
            rows = enumerate(node.value)
            return Node(tuple(self._node(row, self._at(row), (*path, place)) for place, row in rows), origin)
        return self._scalar(node, origin, path)

    def _scalar(self, node: yaml.Node, origin: Origin, path: Path) -> Node:
        try:
            if node.tag in _SCALARS:
                return Node(_SCALARS[node.tag](node.value), origin)
            if node.tag == _TAG + "str":
                text, variables = interpolate(node.value, self._env)
                return Node(text, origin._replace(variables=variables))
        except InterpolationError as error:
            return self._wrong(origin, path, str(error))
        except ValueError:  # a number of thousands of digits, or text after an explicit !!int
            return self._wrong(origin, path, "is not what its tag or its form says")
        return self._wrong(origin, path, f"has the tag {node.tag}, which means nothing here")

    def _wrong(self, origin: Origin, path: Path, words: str) -> Node:
        """Note a problem; nothing stands in for the value."""
        self.problems.append(Problem(origin, path, words))
        return Node(None, origin)

    def _at(self, node: yaml.Node) -> Origin:
        return Origin("file", self._name, node.start_mark.line + 1)
