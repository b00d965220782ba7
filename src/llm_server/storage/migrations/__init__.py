"""The history of the tables, for Alembic. Revisions are applied in order when the database is opened."""
