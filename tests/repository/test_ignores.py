"""Every exception to a rule says which rule and why, on its line; and no test is set aside."""

import ast
import io
import re
import tokenize
from collections.abc import Iterator

import pytest

from tests.repository.tree import ROOT, python

EXCEPTION = re.compile(
    r"#\s*(?:noqa|type:\s*ignore|pragma|nosec|fmt:\s*off|ruff:|mypy:|pyright:)", re.IGNORECASE
)
REASONED = re.compile(
    r"#\s*(?:noqa:\s*[A-Z]+\d+(?:,\s*[A-Z]+\d+)*|type:\s*ignore\[[a-z-]+(?:,\s*[a-z-]+)*\])"
    r"[\s#:;,(-]+(?P<reason>\S.{8,})"
)  # fmt: skip
SET_ASIDE = {"skip", "skipif", "xfail", "importorskip", "flaky"}


def comments(text: str) -> Iterator[tuple[int, str]]:
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string


def unreasoned(text: str) -> list[int]:
    """Return the lines whose exception lacks its code or its reason."""
    if not EXCEPTION.search(text):
        return []  # reading every word of every file takes seconds
    exceptions = [(line, comment) for line, comment in comments(text) if EXCEPTION.search(comment)]
    return [line for line, comment in exceptions if not REASONED.search(comment)]


def set_aside(text: str) -> list[int]:
    """Return the lines that use a way to not run a test."""
    if not any(word in text for word in SET_ASIDE):
        return []
    names = (node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Attribute))
    return sorted(node.lineno for node in names if node.attr in SET_ASIDE and "pytest" in ast.unparse(node))


@pytest.mark.parametrize(
    "comment",
    ["# noqa", "# noqa: S310", "# type: ignore", "# type: ignore[arg-type]", "# noqa: S310 - ok", "# nosec"],
)
def test_an_exception_without_code_or_reason_is_found(comment: str) -> None:
    assert unreasoned(f"x = 1  {comment}\n") == [1]


@pytest.mark.parametrize(
    "comment",
    [
        "# noqa: S310 - the address is the server's own",
        "# noqa: S310, BLE001  a plug-in may raise anything",
        "# type: ignore[arg-type]  # the stub lacks the overload",
        "# a plain comment about noqa",
    ],
)
def test_a_reasoned_exception_passes(comment: str) -> None:
    assert unreasoned(f"x = 1  {comment}\n") == []


def test_a_string_is_no_comment() -> None:
    assert unreasoned('x = "# noqa"\n') == []


def test_ways_to_not_run_a_test_are_found() -> None:
    assert set_aside("import pytest\npytest.skip('no')\n@pytest.mark.xfail\ndef f(): ...\nos.skip()\n") == [
        2,
        3,
    ]


def test_every_exception_of_the_project_has_its_reason() -> None:
    paths = python("src", "tools", "benchmarks", "tests")
    assert [
        f"{path.relative_to(ROOT)}:{line}" for path in paths for line in unreasoned(path.read_text())
    ] == []


def test_no_test_of_the_project_is_set_aside() -> None:
    paths = python("tests")
    assert [
        f"{path.relative_to(ROOT)}:{line}" for path in paths for line in set_aside(path.read_text())
    ] == []
