"""Read every source once, lay one over the other, and check the whole.

One precedence: flags > environment > file > discovered providers > defaults.
"""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path as FilePath
from typing import Any

from pydantic import BaseModel, ValidationError

from llm_server.settings import layers
from llm_server.settings.consistency import inconsistencies
from llm_server.settings.discovered import discovered, doubtful
from llm_server.settings.model import Settings
from llm_server.settings.problems import Problem, SettingsError, explain
from llm_server.settings.tree import DEFAULT, Node, Origin, Path, at, origin, overlay, plain, written

FILE = "llm-server.yaml"
FILE_VARIABLE = "LLM_SERVER_CONFIG"

Flags = Mapping[str, tuple[str, Any]]
"""Dotted path of a setting to the flag's name and its value: ``{"server.port": ("--port", 8080)}``."""


@dataclass(frozen=True)
class Loaded:
    """A configuration in force: the settings, and where each of them came from."""

    settings: Settings
    file: FilePath | None
    layers: Node = field(repr=False)

    @property
    def values(self) -> dict[str, Any]:
        """What was configured, as plain data with secrets in clear: for worker processes, never for eyes.

        ``Settings.model_validate`` makes the same settings of it.
        """
        found: dict[str, Any] = plain(self.layers)
        return found

    def effective(self) -> Iterator[tuple[Path, Any, Origin]]:
        """Yield every setting in force: its path, its value and where that came from.

        Of a provider only what is set: the rest is what its row says, and the pool's settings. Of a route
        too: the rest is what ``retry`` says.
        """
        for path, value in _leaves(self.settings, ()):
            place = written(self.layers, path) if path[-1:] == ("targets",) else path
            source = origin(self.layers, place)
            if path[0] == "models" and at(self.layers, place) is None:
                continue
            if path[0] != "providers" or source != DEFAULT:
                yield place, value, source


def load(
    flags: Flags | None = None, config: FilePath | None = None, env: Mapping[str, str] | None = None
) -> Loaded:
    """Return the configuration in force.

    Args:
        flags: what the command line says.
        config: the file; by default that of ``LLM_SERVER_CONFIG``, else ``llm-server.yaml`` if it is here.
        env: environment variables, by default those of this process.

    Raises:
        SettingsError: with everything that is wrong.
    """
    env = os.environ if env is None else env
    path = _file(config, env)
    filed, problems = _read(path, env) if path else (Node({}, Origin("file")), [])
    overriding, misnamed = layers.environment(env, filed)
    given = overlay(overlay(filed, overriding), layers.flags(flags or {}))
    found = discovered(env, given)
    tree = overlay(found, given)
    settings = _validated(tree, [*problems, *misnamed, *doubtful(env, found)])
    return Loaded(settings, path, tree)


def _file(config: FilePath | None, env: Mapping[str, str]) -> FilePath | None:
    named = config or env.get(FILE_VARIABLE)
    if named:
        return FilePath(named)
    return FilePath(FILE) if FilePath(FILE).exists() else None


def _read(path: FilePath, env: Mapping[str, str]) -> tuple[Node, list[Problem]]:
    # A start without a file is spared YAML: a twentieth of the time that it has.
    from llm_server.settings import document

    return document.read(path, env)


def _validated(tree: Node, problems: list[Problem]) -> Settings:
    """Return the settings of ``tree``; raises all ``problems``, with those found here in other places."""
    found: list[Problem] = []
    settings = None
    try:
        settings = Settings.model_validate(plain(tree))
        found += inconsistencies(settings, tree)
    except ValidationError as error:
        found += explain(error, tree, Settings)
    told = {problem.path for problem in problems}
    problems = [*problems, *(each for each in found if each.path not in told)]
    if problems or settings is None:
        raise SettingsError(problems)
    return settings


def _leaves(value: Any, path: Path) -> Iterator[tuple[Path, Any]]:
    """Yield what has no names below it: scalars, lists of scalars, what is empty."""
    entries: Iterator[tuple[str | int, Any]]
    if isinstance(value, BaseModel):
        entries = ((name, getattr(value, name)) for name in type(value).model_fields)
    elif isinstance(value, Mapping) and value:
        entries = iter(value.items())
    elif isinstance(value, tuple) and any(isinstance(each, BaseModel) for each in value):
        entries = iter(enumerate(value))
    else:
        yield path, value
        return
    for step, each in entries:
        yield from _leaves(each, (*path, step))
