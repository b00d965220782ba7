"""The command line. A command's module is imported when the command runs: ``--help`` answers at once."""

import importlib
import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from llm_server.cli.failure import CommandError

COMMANDS = {
    "serve": "Start the server.",
    "check": "Validate the configuration and print it with the origin of every value.",
    "models": "List the models on offer; `models install NAME` fetches an embedded one.",
    "schemas": "Register, list, show and remove schemas of structured answers.",
    "chat": "Talk to a running server.",
    "version": "Print the version.",
}
"""Every command: the module of this package that has it, and what it does in a line."""

EPILOG = (
    "Settings come from, in this order: flags, the environment (LLM_SERVER__SECTION__KEY), the file "
    "(--config, LLM_SERVER_CONFIG or ./llm-server.yaml), providers whose key variable is set, defaults. "
    "Exit status: 0 success; 1 failure (a wrong configuration, an address in use, a server that does not "
    "answer); 2 wrong usage of the command line; 130 interrupted."
)


class Commands(TyperGroup):
    """A group that knows its commands by name and imports them one by one."""

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002 - Click's signature
        """Return the names in the order in which help shows them."""
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ARG002 - Click's signature
        """Import and return a command, or ``None``."""
        if cmd_name not in COMMANDS:
            return None
        command = typer.main.get_command(importlib.import_module(f"{__name__}.{cmd_name}").app)
        command.name = cmd_name
        return command

    def format_commands(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002 - Click's signature
        """Write the list of commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


def _version(asked: bool) -> None:
    if asked:
        importlib.import_module(f"{__name__}.version").version()
        raise typer.Exit


app = typer.Typer(
    name="llm-server",
    cls=Commands,
    help="One server between applications and language models.",
    epilog=EPILOG,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def _options(
    _: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Take what may stand before the command."""


def main() -> None:
    """Run the command line and exit."""
    try:
        typer.main.get_command(app)()
    except CommandError as error:
        print(error, file=sys.stderr)
        sys.exit(1)
