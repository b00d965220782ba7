"""The official JSON-Schema-Test-Suite through loading and validation: counted, and told in the documentation.

``python -m tests.structured.suite`` writes the table.
"""

import json
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from llm_server.contract import ErrorKind, ServerError
from llm_server.structured.drafts import METASCHEMAS
from llm_server.structured.schema import Schema, load
from llm_server.structured.validation import Validator

SUITE = Path(sys.prefix) / "share" / "json-schema-test-suite"
"""Fetched by ``make test`` (tools/suite.py)."""
DRAFTS = {"draft7": METASCHEMAS["7"], "draft2020-12": METASCHEMAS["2020-12"]}
PARTS = [(draft, part) for draft in DRAFTS for part in ("required", "optional", "optional/format")]
PAGE = Path(__file__).resolve().parents[2] / "docs" / "structured-benchmarks.md"
COMMENTS = "<!-- suite: ", "<!-- /suite -->"
HEAD = (
    "| draft | part | agrees | other document | own dialect | disagrees |",
    "|---|---|---|---|---|---|",
)


class Group(NamedTuple):
    """One schema of the suite with its tests: data, and whether it is valid."""

    name: str
    schema: dict[str, Any]
    tests: list[dict[str, Any]]

    @property
    def of_its_own(self) -> bool:
        """Whether the schema is in a dialect that another document defines."""
        return self.schema["$schema"].removesuffix("#") not in METASCHEMAS.values()


class Counted(NamedTuple):
    """How many tests agree, ask for another document, are in another dialect, disagree; and the last."""

    counts: Counter[str]
    wrong: list[str]

    def row(self, draft: str, part: str) -> str:
        """Return the line of the documented table."""
        cells = (self.counts[name] for name in ("agrees", "document", "dialect", "disagrees"))
        return f"| {draft} | {part} | " + " | ".join(map(str, cells)) + " |"


def groups(draft: str, part: str) -> Iterator[Group]:
    """Yield the groups of a part; every schema is made an object that names its draft."""
    folder = SUITE / draft / part.removeprefix("required")
    for file in sorted(folder.glob("*.json")):
        for row in json.loads(file.read_text(encoding="utf-8")):
            schema = row["schema"] if isinstance(row["schema"], dict) else {"allOf": [row["schema"]]}
            schema.setdefault("$schema", DRAFTS[draft])
            yield Group(f"{file.stem}: {row['description']}", schema, row["tests"])


def counted(draft: str, part: str) -> Counted:
    """Run a part of the suite."""
    result = Counted(Counter(), [])
    for group in groups(draft, part):
        try:
            schema = load(group.schema)
        except ServerError as error:
            outside = error.kind is ErrorKind.INVALID_REQUEST and "leaves the document" in error.message
            result.counts["document" if outside else "disagrees"] += len(group.tests)
            result.wrong.extend([] if outside else [f"{group.name}: {error.message}"])
        else:
            # A dialect of somebody's own may assert formats, as the server does unless it is told not to.
            _judge(group, schema, result, formats=part.endswith("format") or group.of_its_own)
    return result


def _judge(group: Group, schema: Schema, result: Counted, *, formats: bool) -> None:
    validator = Validator.of(schema, formats=formats)
    for test in group.tests:
        agrees = (not validator.problems(test["data"])) == test["valid"]
        result.counts["dialect" if group.of_its_own else "agrees" if agrees else "disagrees"] += 1
        if not agrees:
            if group.of_its_own:
                assert test["valid"], "a dialect of somebody's own is read too leniently"
            else:
                result.wrong.append(f"{group.name}: {test['description']}")


def main() -> None:
    """Write the table into the documentation."""
    before, rest = PAGE.read_text(encoding="utf-8").split(COMMENTS[0])
    comment, _, rest = rest.partition("\n")
    table = "\n".join((*HEAD, *(counted(draft, part).row(draft, part) for draft, part in PARTS)))
    after = rest.partition(COMMENTS[1])[2]
    PAGE.write_text(f"{before}{COMMENTS[0]}{comment}\n{table}\n\n{COMMENTS[1]}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
