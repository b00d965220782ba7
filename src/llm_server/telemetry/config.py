"""Settings of the telemetry room."""

from itertools import pairwise
from typing import IO, Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Seconds = Annotated[float, Field(gt=0)]


class TelemetryConfig(BaseModel):
    """What is measured and what is written about requests and about the server itself."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="The least serious messages of the server that are written."
    )
    log_format: Literal["auto", "json", "text"] = Field(
        default="auto",
        description="One JSON object a line for machines, or plain text; `auto` is text on a terminal.",
    )
    request_log: bool = Field(
        default=True, description="Write one JSON line for every request: numbers and names, never content."
    )
    log_flush_s: Seconds = Field(
        default=0.25, le=60, description="Seconds between two writes of the collected request lines."
    )
    log_buffer_lines: int = Field(
        default=10_000,
        ge=1,
        description="Request lines held between two writes; those beyond are counted and not written.",
    )
    metrics: bool = Field(default=True, description="Serve Prometheus metrics under `/metrics`.")
    metric_models: int = Field(
        default=500,
        ge=1,
        description="Distinct models that get metrics of their own; all others are counted as `other`.",
    )
    latency_buckets_s: tuple[Seconds, ...] = Field(
        default=(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60, 120, 300, 600),
        min_length=1,
        description="Upper bounds, in seconds, of the histogram buckets for latencies.",
    )

    @model_validator(mode="after")
    def _ascending(self) -> Self:
        buckets = self.latency_buckets_s
        if any(left >= right for left, right in pairwise(buckets)):
            raise ValueError("latency_buckets_s must be in ascending order, without repetitions")
        return self

    def as_json(self, stream: IO[Any]) -> bool:
        """Return whether what is written to ``stream`` is JSON."""
        return self.log_format == "json" or (self.log_format == "auto" and not stream.isatty())
