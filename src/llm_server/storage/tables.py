"""The tables, as SQLAlchemy Core describes them. The migrations make them; a test holds the two together."""

from sqlalchemy import BigInteger, Column, ForeignKey, Integer, MetaData, String, Table, Text

metadata = MetaData(
    naming_convention={  # names of our own: a migration can only change a constraint that has one
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "ix": "ix_%(table_name)s_%(column_0_name)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
    }
)

schemas = Table(
    "schemas",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("name", String(200), nullable=False),
    Column("description", Text, nullable=False),
    Column("compatibility", String(16), nullable=False),
    Column("created_s", BigInteger, nullable=False),
)

schema_versions = Table(
    "schema_versions",
    metadata,
    Column("schema_id", String(64), ForeignKey("schemas.id"), primary_key=True),
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("body", Text, nullable=False),
    Column("digest", String(64), nullable=False),
    Column("examples", Text, nullable=False),
    Column("created_s", BigInteger, nullable=False),
    Column("deleted_s", BigInteger),
)
