"""What a pool tells of itself, for the operator."""

from collections.abc import Mapping

from msgspec import Struct

from llm_server.contract.context import Priority


class QuotaReport(Struct, frozen=True, kw_only=True):
    """What an upstream last said of one of its limits."""

    name: str
    remaining: str
    """In the upstream's words."""
    reset_s: float | None = None
    """Seconds from that answer until the limit is full again, where it said so."""
    age_s: float = 0.0
    """Seconds since that answer."""


class PoolReport(Struct, frozen=True, kw_only=True):
    """One upstream as its pool sees it now. Times are seconds; 0.0 where nothing was measured yet."""

    origin: str
    """Scheme, host and port; never a credential."""
    transport: str
    connections: Mapping[str, int]
    """``open``, ``idle``, and since the start ``opened``, ``reused``, ``resent``."""
    limit: int
    max_connections: int
    busy: int
    waiting: Mapping[Priority, int]
    shed: Mapping[Priority, int]
    """Requests sent away since the start."""
    breaker: str
    open_for_s: float = 0.0
    """Seconds until an open breaker lets a probe through."""
    consecutive_failures: int
    requests: int
    """Requests that ended within the breaker's window."""
    error_rate: float
    latency_s: float
    first_byte_s: float
    held: Mapping[str, float] = {}
    """Models that may not be asked for so many seconds, because the upstream said so; empty name: all."""
    quotas: tuple[QuotaReport, ...] = ()
