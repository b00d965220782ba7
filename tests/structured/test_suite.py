"""The official JSON-Schema-Test-Suite through loading and validation, as ``docs/structured.md`` tells it."""

import json
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from llm_server.contract import ErrorKind, ServerError
from llm_server.structured.drafts import METASCHEMAS
from llm_server.structured.schema import Schema, load
from llm_server.structured.validation import Validator
from tests.repository.tree import ROOT

SUITE = Path(sys.prefix) / "share" / "json-schema-test-suite"
"""Fetched by ``make test`` (tools/suite.py)."""
DRAFTS = {"draft7": METASCHEMAS["7"], "draft2020-12": METASCHEMAS["2020-12"]}
LEAVES = "leaves the document"


class Group(NamedTuple):
    """One schema of the suite with its tests: data, and whether it is valid."""

    name: str
    schema: dict[str, Any]
    tests: list[dict[str, Any]]


def groups(draft: str, part: str) -> Iterator[Group]:
    """Yield the groups of a part; every schema is made an object that names its draft."""
    folder = SUITE / draft / part.removeprefix("required")
    for file in sorted(folder.glob("*.json")):
        for row in json.loads(file.read_text(encoding="utf-8")):
            schema = row["schema"] if isinstance(row["schema"], dict) else {"allOf": [row["schema"]]}
            schema.setdefault("$schema", DRAFTS[draft])
            yield Group(f"{file.stem}: {row['description']}", schema, row["tests"])


def loaded(group: Group) -> Schema | ServerError:
    try:
        return load(group.schema)
    except ServerError as error:
        return error


def counted(draft: str, part: str) -> tuple[Counter[str], list[str]]:
    """Return how many tests agree, disagree, or ask for other documents; and which disagree."""
    counts: Counter[str] = Counter()
    wrong = []
    for group in groups(draft, part):
        schema = loaded(group)
        if isinstance(schema, ServerError):
            assert schema.kind is ErrorKind.INVALID_REQUEST
            counts["refused" if LEAVES in schema.message else "wrong"] += len(group.tests)
            wrong += [] if LEAVES in schema.message else [f"{group.name}: {schema.message}"]
            continue
        validator = Validator.of(schema, formats=part.endswith("format"))
        for test in group.tests:
            agreed = (not validator.problems(test["data"])) == test["valid"]
            counts["agreed" if agreed else "wrong"] += 1
            wrong += [] if agreed else [f"{group.name}: {test['description']}"]
    return counts, wrong


PARTS = [(draft, part) for draft in DRAFTS for part in ("required", "optional", "optional/format")]


@pytest.mark.parametrize(("draft", "part"), PARTS)
def test_the_documented_results_are_the_real_ones(draft: str, part: str) -> None:
    counts, wrong = counted(draft, part)
    row = f"| {draft} | {part} | {counts['agreed']} | {counts['refused']} | {counts['wrong']} |"
    assert row in (ROOT / "docs" / "structured.md").read_text(encoding="utf-8"), (row, wrong)


@pytest.mark.parametrize("draft", DRAFTS)
def test_every_required_test_agrees_or_asks_for_another_document(draft: str) -> None:
    counts, wrong = counted(draft, "required")
    assert wrong == []
    assert counts["agreed"] > 800
