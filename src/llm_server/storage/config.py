"""What can be configured about the database."""

from pydantic import BaseModel, ConfigDict, Field


class StorageConfig(BaseModel):
    """Where durable facts are kept: registered schemas, files and batches."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    url: str | None = Field(
        default=None,
        pattern=r"^sqlite:///.",
        description="The database. Default: the SQLite file `llm-server.db` in `engine.data_dir`.",
        examples=["sqlite:////var/lib/llm-server/llm-server.db"],
    )
    busy_timeout_s: float = Field(
        default=5.0,
        ge=0,
        le=600,
        description="Seconds that a write waits for another process to finish writing.",
    )
