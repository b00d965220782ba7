"""``docs/structured-benchmarks.md``: each script writes the part that it measures."""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

PAGE = Path(__file__).resolve().parents[2] / "docs" / "structured-benchmarks.md"


def write(part: str, lines: Iterable[str]) -> None:
    """Replace what stands between the two comments of ``part``."""
    place = re.compile(rf"(<!-- {part}: [^\n]*-->\n).*?(<!-- /{part} -->)", re.DOTALL)
    text = "\n".join(lines)
    whole, count = place.subn(
        lambda found: f"{found[1]}\n{text}\n\n{found[2]}", PAGE.read_text(encoding="utf-8")
    )
    if count != 1:
        raise SystemExit(f"{PAGE.name} has no place for {part}")
    PAGE.write_text(whole, encoding="utf-8")


def table(heads: Iterable[str], rows: Iterable[Iterable[object]]) -> Iterator[str]:
    """Yield a Markdown table."""
    heads = tuple(heads)
    yield "| " + " | ".join(heads) + " |"
    yield "|---" * len(heads) + "|"
    for row in rows:
        yield "| " + " | ".join(map(str, row)) + " |"
