"""The configuration as the commands read it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from llm_server.cli.failure import CommandError
from llm_server.settings import Loaded, SettingsError, load

ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", "-c", metavar="FILE", help="Configuration file.  [default: ./llm-server.yaml]"),
]


def configured(config: Path | None, flags: Mapping[str, tuple[str, Any]] | None = None) -> Loaded:
    """Return the configuration in force; flags that are ``None`` were not given.

    Raises:
        CommandError: with everything that is wrong in it.
    """
    given = {path: flag for path, flag in (flags or {}).items() if flag[1] is not None}
    try:
        return load(given, config)
    except SettingsError as error:
        title = f"The configuration has {len(error.problems)} problem(s):"
        raise CommandError("\n  ".join([title, *map(str, error.problems)])) from error
