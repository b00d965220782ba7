"""Settings of the pool room."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Seconds = Annotated[float, Field(gt=0)]


class PoolConfig(BaseModel):
    """Limits and timeouts of the connections to one upstream."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_connections: int = Field(
        default=256,
        ge=1,
        description="Requests on their way to this upstream at once; each has a connection.",
    )
    max_waiting: int = Field(
        default=1024,
        ge=0,
        description="Requests that may wait for a connection; those beyond are refused with 429.",
    )
    acquire_timeout_s: Seconds = Field(
        default=10.0,
        description="Seconds that a request waits for a connection before it is refused with 429.",
    )
    connect_timeout_s: Seconds = Field(
        default=10.0, description="Seconds for name resolution, TCP connection and TLS handshake together."
    )
    first_byte_timeout_s: Seconds = Field(
        default=300.0,
        description="Seconds until the answer's headers; a whole answer is generated in this time.",
    )
    idle_timeout_s: Seconds = Field(
        default=120.0, description="Seconds of silence allowed between two pieces of an answer."
    )
    total_timeout_s: Seconds = Field(
        default=900.0, description="Seconds for the whole exchange, streams included."
    )
    keepalive_s: Seconds = Field(
        default=30.0, description="Seconds that an idle connection is kept for the next request."
    )
    max_response_bytes: int = Field(
        default=64 * 1024 * 1024,
        ge=1024,
        description="Largest whole answer that is read, after decompression.",
    )
    proxy_from_env: bool = Field(
        default=False, description="Obey `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY` of the environment."
    )
