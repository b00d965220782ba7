"""Which schemas can be enforced, how correctly and how fast: our chain beside xgrammar and outlines-core.

Schemas and instances are those of JSONSchemaBench with the tests of MaskBench
(https://github.com/guidance-ai/jsonschemabench); they are not part of this repository.

``usable``: the schema is taken and compiles. ``correct``: it compiles, every valid instance goes through the
grammar token by token, and no invalid one is delivered. Delivered means through the grammar and through
validation, for every backend: that is how the server answers; ``alone`` counts without validation. Instances
are written as ``json.dumps`` does. JSON objects have no order, grammars do: ``correct`` takes properties in
the order of the instance, ``any order`` also in that of the schema. Times are processor time; ``compile`` is
from a loaded schema to a grammar that is known to be taken, the best of three, ``mask`` the mean over all
tokens of instances. ``--write`` puts the table into ``docs/structured-benchmarks.md``.
"""

import argparse
import os
import sys
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from grammars.backends import BACKENDS
from grammars.page import table, write
from grammars.schemas import Case, read
from grammars.worker import Outcome, Worker

from llm_server.engine import EngineConfig, install

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT.parent / "shared" / "data" / "jsonschemabench"
OURS = next(iter(BACKENDS))
PEERS = "pip install --no-deps xgrammar==0.2.8 apache-tvm-ffi outlines-core==0.2.14 numpy"
"""Without their dependencies: xgrammar names torch and transformers, 2 GB that this does not use."""


class Target(NamedTuple):
    """What one figure of ours should be, at least or at most."""

    name: str
    value: Callable[[list[Outcome]], float]
    bound: float
    unit: str
    at_least: bool = False


def compiled(outcomes: list[Outcome], guarantee: str = "") -> list[Outcome]:
    return [each for each in outcomes if not each.refused and guarantee in each.guarantee]


def share(outcomes: list[Outcome], test: Callable[[Outcome], bool]) -> float:
    return 100 * sum(map(test, outcomes)) / max(len(outcomes), 1)


def percentile(values: list[float], at: float) -> float:
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * at), len(ordered) - 1)] if ordered else 0.0


def compile_ms(outcomes: list[Outcome], at: float, guarantee: str = "") -> float:
    return percentile([each.compile_ms for each in compiled(outcomes, guarantee)], at)


def mask_us(outcomes: list[Outcome]) -> float:
    return 1e6 * sum(each.mask_s for each in outcomes) / max(sum(each.tokens for each in outcomes), 1)


def usable(outcomes: list[Outcome]) -> float:
    return share(outcomes, lambda each: not each.refused)


def correct(outcomes: list[Outcome]) -> float:
    return share(outcomes, lambda each: each.written)


TARGETS = (
    Target("usable", usable, 98, "%", at_least=True),
    Target("correct", correct, 94, "%", at_least=True),
    Target("compile p50", lambda each: compile_ms(each, 0.5), 2, "ms"),
    Target("compile p95, exact", lambda each: compile_ms(each, 0.95, "exact"), 10, "ms"),
    Target("compile p95, relaxed", lambda each: compile_ms(each, 0.95, "relaxed"), 20, "ms"),
    Target("mask mean", mask_us, 45, "us/token"),
)
HEADS = ("usable %", "exact %", "correct %", "any order %", "alone %", "compile ms p50", "p95", "mask us")


def row(outcomes: list[Outcome]) -> tuple[str, ...]:
    """Return the cells of one backend for one group of schemas."""
    exact = share(outcomes, lambda each: each.guarantee == "exact")
    figures = (
        usable(outcomes),
        exact,
        correct(outcomes),
        share(outcomes, lambda each: each.reordered),
        share(outcomes, lambda each: each.written and not each.passed),
        compile_ms(outcomes, 0.5),
        compile_ms(outcomes, 0.95),
        mask_us(outcomes),
    )
    known = any(each.guarantee for each in outcomes)
    return tuple(
        "-" if head == "exact %" and not known else f"{each:.1f}"
        for head, each in zip(HEADS, figures, strict=True)
    )


def rows(results: dict[str, list[tuple[Case, Outcome]]]) -> Iterator[tuple[object, ...]]:
    """Yield for each category, and in total, one line a backend."""
    names = dict.fromkeys(case.category for pairs in results.values() for case, _ in pairs)
    for category in (*names, "all"):
        for backend, pairs in results.items():
            group = [outcome for case, outcome in pairs if category in {"all", case.category}]
            if group:
                yield category, backend, len(group), *row(group)


def verdicts(outcomes: list[Outcome]) -> Iterator[tuple[str, str, str, str]]:
    """Yield one line for each target."""
    for target in TARGETS:
        value = target.value(outcomes)
        met = value >= target.bound if target.at_least else value <= target.bound
        sign = "at least" if target.at_least else "at most"
        wanted = f"{sign} {target.bound:g} {target.unit}"
        yield target.name, f"{value:.2f}", wanted, "met" if met else "MISSED"


def report(results: dict[str, list[tuple[Case, Outcome]]]) -> Iterator[str]:
    """Yield the figures of every backend, then how ours stand to their targets."""
    yield from table(("category", "backend", "n", *HEADS), rows(results))
    yield ""
    ours = [outcome for _, outcome in results[OURS]]
    yield from table(("llguidance (ours)", "measured", "target", "verdict"), verdicts(ours))


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("JSONSCHEMABENCH", DATA)))
    parser.add_argument("--each", type=int, help="at most so many schemas of each category")
    parser.add_argument("--peers", type=int, default=5, help="the same for the other backends (default: 5)")
    parser.add_argument(
        "--limit", type=float, default=5.0, help="processor seconds for a schema (default: 5)"
    )
    parser.add_argument("--refused", action="store_true", help="say which schemas are not right, and why")
    parser.add_argument("--write", action="store_true", help="put the table into the documentation")
    return parser.parse_args()


def main() -> int:
    """Run every backend and print the table."""
    chosen = options()
    if not chosen.data.exists():
        print(f"{chosen.data} is not there: nothing is measured. --data takes a file or folder of schemas.")
        return 0
    model = install("smollm2-135m", EngineConfig().data_dir.expanduser())
    results: dict[str, list[tuple[Case, Outcome]]] = {}
    absent = [name for name, backend in BACKENDS.items() if find_spec(backend.needs) is None]
    if absent:
        print(f"Not installed, so not measured: {', '.join(absent)}. For them: {PEERS}")
    for name in (name for name in BACKENDS if name not in absent):
        cases = read(chosen.data, chosen.each if name == OURS else chosen.peers)
        worker = Worker(name, model, chosen.limit)
        results[name] = [(case, worker.run(case)) for case in cases]
        worker.stop()
    lines = list(report(results))
    print("\n".join(lines))
    if chosen.write:
        write("grammars", lines)
    if chosen.refused:
        wrong = [pair for pair in results[OURS] if not pair[1].written]
        print(
            "\n".join(f"{case.name}: {outcome.refused or 'order of properties'}" for case, outcome in wrong)
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
