"""tools/budgets.py measures what it says and fails where it must."""

import tomllib
from pathlib import Path

import pytest

from tests.repository.tree import ROOT
from tools import budgets


def tree(root: Path, **texts: str) -> Path:
    """Write a package of one module for each text, with as many lines of tests as of code."""
    package = root / "src" / budgets.PACKAGE
    package.mkdir(parents=True)
    for name, text in texts.items():
        (package / f"{name}.py").write_text(text)
    (root / "tests").mkdir()
    for name, text in texts.items():
        (root / "tests" / f"test_{name}.py").write_text("x = 1\n" * text.count("\n"))
    return root


def values(measure: object, root: Path) -> list[int]:
    assert callable(measure)
    return [found.value for found in measure(root)]


def test_a_function_is_as_long_as_its_lines_without_the_docstring(tmp_path: Path) -> None:
    text = (
        'async def f(\n    a: int,\n) -> int:\n    """One.\n\n    Two.\n    """\n\n    # why\n    return a\n'
    )
    assert values(budgets.function_lines, tree(tmp_path, m=text)) == [6]


def test_nested_functions_and_methods_are_measured_too(tmp_path: Path) -> None:
    text = (
        "class C:\n    def outer(self):\n        def inner():\n            return 1\n        return inner\n"
    )
    assert sorted(values(budgets.function_lines, tree(tmp_path, m=text))) == [2, 4]


@pytest.mark.parametrize(
    ("signature", "count"),
    [
        ("", 0),
        ("self", 0),
        ("cls, a", 1),
        ("a, self", 2),
        ("a, /, b, *, c, d=1", 4),
        ("*args, **kwargs", 2),
        ("self, a, *, b, c, d, e, f", 6),
    ],
)
def test_every_parameter_counts_but_self(tmp_path: Path, signature: str, count: int) -> None:
    assert values(budgets.parameters, tree(tmp_path, m=f"def f({signature}): ...\n")) == [count]


def test_local_imports_are_those_of_the_package_inside_functions(tmp_path: Path) -> None:
    text = (
        "import llm_server.a\n"
        "def f():\n    import os\n    import llm_server.b\n    from llm_server import c\n"
        "    def g():\n        from llm_server.d import e\n"
    )
    assert values(budgets.local_imports, tree(tmp_path, m=text)) == [3]


def test_a_cycle_is_found_and_named(tmp_path: Path) -> None:
    root = tree(
        tmp_path,
        a="from llm_server.b import x\n",
        b="import llm_server.c\n",
        c="from llm_server import a\n",
    )
    (found,) = budgets.cycles(root)
    assert {"llm_server.a", "llm_server.b", "llm_server.c"} == set(found.where.split(" -> "))


def test_a_package_that_gathers_its_modules_is_no_cycle(tmp_path: Path) -> None:
    root = tree(
        tmp_path,
        __init__="from llm_server.b import x\n",
        a="import os\n",
        b="from llm_server.a import x\n",
    )
    assert list(budgets.cycles(root)) == []
    assert budgets.import_graph(root)["llm_server"] == {"llm_server.b"}


def test_complexity_is_what_ruff_says_even_where_it_is_ignored(tmp_path: Path) -> None:
    branches = "".join(f"    if a == {n}:\n        return {n}\n" for n in range(7))
    source = f"def f(a):  # noqa: C901 - measured all the same\n{branches}    return a\n"
    root = tree(tmp_path, m=source)
    (found,) = budgets.complexity(root)
    assert (found.value, found.where) == (8, "src/llm_server/m.py:1 f")


def test_complexity_has_one_limit() -> None:
    configured = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["ruff"]["lint"]["mccabe"]
    assert configured == {"max-complexity": budgets.COMPLEXITY[1]}


def test_small_honest_code_holds_every_budget(tmp_path: Path) -> None:
    lines, held = budgets.report(tree(tmp_path, m="def f(a: int) -> int:\n    return a\n"))
    assert held
    assert len(lines) == 1 + len(budgets.BUDGETS) + 1


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("x = 1\n" * 501, "src/llm_server/m.py"),
        ("def f():\n" + "    g()\n" * 50, "m.py:1 f"),
        ("def f(a, b, c, d, e, g, h): ...\n", "m.py:1 f"),
        ("def f():\n    import llm_server.a\n    import llm_server.b\n", "src/llm_server/m.py"),
        ("def f(a):\n" + "".join(f"    if a == {n}:\n        g()\n" for n in range(10)), "m.py:1 f"),
        ("from llm_server import n\n", "llm_server.m"),
    ],
)
def test_one_place_above_a_limit_fails_and_is_named(tmp_path: Path, text: str, place: str) -> None:
    lines, held = budgets.report(tree(tmp_path, m=text, n="import llm_server.m\n"))
    assert not held
    assert any(place in line for line in lines)


def test_the_limit_itself_is_allowed(tmp_path: Path) -> None:
    lines, held = budgets.report(tree(tmp_path, m="x = 1\n" * 500, n="def f(a, b, c, d, e, g): ...\n"))
    assert held, lines


def test_too_few_tests_fail(tmp_path: Path) -> None:
    root = tree(tmp_path, m="x = 1\n" * 10)
    (root / "tests" / "test_m.py").write_text("x = 1\n\n\n" * 9)
    assert budgets.tests_to_code(root) == pytest.approx(0.9)
    assert not budgets.report(root)[1]


def test_where_ruff_is_missing_it_says_what_to_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(budgets.importlib.util, "find_spec", lambda _: None)
    assert budgets.main() == 1
    assert capsys.readouterr().err == "ruff is not installed here: run `make lint`\n"
