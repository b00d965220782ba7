"""Answers about the pools."""

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, Field


class Connections(BaseModel):
    """Connections to an upstream."""

    open: int
    idle: int = Field(description="Open, and carrying no request.")
    opened: int = Field(description="Opened since the start.")
    reused: int = Field(description="Requests that were sent on a kept connection.")
    resent: int = Field(description="Requests sent again because a kept connection turned out to be closed.")


class ByPriority(BaseModel):
    """Requests by class of urgency."""

    interactive: int = 0
    default: int = 0
    batch: int = 0


class BreakerDetails(BaseModel):
    """Whether the upstream is left alone because it failed."""

    state: Literal["closed", "open", "half_open"]
    until: datetime | None = Field(description="When an open one lets a probe through.")
    consecutive_failures: int
    requests: int = Field(description="Requests that ended within the window that is looked at.")
    error_rate: float = Field(description="Share of failures among them, 0 to 1.")


class QuotaDetails(BaseModel):
    """What the upstream last said of one of its limits."""

    name: str
    remaining: str = Field(description="What was left, in the upstream's words.")
    reset_s: float | None = Field(description="Seconds until it is full again, from when it was said.")
    age_s: float = Field(description="Seconds since it was said.")


class HeldModel(BaseModel):
    """A model that is not asked now because the upstream said so."""

    model: str = Field(description="The provider's name of it; empty for all of them.")
    for_s: float


class PoolDetails(BaseModel):
    """The way to one upstream."""

    providers: list[str] = Field(description="Names of the providers that share it.")
    origin: str = Field(examples=["https://api.example.com"])
    transport: Literal["direct", "aiohttp"]
    connections: Connections
    limit: int = Field(description="Requests that may be under way now; follows what the upstream can take.")
    max_connections: int = Field(description="What is configured: the limit never rises above it.")
    busy: int = Field(description="Requests under way.")
    waiting: ByPriority = Field(description="Requests that wait for a place.")
    shed: ByPriority = Field(description="Requests sent away since the start for want of a place in time.")
    breaker: BreakerDetails
    latency_ms: float = Field(description="Smoothed time of an exchange; 0 before the first.")
    first_byte_ms: float = Field(description="Smoothed time until a stream's first byte; 0 before the first.")
    held: list[HeldModel]
    quotas: list[QuotaDetails]


class PoolList(BaseModel):
    """The pools of the process that answers; others have their own."""

    data: list[PoolDetails]
