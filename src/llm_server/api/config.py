"""Settings of the api room."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

PriorityHeader = Literal["lower", "any", "ignore"]


class ApiConfig(BaseModel):
    """Limits and manners of the HTTP side."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_body_bytes: int = Field(
        default=32 * 1024 * 1024, ge=1024, description="Larger request bodies are refused with 413."
    )
    max_header_bytes: int = Field(
        default=32 * 1024,
        ge=1024,
        le=1024 * 1024,
        description="Longer request lines and headers, taken together, are refused with 431.",
    )
    header_timeout_s: float = Field(
        default=10.0, gt=0, description="Seconds in which the headers of a request must be complete."
    )
    body_idle_timeout_s: float = Field(
        default=10.0, gt=0, description="Seconds for which a client may send nothing of an unfinished body."
    )
    send_timeout_s: float = Field(
        default=60.0, gt=0, description="Seconds for which a client may take nothing of an answer that waits."
    )
    keepalive_s: float = Field(
        default=15.0,
        gt=0,
        description="Seconds of silence after which a stream gets a keep-alive, where its dialect has one.",
    )
    request_timeout_s: float = Field(
        default=600.0,
        gt=0,
        description="Seconds after which a request is given up, whatever the upstream does. A caller may ask"
        " for less with the header `x-llm-server-timeout` (`30`, `500ms`).",
    )
    priority_header: PriorityHeader = Field(
        default="lower",
        description="What callers may ask for with the header `x-llm-server-priority` (`interactive`,"
        " `default`, `batch`): `any`; only to be served `lower`, where `interactive` counts as `default`; or"
        " `ignore` it.",
    )
    hot_lane: bool = Field(
        default=True,
        description="Serve the hot routes beside ASGI, by which they cost less than half. The answers are the"
        " same.",
    )
