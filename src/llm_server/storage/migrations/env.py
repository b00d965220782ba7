"""What Alembic runs: migrate over the connection that the caller has opened, in one transaction."""

from alembic import context

from llm_server.storage.tables import metadata

connection = context.config.attributes["connection"]
# SQLite can alter little: Alembic copies the table (alembic.sqlalchemy.org/en/latest/batch.html).
batch = connection.dialect.name == "sqlite"
context.configure(connection=connection, target_metadata=metadata, render_as_batch=batch)
context.run_migrations()
