"""docs/performance.md: its tables are written from the kept results, between markers."""

import re
from collections.abc import Mapping
from pathlib import Path

from bench import results
from bench.results import Goal
from bench.tables import RENDERERS, table

PAGE = Path(__file__).resolve().parent.parent.parent / "docs" / "performance.md"


def fill(text: str, sections: Mapping[str, str]) -> str:
    """Return ``text`` with what stands between ``<!-- begin NAME -->`` and ``<!-- end NAME -->`` replaced.

    Raises ``ValueError`` when a section has no place.
    """
    for name, content in sections.items():
        pattern = re.compile(rf"(<!-- begin {name} -->\n).*?(<!-- end {name} -->)", re.DOTALL)
        text, count = pattern.subn(lambda found, new=content: f"{found[1]}{new}\n{found[2]}", text)  # type: ignore[misc]  # a default binds it
        if count != 1:
            raise ValueError(f"the page has {count} places for {name}")
    return text


def rendered(text: str) -> str:
    """Return the page with every section written anew from the kept results."""
    sections = {"standing": standing()}
    for name, render in RENDERERS.items():
        found = results.load(name)
        if found is not None:
            sections |= render(found)
    return fill(text, sections)


def write() -> Path:
    """Write the page; return its path."""
    PAGE.write_text(rendered(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    return PAGE


def standing() -> str:
    """Return the table of everything that must be shown."""
    rows = []
    for name in RENDERERS:
        for value in (results.load(name) or {}).get("goals", ()):
            goal = Goal(**value)
            sign = "at most" if goal.most else "at least"
            rows.append(
                (goal.name, f"{goal.value:.4g} {goal.unit}", f"{sign} {goal.limit:g}",
                 "met" if goal.met else "**missed**")
            )  # fmt: skip
    return table(("what", "measured", "target", "verdict"), rows)


if __name__ == "__main__":
    print(f"written: {write()}")
