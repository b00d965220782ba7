"""Measure the tree against its budgets; exit 1 when a limit is passed.

Every budget has a target (passing it is worth a thought) and a limit (passing it fails ``make lint``):

* file lines: all lines of a Python file;
* function lines: from ``def`` to the last line, without the docstring (documenting must cost nothing);
* parameters: all of them, keyword-only, ``*args`` and ``**kwargs`` included, without ``self`` and ``cls``.
  Keyword-only parameters count: they read better in a call, but the body must handle each of them;
* complexity: as ruff measures it (C901), whose ``max-complexity`` is the limit;
* local imports: imports of our own package inside functions, per file: hidden edges of the import graph;
* cycles: groups of modules that import each other, ``TYPE_CHECKING`` imports included;
* test ratio: non-blank lines of ``tests`` to non-blank lines of ``src``.

Type annotations have a budget of 100 %, which ``mypy --strict`` holds.
"""

import ast
import graphlib
import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

PACKAGE = "llm_server"
SHOWN = 3
"""How many of the worst places a budget lists."""


class Finding(NamedTuple):
    """One measured place."""

    value: int
    where: str


class Budget(NamedTuple):
    """A measure with its target and its limit; ``measure`` takes the root of the tree."""

    name: str
    target: int
    limit: int
    measure: Callable[[Path], Iterable[Finding]]


