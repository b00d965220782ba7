"""Schemas with test instances, as JSONSchemaBench and its MaskBench keep them."""

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from llm_server.contract import ServerError
from llm_server.structured.keywords import is_schema, subschemas
from llm_server.structured.references import References, references
from llm_server.structured.schema import load

Node = dict[str, Any]


class Case(NamedTuple):
    """One schema with instances that it takes and instances that it refuses."""

    name: str
    category: str
    schema: Any
    tests: list[Node]


def read(source: Path, each: int | None = None) -> list[Case]:
    """Read ``*.jsonl[.gz]`` (a case a line) and ``*.json`` (a case each), at most ``each`` of a category."""
    files = [source] if source.is_file() else sorted(source.rglob("*.json*"))
    taken: dict[str, list[Case]] = {}
    for row in (row for file in files for row in _rows(file)):
        category = row["id"].split("---")[0]
        cases = taken.setdefault(category, [])
        if each is None or len(cases) < each:
            cases.append(Case(row["id"], category, row["schema"], row["tests"]))
    return [case for cases in taken.values() for case in cases]


def _rows(file: Path) -> Iterator[Node]:
    if file.suffixes[-2:] == [".jsonl", ".gz"]:
        with gzip.open(file, "rt", encoding="utf-8") as lines:
            yield from map(json.loads, lines)
    elif file.suffix == ".jsonl":
        yield from map(json.loads, file.read_text(encoding="utf-8").splitlines())
    elif file.suffix == ".json":
        yield {"id": file.stem, **json.loads(file.read_text(encoding="utf-8"))}


def ordered(schema: Any, value: Any) -> Any:
    """Return ``value`` with the properties of every object in the order in which ``schema`` names them."""
    try:
        loaded = load(schema)
    except ServerError:
        return value
    return _ordered(value, [loaded.value], loaded.document)


def _ordered(value: Any, nodes: list[Any], document: References) -> Any:
    applied = list(_applied(nodes, document, set()))
    if isinstance(value, list):
        keywords = ("items", "additionalItems", "prefixItems")
        inner = [each for node in applied for path, each in subschemas(node) if path[0] in keywords]
        return [_ordered(each, inner, document) for each in value]
    if not isinstance(value, dict):
        return value
    names = [name for node in applied for name in (*node.get("properties", ()), *node.get("required", ()))]
    keys = [*(name for name in dict.fromkeys(names) if name in value), *value]
    return {key: _ordered(value[key], list(_property(key, applied)), document) for key in keys}


def _applied(nodes: list[Any], document: References, seen: set[int]) -> Iterator[Node]:
    """Yield every schema object that may apply to the same value, in the order in which they stand."""
    for node in nodes:
        if not is_schema(node) or id(node) in seen:
            continue
        seen.add(id(node))
        yield node
        inner = [document.target(each, node) for each in references(node)]
        inner += [each for path, each in subschemas(node) if path[0] in _SAME_VALUE]
        yield from _applied(inner, document, seen)


_SAME_VALUE = ("allOf", "anyOf", "oneOf", "if", "then", "else", "dependentSchemas", "dependencies")


def _property(name: str, nodes: list[Node]) -> Iterator[Any]:
    for node in nodes:
        if name in node.get("properties", ()):
            yield node["properties"][name]
        else:
            yield from node.get("patternProperties", {}).values()
            yield node.get("additionalProperties")
