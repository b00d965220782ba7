"""Settings of files and batches."""

from pydantic import BaseModel, ConfigDict, Field


class BatchesConfig(BaseModel):
    """Files, and batches that are run from them in the server's spare time."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    enabled: bool = Field(default=True, description="Whether `/v1/files` and `/v1/batches` are served.")
    max_file_bytes: int = Field(
        default=200 * 1024 * 1024, ge=1024, description="Largest file that may be uploaded."
    )
    max_lines: int = Field(default=50_000, ge=1, le=1_000_000, description="Requests of one batch.")
    max_line_bytes: int = Field(
        default=8 * 1024 * 1024, ge=1024, description="Largest request of a batch, as a line of its file."
    )
    quota_bytes: int = Field(
        default=10 * 1024**3,
        ge=1024,
        description="Bytes of all files together, beyond which no more are taken. Answers count, but are "
        "kept in any case.",
    )
    concurrency: int = Field(
        default=32,
        ge=1,
        le=10_000,
        description="Lines of one batch that may be asked at once in one process. Fewer are, as soon as a "
        "provider or one of our queues has no room.",
    )
    max_running: int = Field(
        default=4, ge=1, le=256, description="Batches that one process works on at once; others wait."
    )
    max_attempts: int = Field(
        default=3,
        ge=1,
        le=100,
        description="How often a line is asked whose provider fails. A provider that is busy does not count: "
        "the line waits, up to the end of its batch's window. One that cannot be reached counts while others "
        "are answered, and is tried up to 30 times.",
    )
    retention_days: int = Field(
        default=30,
        ge=1,
        le=3650,
        description="Days after which files and finished batches are deleted.",
    )
    lease_s: float = Field(
        default=30.0,
        ge=0.5,
        le=3600,
        description="Seconds after which another process takes over the batches of one that was killed.",
    )
    poll_s: float = Field(
        default=5.0, gt=0, le=3600, description="Seconds between two looks for batches that nobody works on."
    )
    provider_poll_s: float = Field(
        default=60.0,
        gt=0,
        le=3600,
        description="Seconds between two questions to a provider that runs a batch (`provider_batch`).",
    )
