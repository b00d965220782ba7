"""What each provider's headers mean, as its corpus and its documentation have them."""

from datetime import UTC, datetime, timedelta
from types import MappingProxyType

import pytest

from llm_server.contract import Secret
from llm_server.pool import PoolConfig
from llm_server.pool.quota import Quota
from llm_server.providers import ROWS, ProviderConfig, build, quotas, upstreams
from llm_server.providers.building import pool_settings
from tests.upstreams.cases import VENDORS, refusals


def held_s(row: str, status: int, headers: dict[str, str]) -> float:
    quota = Quota(ROWS[row].quotas)
    quota.read(status, MappingProxyType(headers), "m", 1000.0)
    return quota.wait_s("m", 1000.0)


def later(by_s: float) -> str:
    return (datetime.now(UTC) + timedelta(seconds=by_s)).strftime("%Y-%m-%dT%H:%M:%SZ")


@pytest.mark.parametrize(
    ("row", "status", "headers", "expected_s"),
    [
        ("openai", 200, {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "6m0s"}, 36.0),
        ("openai", 200, {"x-ratelimit-remaining-tokens": "5", "x-ratelimit-reset-tokens": "6m0s"}, 0.0),
        ("openai", 429, {"retry-after": "1", "retry-after-ms": "644"}, 0.644),
        ("groq", 429, {"retry-after": "5", "x-ratelimit-remaining-tokens": "0"}, 5.0),
        ("azure", 200, {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "10"}, 1.0),
        ("anthropic", 429, {"retry-after": "13", "anthropic-ratelimit-input-tokens-remaining": "0"}, 13.0),
        ("together", 200, {"x-ratelimit-remaining": "0", "x-ratelimit-reset": "2"}, 2.0),
        ("gemini", 503, {"retry-after": "4"}, 4.0),
        ("mistral", 429, {}, 0.0),
    ],
)
def test_headers_by_row(row: str, status: int, headers: dict[str, str], expected_s: float) -> None:
    assert held_s(row, status, headers) == pytest.approx(expected_s)


def test_times_of_day_are_waited_for() -> None:
    anthropic = {
        "anthropic-ratelimit-requests-remaining": "0",
        "anthropic-ratelimit-requests-reset": later(60),
    }
    assert held_s("anthropic", 200, anthropic) == pytest.approx(6.0, abs=0.3)
    until_ms = (datetime.now(UTC) + timedelta(seconds=20)).timestamp() * 1000
    openrouter = {"x-ratelimit-remaining": "0", "x-ratelimit-reset": str(int(until_ms))}
    assert held_s("openrouter", 429, openrouter) == pytest.approx(20.0, abs=1.0)


@pytest.mark.parametrize("text", ["", "soon", "-1", "nan", "1e999", "2025-13-45", "9" * 400])
def test_what_makes_no_sense_holds_nobody(text: str) -> None:
    for read in (quotas.seconds, quotas.rfc3339, quotas.unix_ms):
        found = read(text)
        assert found is None or 0 <= found < float("inf")


@pytest.mark.parametrize("vendor", VENDORS)
def test_refusals_of_the_corpus_are_believed_within_bounds(vendor: str) -> None:
    row = vendor if vendor in ROWS else "openai-compatible"
    for refusal in refusals(vendor):
        headers = {name.lower(): value for name, value in refusal.headers.items()}
        waited_s = held_s(row, refusal.status, headers)
        assert 0 <= waited_s <= 300
        assert waited_s == 0 or refusal.status in {429, 503, 529}


def no_facts(_name: str, _model: str, facts: object) -> object:
    return facts


def grouped(**configs: dict[str, object]) -> list[tuple[str, ...]]:
    built = build(
        {name: ProviderConfig.model_validate(config) for name, config in configs.items()},
        no_facts,  # type: ignore[arg-type]  # facts are not asked for
    )
    return [names for names, _ in upstreams(built.values())]


def test_providers_with_the_same_origin_credential_and_settings_share_a_pool() -> None:
    here: dict[str, object] = {"base_url": "http://gpu/v1", "api_key": "k1"}
    assert grouped(
        one=here,
        same=here,
        elsewhere={**here, "base_url": "http://gpu/other/v1"},
        capital={**here, "base_url": "http://GPU/v1"},
        other_key={**here, "api_key": "k2"},
        other_host={**here, "base_url": "http://gpu2/v1"},
        other_settings={**here, "pool": {"max_connections": 3}},
        more_headers={**here, "headers": {"x-team": "blue"}},
    ) == [
        ("one", "same", "elsewhere", "capital"),
        ("other_key",),
        ("other_host",),
        ("other_settings",),
        ("more_headers",),
    ]


def test_a_path_that_is_probed_is_part_of_what_is_shared() -> None:
    probed = {"api_key": "k", "pool": {"breaker": {"probe_path": "health"}}}
    found = grouped(one={**probed, "base_url": "http://gpu/a"}, two={**probed, "base_url": "http://gpu/b"})
    assert found == [("one",), ("two",)]


def test_settings_of_a_row_are_below_those_of_the_operator() -> None:
    openai, plain = ROWS["openai"], ROWS["vllm"]
    assert pool_settings(plain, PoolConfig(), None) == PoolConfig()
    assert pool_settings(openai, PoolConfig(), None).first_byte_timeout_s == 600
    assert pool_settings(openai, PoolConfig(first_byte_timeout_s=9), None).first_byte_timeout_s == 9
    both = pool_settings(openai, PoolConfig(first_byte_timeout_s=9), PoolConfig(max_connections=7))
    assert (both.first_byte_timeout_s, both.max_connections) == (600, 7)


@pytest.mark.parametrize("name", [row.name for row in ROWS.values() if row.pool])
def test_settings_of_rows_are_settings(name: str) -> None:
    settings = pool_settings(ROWS[name], PoolConfig(), None)
    assert settings != PoolConfig()
    assert PoolConfig.model_validate(settings.model_dump()) == settings


async def test_closing_providers_that_share_a_pool_closes_it_once_and_for_all() -> None:
    config = ProviderConfig(base_url="http://127.0.0.1:9/v1", api_key=Secret("k"))
    built = build({"a": config, "b": config}, no_facts)  # type: ignore[arg-type]  # facts are not asked for
    for provider in built.values():
        await provider.close()
