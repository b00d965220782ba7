"""``llm-server schemas add | list | show | remove``."""

import importlib
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import typer
from pydantic import PydanticUserError
from rich.console import Console
from rich.table import Table

from llm_server.cli.client import Client, RefusedError
from llm_server.cli.configured import ConfigOption, configured
from llm_server.cli.failure import CommandError
from llm_server.cli.running import temporarily
from llm_server.contract import ServerError
from llm_server.structured.registry import slug
from llm_server.structured.schema import load

app = typer.Typer(rich_markup_mode=None, add_completion=False, no_args_is_help=True)

UrlOption = Annotated[
    str | None, typer.Option(help="Work on this running server.  [default: on the database file]")
]
KeyOption = Annotated[str | None, typer.Option(envvar="LLM_SERVER_KEY", help="A key of the server.")]
IdArgument = Annotated[str, typer.Argument(metavar="ID", help="The schema's id.")]
VersionOption = Annotated[int | None, typer.Option(min=1, help="One version.")]

_CONFLICT = 409


@app.callback()
def schemas() -> None:
    """Manage the registered schemas."""


@app.command()
def add(
    source: Annotated[
        str, typer.Argument(help="A Pydantic model, module:Model, or a JSON Schema, file.json.")
    ],
    schema_id: Annotated[str | None, typer.Option("--id", help="[default: made of the name]")] = None,
    compatibility: Annotated[str | None, typer.Option(help="none, backward, forward or full.")] = None,
    config: ConfigOption = None,
    url: UrlOption = None,
    key: KeyOption = None,
) -> None:
    """Register a schema, or its next version. The same schema again changes nothing."""
    schema = _loaded(source)
    name = str(schema.get("title") or Path(source.rpartition(":")[2]).stem)[:200]
    body = {"schema": schema, "name": name, "compatibility": compatibility}
    try:
        known = schema_id or slug(name, load(schema))
    except ServerError as error:
        raise CommandError(error.message) from error
    with _client(config, url, key) as client:
        try:
            found = client.call("POST", "/v1/schemas", {**body, "id": known})
        except RefusedError as error:
            if error.status != _CONFLICT:
                raise
            found = client.call("PUT", _path(known), body)
    print(f"{found['id']} version {found['version']}")


@app.command("list")
def list_all(config: ConfigOption = None, url: UrlOption = None, key: KeyOption = None) -> None:
    """List the registered schemas."""
    table = Table("id", "name", "latest", "compatibility")
    with _client(config, url, key) as client:
        after, more = "", True
        while more:
            page = client.call("GET", f"/v1/schemas?limit=200&after={after}")
            for each in page["data"]:
                table.add_row(each["id"], each["name"], str(each["latest_version"]), each["compatibility"])
            after, more = page["last_id"], page["has_more"]
    Console(markup=False, highlight=False).print(table)


@app.command()
def show(
    schema_id: IdArgument,
    version: VersionOption = None,
    language: Annotated[str | None, typer.Option("--as", help="pydantic or typescript.")] = None,
    config: ConfigOption = None,
    url: UrlOption = None,
    key: KeyOption = None,
) -> None:
    """Print a schema, the latest version by default, or types for it."""
    path = f"{_path(schema_id)}/versions/{version or 'latest'}"
    with _client(config, url, key) as client:
        if language is None:
            print(json.dumps(client.call("GET", path)["schema"], indent=2, ensure_ascii=False))
        else:
            print(client.text("GET", f"{path}?as={quote(language)}"), end="")


@app.command()
def remove(
    schema_id: IdArgument,
    version: VersionOption = None,
    config: ConfigOption = None,
    url: UrlOption = None,
    key: KeyOption = None,
) -> None:
    """Delete a schema, or with --version one version. Calls that use it are refused from then on."""
    path = _path(schema_id) + (f"/versions/{version}" if version else "")
    with _client(config, url, key) as client:
        client.call("DELETE", path)
    print(f"{schema_id} {f'version {version}' if version else 'and all its versions'} deleted")


@contextmanager
def _client(config: Path | None, url: str | None, key: str | None) -> Iterator[Client]:
    """Yield a client of the server at ``url``, or of one that runs on the configured database meanwhile."""
    if url:
        yield Client(url, key)
        return
    flags = {"telemetry.log_level": ("schemas", "error"), "engine.models": ("schemas", [])}
    with temporarily(configured(config, flags)) as own:
        yield Client(own)


def _path(schema_id: str) -> str:
    return f"/v1/schemas/{quote(schema_id, safe='')}"


def _loaded(source: str) -> dict[str, Any]:
    """Return the schema in a file, or of a model: anything that has Pydantic's ``model_json_schema``."""
    if source.endswith(".json"):
        return _object(_read(Path(source)), source)
    module, colon, name = source.partition(":")
    if not colon:
        raise CommandError(f"{source}: write module:Model, or the name of a .json file.")
    sys.path.insert(0, "")  # as `python -m` does: the module may stand in this folder
    try:
        found: Any = importlib.import_module(module)
        for each in name.split("."):
            found = getattr(found, each)
    except Exception as error:  # whatever the module raises while it is imported
        raise CommandError(f"{source} cannot be imported: {str(error) or type(error).__name__}.") from error
    finally:
        sys.path.remove("")
    if not hasattr(found, "model_json_schema"):
        raise CommandError(f"{source} is no Pydantic model: it has no model_json_schema().")
    try:
        return _object(found.model_json_schema(), source)
    except PydanticUserError as error:  # a type that JSON does not have, a name that leads nowhere
        raise CommandError(f"{source} has no JSON Schema: {error.message}.") from error


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise CommandError(f"{path} cannot be read: {error}.") from error


def _object(schema: Any, source: str) -> dict[str, Any]:
    if not isinstance(schema, dict):
        raise CommandError(f"{source} has no JSON Schema: it is no object.")
    return schema
