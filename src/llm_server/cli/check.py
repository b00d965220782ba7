"""``llm-server check``."""

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import PurePath
from typing import Annotated, Any

import typer

from llm_server.cli.configured import ConfigOption, configured
from llm_server.cli.table import show
from llm_server.contract import Secret
from llm_server.engine import installed
from llm_server.settings import Loaded, Settings
from llm_server.settings.tree import DEFAULT, dotted

_LOOPBACK = ("127.0.0.1", "::1", "localhost")

app = typer.Typer(rich_markup_mode=None, add_completion=False)


@app.command()
def check(
    config: ConfigOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Validate the configuration and print the effective one, with the origin of every value.

    Secrets are masked. Exits with status 1 and the list of problems when it cannot be used.
    """
    loaded = configured(config)
    for warning in _warnings(loaded.settings):
        print(f"warning: {warning}", file=sys.stderr)
    if as_json:
        print(json.dumps(_report(loaded), indent=2))
        return
    rows = [(dotted(path), _words(value), str(origin)) for path, value, origin in loaded.effective()]
    print(_title(loaded))
    show(("setting", "value", "origin"), rows, dim=[row for row in rows if row[2] == str(DEFAULT)])


def _warnings(settings: Settings) -> Iterator[str]:
    """Yield what is allowed and may still not be meant."""
    server, engine = settings.server, settings.engine
    if server.host not in _LOOPBACK:
        yield f"server.host is {server.host}: whoever reaches it can use every provider's key"
    if not engine.enabled:
        return
    if server.workers > 1 and engine.models:
        yield f"each of the {server.workers} workers loads the local models for itself"
    for model in engine.models:
        if model.path and not model.path.expanduser().is_file():
            yield f"engine model {model.name}: there is no file {model.path}"
        if not model.path and not installed(model.name, engine.data_dir):
            yield f"engine model {model.name} is not there: llm-server models install {model.name}"


def _title(loaded: Loaded) -> str:
    file = loaded.file or "no file"
    providers = ", ".join(sorted(loaded.settings.provider_names)) or "none"
    return f"valid: {file}; providers: {providers}"


def _report(loaded: Loaded) -> dict[str, Any]:
    rows = [
        {"path": dotted(path), "value": _masked(value), "origin": str(origin)}
        for path, value, origin in loaded.effective()
    ]
    return {"file": str(loaded.file) if loaded.file else None, "settings": rows}


def _masked(value: Any) -> Any:
    """Return ``value`` as JSON has it, without secrets."""
    if isinstance(value, tuple | frozenset):
        return [_masked(each) for each in (sorted(value) if isinstance(value, frozenset) else value)]
    if isinstance(value, Mapping):
        return {name: _masked(each) for name, each in value.items()}
    return str(value) if isinstance(value, Secret | PurePath) else value


def _words(value: Any) -> str:
    shown = _masked(value)
    return shown if isinstance(shown, str) else json.dumps(shown)