def sources(root: Path, folders: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield the path (relative to ``root``) and text of every Python file in ``folders``, in order."""
    for folder in folders:
        for path in sorted((root / folder).rglob("*.py")):
            yield path.relative_to(root).as_posix(), path.read_text(encoding="utf-8")


def file_lines(root: Path) -> Iterator[Finding]:
    """Lines of every Python file, tests included."""
    for path, text in sources(root, ("src", "tools", "benchmarks", "tests")):
        yield Finding(len(text.splitlines()), path)


def functions(root: Path) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    """Yield every function and method of the program with the place where it stands."""
    for path, text in sources(root, ("src", "tools", "benchmarks")):
        for node in ast.walk(ast.parse(text, path)):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                yield f"{path}:{node.lineno} {node.name}", node


def function_lines(root: Path) -> Iterator[Finding]:
    """Lines of every function, without its docstring."""
    for where, node in functions(root):
        first = node.body[0]
        documented = ast.get_docstring(node, clean=False) is not None
        docstring = (first.end_lineno or first.lineno) - first.lineno + 1 if documented else 0
        yield Finding((node.end_lineno or node.lineno) - node.lineno + 1 - docstring, where)


def parameters(root: Path) -> Iterator[Finding]:
    """Parameters of every function, without a leading ``self`` or ``cls``."""
    for where, node in functions(root):
        spec = node.args
        named = [*spec.posonlyargs, *spec.args, *spec.kwonlyargs]
        own = [each for place, each in enumerate(named) if place or each.arg not in ("self", "cls")]
        yield Finding(len(own) + (spec.vararg is not None) + (spec.kwarg is not None), where)


def local_imports(root: Path) -> Iterator[Finding]:
    """Imports of the package itself inside functions, per file."""
    for path, text in sources(root, ("src",)):
        hidden = {
            id(node)
            for outer in ast.walk(ast.parse(text, path))
            if isinstance(outer, (ast.FunctionDef, ast.AsyncFunctionDef))
            for node in ast.walk(outer)
            if any(target.split(".")[0] == PACKAGE for target in imported(node))
        }
        yield Finding(len(hidden), path)


def imported(node: ast.AST) -> list[str]:
    """Return the absolute names that an import statement may refer to; nothing for other nodes."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom) and node.module and not node.level:
        return [f"{node.module}.{alias.name}" for alias in node.names]
    return []


def import_graph(root: Path) -> dict[str, set[str]]:
    """Return which module of ``src`` imports which: the module that a name comes from, not its parents."""
    texts = {path.removeprefix("src/"): text for path, text in sources(root, ("src",))}
    trees = {
        path.removesuffix(".py").removesuffix("/__init__").replace("/", "."): ast.parse(text, path)
        for path, text in texts.items()
    }
    return {
        name: {module_of(target, trees) for node in ast.walk(tree) for target in imported(node)} - {"", name}
        for name, tree in trees.items()
    }


def module_of(target: str, known: Container[str]) -> str:
    """Return the module in ``known`` that ``target`` (a module, or a name in one) means, else ``""``."""
    return next((name for name in (target, target.rpartition(".")[0]) if name in known), "")


def cycles(root: Path) -> Iterator[Finding]:
    """Yield the first import cycle found, if any."""
    try:
        graphlib.TopologicalSorter(import_graph(root)).prepare()
    except graphlib.CycleError as error:
        yield Finding(1, " -> ".join(error.args[1]))


def complexity(root: Path) -> Iterator[Finding]:
    """Ask ruff for the complexity of every function above the target, ignores or not."""
    command = ("check", "--select=C901", "--ignore-noqa", "--exit-zero", "--output-format=json")
    folders = [folder for folder in ("src", "tools", "benchmarks") if (root / folder).is_dir()]
    target = f"lint.mccabe.max-complexity={COMPLEXITY[0]}"
    run = subprocess.run(
        [sys.executable, "-m", "ruff", *command, "--config", target, *folders],
        cwd=root, check=True, capture_output=True, text=True,
    )  # fmt: skip
    for row in json.loads(run.stdout):
        value = int(row["message"].rpartition("(")[2].partition(" ")[0])
        place = Path(row["filename"]).relative_to(root).as_posix()
        yield Finding(value, f"{place}:{row['location']['row']} {row['message'].split('`')[1]}")


COMPLEXITY = (6, 10)
BUDGETS = (
    Budget("file lines", 250, 500, file_lines),
    Budget("function lines", 25, 50, function_lines),
    Budget("complexity", *COMPLEXITY, complexity),
    Budget("parameters", 4, 6, parameters),
    Budget("local imports", 0, 1, local_imports),
    Budget("cycles", 0, 0, cycles),
)
RATIO = (1.5, 1.0)
"""Test lines to code lines: the target, and the limit below which the check fails."""


def tests_to_code(root: Path) -> float:
    """Return non-blank lines of ``tests`` for each non-blank line of ``src``."""
    tests, code = (
        sum(1 for _, text in sources(root, (folder,)) for line in text.splitlines() if line.strip())
        for folder in ("tests", "src")
    )
    return tests / max(code, 1)


def report(root: Path) -> tuple[list[str], bool]:
    """Return the lines to print for the tree at ``root`` and whether every limit holds."""
    lines = [f"{'budget':<16}{'target':>8}{'limit':>8}{'worst':>8}{'over':>6}{'failing':>9}"]
    places: list[str] = []
    held = True
    for name, target, limit, measure in BUDGETS:
        over = sorted((found for found in measure(root) if found.value > target), reverse=True)
        failing = [found for found in over if found.value > limit]
        held = held and not failing
        worst = over[0].value if over else "-"
        lines.append(f"{name:<16}{target:>8}{limit:>8}{worst:>8}{len(over):>6}{len(failing):>9}")
        places += [f"  {name:<16}{found.value:>5}  {found.where}" for found in failing or over[:SHOWN]]
    ratio = tests_to_code(root)
    lines.append(f"{'test ratio':<16}{RATIO[0]:>8}{RATIO[1]:>8}{ratio:>8.2f}")
    return [*lines, *places], held and ratio >= RATIO[1]


def main() -> int:
    """Print the report for the tree in the current folder; return the exit status."""
    if importlib.util.find_spec("ruff") is None:
        print("ruff is not installed here: run `make lint`", file=sys.stderr)
        return 1
    lines, held = report(Path.cwd())
    print("\n".join([*lines, "budgets held" if held else "budgets broken: a limit is passed"]))
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
