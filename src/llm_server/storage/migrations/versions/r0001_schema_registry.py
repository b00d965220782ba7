"""The schema registry."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make the tables of registered schemas and their versions."""
    op.create_table(
        "schemas",
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("compatibility", sa.String(16), nullable=False),
        sa.Column("created_s", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_schemas"),
    )
    op.create_table(
        "schema_versions",
        sa.Column("schema_id", sa.String(64), nullable=False),
        sa.Column("version", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("examples", sa.Text(), nullable=False),
        sa.Column("created_s", sa.BigInteger(), nullable=False),
        sa.Column("deleted_s", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["schema_id"], ["schemas.id"], name="fk_schema_versions_schema_id"),
        sa.PrimaryKeyConstraint("schema_id", "version", name="pk_schema_versions"),
    )


def downgrade() -> None:
    """Forget every registered schema."""
    op.drop_table("schema_versions")
    op.drop_table("schemas")
