"""The import contracts in pyproject.toml say exactly what the table of rooms says."""

import tomllib
from itertools import permutations
from typing import Any

import grimp
import pytest
from importlinter.configuration import configure
from importlinter.contracts.forbidden import ForbiddenContract
from importlinter.contracts.layers import LayersContract

from tests.repository.tree import ROOT

ADAPTERS = (
    "engine", "batching", "catalog", "routing", "structured", "caching", "guardrails", "accounts", "storage",
    "telemetry", "cluster",
)  # fmt: skip
MAY_IMPORT: dict[str, set[str]] = {
    "contract": set(),
    "wire": {"contract"},
    "pool": {"contract"},
    "providers": {"contract", "wire", "pool"},
    **{room: {"contract"} for room in ADAPTERS},
    "pipeline": {"contract", "wire"},
    "api": {"pipeline", "wire", "contract"},
}
PURE = ("contract", "wire", "providers.dialects", "routing")
CONFIGURED = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
configure()
KINDS = {"layers": LayersContract, "forbidden": ForbiddenContract}


def contract(options: dict[str, Any]) -> LayersContract | ForbiddenContract:
    session = {"root_packages": ["llm_server"], "include_external_packages": "True"}
    rest = {key: str(value) if isinstance(value, bool) else value for key, value in options.items()}
    made = KINDS[options["type"]](name=options["name"], session_options=session, contract_options=rest)
    assert isinstance(made, LayersContract | ForbiddenContract)
    return made


def kept(*imports: tuple[str, str], extra: tuple[str, ...] = ()) -> bool:
    """Whether a server of all rooms in which only these imports exist keeps every contract."""
    graph = grimp.ImportGraph()
    graph.add_module("llm_server")
    for room in [*MAY_IMPORT, *PURE, *extra]:
        graph.add_module(f"llm_server.{room}")
    for importer, target in imports:
        inside = target.split(".")[0] in (*MAY_IMPORT, "app", "settings", "cli", "testing", *extra)
        name = f"llm_server.{target}" if inside else target
        if name not in graph.modules:
            graph.add_module(name, is_squashed=not inside)
        graph.add_import(importer=f"llm_server.{importer}", imported=name, line_number=1, line_contents="")
    return all(contract(options).check(graph, verbose=False).kept for options in CONFIGURED["contracts"])


@pytest.mark.parametrize(("importer", "imported"), list(permutations(MAY_IMPORT, 2)))
def test_a_room_sees_exactly_the_rooms_of_its_row(importer: str, imported: str) -> None:
    assert kept((importer, imported)) == (imported in MAY_IMPORT[importer])


def test_all_that_is_allowed_is_allowed_together() -> None:
    assert kept(*((importer, imported) for importer, row in MAY_IMPORT.items() for imported in row))


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_the_composition_root_sees_every_room_and_no_room_sees_it(room: str) -> None:
    beside = ("app", "settings", "cli", "testing")
    assert kept(("app", room), ("settings", room), ("cli", room), extra=beside)
    assert not kept((room, "app"), extra=beside)
    assert not kept((room, "settings"), extra=beside)


def test_a_new_room_must_be_listed() -> None:
    assert not kept(extra=("helpers",))


@pytest.mark.parametrize("room", PURE)
@pytest.mark.parametrize("library", ["aiohttp", "asyncio", "httpx2", "os", "redis", "socket", "sqlalchemy"])
def test_a_pure_room_does_no_input_or_output(room: str, library: str) -> None:
    assert not kept((room, library))
    assert kept(("pool", library))


def test_what_a_pure_room_needs_is_allowed() -> None:
    assert kept(("wire", "msgspec"), ("wire", "http"), ("providers.dialects", "json"), ("contract", "enum"))
