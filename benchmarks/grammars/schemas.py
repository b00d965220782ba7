"""Schemas with test instances, as JSONSchemaBench and its MaskBench keep them."""

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from llm_server.contract import ServerError
from llm_server.structured.keywords import IN_PLACE, REFERENCES, is_schema, subschemas
from llm_server.structured.references import References
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
    if not isinstance(value, list | dict):
        return value
    applied = list(_applied(nodes, value, document, set()))
    if isinstance(value, list):
        keywords = ("items", "additionalItems", "prefixItems")
        inner = [each for node in applied for path, each in subschemas(node) if path[0] in keywords]
        return [_ordered(each, inner, document) for each in value]
    declared = [name for node in applied for name in node.get("properties", ())]
    required = [name for node in applied for name in node.get("required", ())]
    keys = [*(name for name in dict.fromkeys(declared + required) if name in value), *value]
    return {key: _ordered(value[key], list(_property(key, applied)), document) for key in keys}


def _applied(nodes: list[Any], value: Any, document: References, seen: set[int]) -> Iterator[Node]:
    """Yield every schema object that may apply to ``value``: by its keywords in order, as compilers merge.

    Of alternatives, those come first that declare the most of its properties.
    """
    for node in nodes:
        if not is_schema(node) or id(node) in seen:
            continue
        seen.add(id(node))
        for keyword, each in node.items():
            if keyword == "properties":
                yield {"properties": each}
            inner = _same_value(keyword, each, node, document)
            if keyword in {"anyOf", "oneOf"}:
                inner.sort(key=lambda option: -_declared(option, value, document))
            yield from _applied(inner, value, document, seen)
        yield {key: each for key, each in node.items() if key != "properties"}


def _same_value(keyword: str, value: Any, node: Node, document: References) -> list[Any]:
    if keyword in REFERENCES:
        return [document.target(value, node)]
    if keyword in IN_PLACE:
        return [each for _, each in subschemas({keyword: value})]
    return []


def _declared(option: Any, value: Any, document: References) -> int:
    """Return how many properties of ``value`` an alternative declares."""
    if not isinstance(value, dict):
        return 0
    parts = _applied([option], None, document, set())
    return len({name for part in parts for name in part.get("properties", ()) if name in value})


def _property(name: str, nodes: list[Node]) -> Iterator[Any]:
    yield from (node["properties"][name] for node in nodes if name in node.get("properties", ()))
    for node in nodes:
        yield from node.get("patternProperties", {}).values()
        yield node.get("additionalProperties")
