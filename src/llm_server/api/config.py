"""Settings of the api room."""

from pydantic import BaseModel, ConfigDict, Field


class ApiConfig(BaseModel):
    """Limits and manners of the HTTP side."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_body_bytes: int = Field(
        default=32 * 1024 * 1024, ge=1024, description="Larger request bodies are refused with 413."
    )
    keepalive_s: float = Field(
        default=15.0,
        gt=0,
        description="Seconds of silence after which a stream gets a keep-alive, where its dialect has one.",
    )
    request_timeout_s: float = Field(
        default=600.0,
        gt=0,
        description="Seconds after which a request is given up, whatever the upstream does.",
    )
