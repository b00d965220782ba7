"""Bring a database to a revision, by Alembic and the files in ``migrations/``."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection

from llm_server.contract import ErrorKind, ServerError

FOLDER = Path(__file__).with_name("migrations")


def configuration(folder: Path = FOLDER) -> Config:
    """Return Alembic's configuration for the revisions in ``folder``: no file of its own is needed."""
    config = Config()
    config.set_main_option("script_location", str(folder).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config


def upgrade(connection: Connection, head: str, folder: Path = FOLDER) -> None:
    """Apply every revision up to ``head`` that the database lacks, in the transaction of ``connection``.

    Raises:
        ServerError: ``UNAVAILABLE`` for a database of a newer server.
    """
    config = configuration(folder)
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, head)
    except CommandError as error:
        message = f"The database has a revision that this server does not know (it knows up to {head})."
        raise ServerError(ErrorKind.UNAVAILABLE, message, detail=str(error)) from error


def newest(folder: Path = FOLDER) -> str | None:
    """Return the newest revision in ``folder``."""
    return ScriptDirectory.from_config(configuration(folder)).get_current_head()
