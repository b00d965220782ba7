"""The tables, as SQLAlchemy Core describes them. The migrations make them; a test holds the two together."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
)

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

files = Table(
    "files",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("tenant", String(64), nullable=False),
    Column("name", Text, nullable=False),
    Column("purpose", String(32), nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("finished", Boolean, nullable=False),
    Column("created_s", BigInteger, nullable=False),
    Column("expires_s", BigInteger),
    Column("batch_id", String(64), nullable=False),
    Column("failed", Boolean, nullable=False),
    Index("ix_files_tenant", "tenant", "id"),
)

file_pieces = Table(
    "file_pieces",
    metadata,
    Column("file_id", String(64), ForeignKey("files.id"), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("data", LargeBinary, nullable=False),
)

batches = Table(
    "batches",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("tenant", String(64), nullable=False),
    Column("status", String(16), nullable=False),
    Column("finished_s", BigInteger),
    Column("input_file", String(64), nullable=False),
    Column("owner", String(64), nullable=False),
    Column("claimed_until_s", Float, nullable=False),
    Column("completed", Integer, nullable=False),
    Column("failed", Integer, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("usage", Text, nullable=False),
    Column("about", Text, nullable=False),
    Index("ix_batches_status", "status", "id"),
    Index("ix_batches_tenant", "tenant", "id"),
)

batch_lines = Table(
    "batch_lines",
    metadata,
    Column("batch_id", String(64), ForeignKey("batches.id"), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("failed", Boolean, nullable=False),
    Column("data", LargeBinary, nullable=False),
)
