"""The size of regular expressions: every repetition counts."""

import pytest

from llm_server.structured.repetition import MAX_COUNT, expanded


@pytest.mark.parametrize(
    ("pattern", "atoms"),
    [
        ("", 0),
        ("^ab$", 2),
        ("a{3}", 3),
        ("a{2,5}", 5),
        ("a{2,}", 2),
        ("a{0,0}b", 2),
        ("(ab){3}c", 7),
        ("(?:a|bc){3}", 9),
        ("(?<name>a)(?=b)(?<!c)", 3),
        ("((a{1,30}){1,30}){1,30}", 27_000),
        (r"\d{3}-\{4\}", 7),
        (r"[\]{9}]{2}", 2),
        ("[^a]{9}", 9),
        ("[](a{9}){9}]", 83),
        (r"\p{Lu}{2}", 2),
        ("a+b*c?", 3),
        ("a{x}", 4),
        ("{3}", 0),
        ("(((", 0),
        ("a)))b", 5),
        ("\\", 1),
        ("[", 1),
        ("((a{999999}){999999}){999999}", MAX_COUNT),
        ("a{" + "9" * 400 + "}", MAX_COUNT),
    ],
)
def test_repetitions_are_written_out(pattern: str, atoms: int) -> None:
    assert expanded(pattern) == atoms
