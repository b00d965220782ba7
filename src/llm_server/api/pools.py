"""The pools: how each upstream is doing, and who waits for it."""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta

from fastapi import APIRouter

from llm_server.api.schemas.pools import (
    BreakerDetails,
    ByPriority,
    Connections,
    HeldModel,
    PoolDetails,
    PoolList,
    QuotaDetails,
)
from llm_server.contract import PoolReport, Priority

Pools = Callable[[], Sequence[tuple[Sequence[str], PoolReport]]]
"""Tells of every pool, with the names of the providers that share it."""


def router(pools: Pools) -> APIRouter:
    """Return ``GET /v1/pools``."""
    routes = APIRouter(tags=["operations"])

    @routes.get("/v1/pools")
    async def pool_list() -> PoolList:
        """Tell of the connections to every provider: limit, queue, health, breaker and quotas.

        With several workers these are the ones of the worker that happens to answer; `/metrics` has sums.
        """
        return PoolList(data=[_details(names, report) for names, report in pools()])

    return routes


def _details(names: Sequence[str], report: PoolReport) -> PoolDetails:
    until = datetime.now(UTC) + timedelta(seconds=report.open_for_s) if report.open_for_s else None
    return PoolDetails.model_validate(
        {
            "providers": list(names),
            "origin": report.origin,
            "transport": report.transport,
            "connections": Connections.model_validate(report.connections),
            "limit": report.limit,
            "max_connections": report.max_connections,
            "busy": report.busy,
            "waiting": _by_priority(report.waiting),
            "shed": _by_priority(report.shed),
            "breaker": BreakerDetails.model_validate(
                {
                    "state": report.breaker,
                    "until": until,
                    "consecutive_failures": report.consecutive_failures,
                    "requests": report.requests,
                    "error_rate": report.error_rate,
                }
            ),
            "latency_ms": report.latency_s * 1000,
            "first_byte_ms": report.first_byte_s * 1000,
            "held": [HeldModel(model=model, for_s=for_s) for model, for_s in report.held.items()],
            "quotas": [
                QuotaDetails(name=each.name, remaining=each.remaining, reset_s=each.reset_s, age_s=each.age_s)
                for each in report.quotas
            ],
        }
    )


def _by_priority(counts: Mapping[Priority, int]) -> ByPriority:
    return ByPriority(**{priority.name.lower(): count for priority, count in counts.items()})
