"""Settings of the batching room."""

from pydantic import BaseModel, ConfigDict, Field


class EmbeddingsConfig(BaseModel):
    """How requests for embeddings that come at the same time are put into one."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    enabled: bool = Field(default=True, description="Off: every request goes to the provider by itself.")
    max_texts: int = Field(
        default=64,
        ge=2,
        le=2048,
        description="Texts in one group. A provider that takes fewer is noticed and given fewer. A request "
        "with more than half as many goes by itself.",
    )
    max_bytes: int = Field(
        default=256 * 1024,
        ge=1024,
        description="Bytes of text in one group. A request with more than half of it goes by itself.",
    )
    max_wait_ms: float = Field(
        default=10.0,
        ge=0,
        le=60_000,
        description="Milliseconds that a request waits for others at most, and only while another of its "
        "kind is being answered.",
    )


class SingleFlightConfig(BaseModel):
    """How identical requests that come while the first is being answered share its answer."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    enabled: bool = Field(
        default=True,
        description="Share one call among identical requests in flight whose answer is the same each time: "
        "temperature 0, a seed, or embeddings.",
    )
    max_chunks: int = Field(
        default=4096,
        ge=64,
        description="Chunks of a stream that are kept for callers that join late or read slowly. A longer "
        "stream takes no more callers, and waits for the slowest that it has.",
    )


class BatchingConfig(BaseModel):
    """What is sent to providers together."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    embeddings: EmbeddingsConfig = Field(
        default=EmbeddingsConfig(), description="Requests for embeddings, in groups."
    )
    single_flight: SingleFlightConfig = Field(
        default=SingleFlightConfig(), description="Identical requests, by one call."
    )
