"""The table of what is tried again where is the one that is in force."""

import re
from pathlib import Path

from llm_server.contract import Again, ErrorKind
from llm_server.pipeline.backoff import THROTTLING

PAGE = Path(__file__).parents[2] / "docs" / "reliability.md"


def rows() -> dict[str, str]:
    """Return what the page says of each kind that it names."""
    table = re.findall(r"^\| (`[^|]+) \| ([^|]+) \|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    return {kind: words for kinds, words in table for kind in re.findall(r"`(\w+)`", kinds)}


def test_every_kind_is_where_the_table_says() -> None:
    told = rows()
    assert set(told) <= set(ErrorKind)
    for kind in ErrorKind:
        words = told.get(kind.value, Again.NEVER.value)
        assert words.split(",")[0] == kind.again.value, kind
        assert ("throttled" in words) == (kind in THROTTLING and kind.again is Again.ANYWHERE), kind
