"""The official JSON-Schema-Test-Suite through loading and validation, as the documentation tells it."""

from functools import cache

import pytest

from tests.structured.suite import DRAFTS, PAGE, PARTS, Counted, counted

counted_once = cache(counted)


@pytest.mark.parametrize(("draft", "part"), PARTS)
def test_the_documented_results_are_the_real_ones(draft: str, part: str) -> None:
    result: Counted = counted_once(draft, part)
    assert result.row(draft, part) in PAGE.read_text(encoding="utf-8").splitlines(), result.wrong


@pytest.mark.parametrize("draft", DRAFTS)
def test_every_required_test_agrees_or_asks_for_another_document(draft: str) -> None:
    result = counted_once(draft, "required")
    assert result.wrong == []
    assert result.counts["disagrees"] == 0
    assert result.counts["agrees"] > 800
