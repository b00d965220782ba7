"""``llm-server serve``."""

from typing import Annotated

import typer

from llm_server.cli.configured import ConfigOption, configured
from llm_server.cli.running import run

app = typer.Typer(rich_markup_mode=None, add_completion=False)


@app.command()
def serve(
    config: ConfigOption = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on.  [default: 127.0.0.1]")] = None,
    port: Annotated[int | None, typer.Option(help="Port; 0 takes a free one.  [default: 8000]")] = None,
    workers: Annotated[int | None, typer.Option(help="Processes that serve.  [default: 1]")] = None,
    log_level: Annotated[str | None, typer.Option(help="debug, info, warning or error.")] = None,
    engine: Annotated[bool | None, typer.Option("--engine/--no-engine", help="Run local models.")] = None,
) -> None:
    """Start the server. Ctrl-C or SIGTERM stops it: requests in flight are finished first.

    A second Ctrl-C ends them at once, each with an error. The exit status is 0 either way.
    """
    flags = {
        "server.host": ("--host", host),
        "server.port": ("--port", port),
        "server.workers": ("--workers", workers),
        "telemetry.log_level": ("--log-level", log_level),
        "engine.enabled": ("--no-engine" if engine is False else "--engine", engine),
    }
    run(configured(config, flags))
