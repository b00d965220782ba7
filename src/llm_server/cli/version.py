"""``llm-server version``."""

from importlib.metadata import version as installed

import typer

app = typer.Typer(rich_markup_mode=None, add_completion=False)


@app.command()
def version() -> None:
    """Print the version."""
    print(installed("llm-server"))
