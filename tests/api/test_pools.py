"""``GET /v1/pools``: what the operator sees of each upstream."""

from datetime import UTC, datetime

import pytest

from llm_server.api.pools import router
from llm_server.contract import PoolReport, Priority, QuotaReport
from tests.end_to_end.front import CANARY, before, fronting, provider
from tests.upstreams.script import Head, Script
from tests.upstreams.server import scripted

REPORT = PoolReport(
    origin="https://x",
    transport="direct",
    connections={"open": 3, "idle": 1, "opened": 9, "reused": 40, "resent": 1},
    limit=12,
    max_connections=256,
    busy=2,
    waiting={Priority.INTERACTIVE: 1, Priority.BATCH: 5},
    shed={Priority.BATCH: 7},
    breaker="open",
    open_for_s=30.0,
    consecutive_failures=5,
    requests=20,
    error_rate=0.5,
    latency_s=1.5,
    first_byte_s=0.25,
    held={"m": 4.0},
    quotas=(QuotaReport(name="requests", remaining="0", reset_s=6.0, age_s=1.0),),
)


async def test_everything_in_a_report_is_told() -> None:
    (route,) = router(lambda: [(("a", "b"), REPORT)]).routes
    told = (await route.endpoint()).model_dump(mode="json")["data"][0]  # type: ignore[attr-defined]  # a route
    until = datetime.fromisoformat(told["breaker"].pop("until"))
    assert 20 < (until - datetime.now(UTC)).total_seconds() <= 30
    assert told == {
        "providers": ["a", "b"],
        "origin": "https://x",
        "transport": "direct",
        "connections": {"open": 3, "idle": 1, "opened": 9, "reused": 40, "resent": 1},
        "limit": 12,
        "max_connections": 256,
        "busy": 2,
        "waiting": {"interactive": 1, "default": 0, "batch": 5},
        "shed": {"interactive": 0, "default": 0, "batch": 7},
        "breaker": {"state": "open", "consecutive_failures": 5, "requests": 20, "error_rate": 0.5},
        "latency_ms": 1500.0,
        "first_byte_ms": 250.0,
        "held": [{"model": "m", "for_s": 4.0}],
        "quotas": [{"name": "requests", "remaining": "0", "reset_s": 6.0, "age_s": 1.0}],
    }


async def test_pools_are_listed_once_for_all_that_share_them_and_without_credentials() -> None:
    async with scripted(Script((Head(500, {}, 2), b"no"))) as up:
        first, other = provider(up, "openai"), provider(up, "groq")
        async with fronting({"one": first, "two": first, "three": other}) as front:
            async with front.http.get("/v1/pools") as response:
                told, text = await response.json(), await response.text()
            assert response.status == 200
            assert CANARY not in text
            assert [pool["providers"] for pool in told["data"]] == [["one", "two"], ["three"]]
            assert {pool["origin"] for pool in told["data"]} == {up.url}
            async with front.http.get("/metrics") as response:
                metrics = await response.text()
            assert 'llm_server_pool_connection_limit{provider="one"}' in metrics
            assert 'llm_server_pool_connection_limit{provider="two"}' not in metrics


async def test_an_ejected_provider_is_seen_there_and_refused_with_a_time() -> None:
    ask = {"model": "openai/gpt-x", "messages": [{"role": "user", "content": "x"}]}
    refusing = Script((Head(500, {"content-type": "application/json"}, 2), b"{}"))
    async with before("openai", refusing) as (front, up):
        statuses = []
        while 503 not in statuses:
            async with front.http.post("/v1/chat/completions", json=ask) as response:
                statuses.append(response.status)
        assert int(response.headers["retry-after"]) in range(4, 8)
        assert len(up.requests) == 5
        async with front.http.get("/v1/pools") as response:
            (pool,) = (await response.json())["data"]
        assert (pool["breaker"]["state"], pool["breaker"]["consecutive_failures"]) == ("open", 5)
        assert pool["breaker"]["until"] is not None
        assert await front.metric("llm_server_pool_ejected", provider="openai") == 1


@pytest.mark.parametrize("path", ["/v1/pools"])
async def test_the_document_describes_it(path: str) -> None:
    async with before("openai") as (front, _), front.http.get("/openapi.json") as response:
        document = await response.json()
    operation = document["paths"][path]["get"]
    assert operation["description"]
    reference = operation["responses"]["200"]["content"]["application/json"]["schema"]["$ref"]
    assert reference.endswith("/PoolList")
    fields = document["components"]["schemas"]["PoolDetails"]["properties"]
    assert fields["limit"]["description"]
