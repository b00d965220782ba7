"""What the program imports is what pyproject.toml declares; what an extra brings belongs to one room."""

import ast
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.repository.tree import ROOT, python

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
DISTRIBUTIONS = packages_distributions()
THROUGH = {"yarl": "aiohttp", "starlette": "fastapi", "pydantic-core": "pydantic"}
"""Packages that another one is made of and re-exports: declared through it."""


def names(requirements: list[str]) -> set[str]:
    return {canonicalize_name(Requirement(each).name) for each in requirements}


BASE = names(PROJECT["dependencies"])
EXTRAS = {extra: names(wanted) for extra, wanted in PROJECT["optional-dependencies"].items()}
ROOMS = {"local": "engine", "openvino": "engine", "outlines": "engine", "language": "structured"}
"""The room that imports what an extra brings."""


def foreign(path: Path) -> set[str]:
    """Return the distributions that a file imports from, at its top or inside functions."""
    tops: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            tops |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            tops.add(node.module.split(".")[0])
    tops -= {*sys.stdlib_module_names, "llm_server"}
    found = {canonicalize_name(DISTRIBUTIONS.get(top, [top])[0]) for top in tops}
    return {THROUGH.get(name, name) for name in found}


def test_every_import_is_declared_and_extras_belong_to_their_room() -> None:
    assert ROOMS.keys() == EXTRAS.keys()
    undeclared = {}
    for path in python("src"):
        place = path.relative_to(ROOT / "src" / "llm_server")
        allowed = BASE.union(*(EXTRAS[extra] for extra, room in ROOMS.items() if room == place.parts[0]))
        undeclared.update({str(place): foreign(path) - allowed} if foreign(path) - allowed else {})
    assert undeclared == {}


def test_every_declared_package_is_used() -> None:
    # uvicorn and SQLAlchemy find the first four themselves; of the last only the files are served
    loaded_by_name = {"uvloop", "httptools", "h11", "aiosqlite", "fastapi-offline"}
    used = set().union(*(foreign(path) for path in python("src")))
    assert BASE - used - loaded_by_name == set()
