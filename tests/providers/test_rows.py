"""The rows are complete and consistent, and the environment finds them."""

from typing import Any

import pytest
from msgspec import structs
from pydantic import ValidationError

from llm_server.contract import Facts, Secret
from llm_server.pool import PoolConfig
from llm_server.providers import ROWS, FactsConfig, ProviderConfig, Row, build, discover
from llm_server.providers.building import DIALECTS, overlaid, quirks, row_of
from llm_server.providers.discovery import address

KEY = "sk-canary-0123456789"


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_row_is_complete(row: Row) -> None:
    assert row.dialect in DIALECTS
    assert row.docs
    assert all(source.startswith("https://") for source in row.docs)
    assert set(row.needs) <= {"key", "url"}
    assert row.needs
    assert row.base_url or "url" in row.needs
    assert not row.base_url.endswith("/")
    assert row.base_url.startswith("https://") or "127.0.0.1" in row.base_url or not row.base_url
    assert row.key_header == row.key_header.lower()
    assert not (row.suffix and row.base_url.endswith(row.suffix))


def test_no_two_rows_claim_a_variable() -> None:
    claimed = [name for row in ROWS.values() for name in (*row.key_env, *row.url_env)]
    assert sorted(set(claimed)) == sorted(claimed)


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_row_is_found_by_what_it_needs_and_by_nothing_less(row: Row) -> None:
    env = {"key": row.key_env, "url": row.url_env}
    full = {env[need][0]: {"key": KEY, "url": "http://127.0.0.1:9"}[need] for need in row.needs}
    found = discover(full)
    assert list(found) == [row.name]
    assert list(build(found, lambda _name, _model, facts: facts)) == [row.name]
    for name in full:
        assert discover({**full, name: " "}) == {}


def test_first_variable_that_is_set_counts() -> None:
    found = discover({"GOOGLE_API_KEY": "b", "GEMINI_API_KEY": "a"})["gemini"]
    assert found.api_key == Secret("a")
    assert discover({"GOOGLE_API_KEY": "b"})["gemini"].api_key == Secret("b")


def test_openai_headers_and_azure_version_come_from_the_environment() -> None:
    found = discover(
        {"OPENAI_API_KEY": KEY, "OPENAI_ORG_ID": "org-1", "OPENAI_BASE_URL": "https://eu.api.openai.com/v1/"}
    )
    assert found["openai"].headers == {"openai-organization": Secret("org-1")}
    assert found["openai"].base_url == "https://eu.api.openai.com/v1"
    azure = {"AZURE_OPENAI_API_KEY": KEY, "AZURE_OPENAI_ENDPOINT": "https://r.openai.azure.com/"}
    assert discover(azure | {"OPENAI_API_VERSION": "2024-10-21"})["azure"].api_version == "2024-10-21"


def test_url_that_nothing_could_use_finds_nothing() -> None:
    assert discover({"VLLM_BASE_URL": "ftp://x"}) == {}
    assert discover({"VLLM_BASE_URL": "http://user:pass@x"}) == {}


@pytest.mark.parametrize(
    ("name", "given", "expected"),
    [
        ("ollama", "0.0.0.0", "http://127.0.0.1:11434"),
        ("ollama", "0.0.0.0:80", "http://127.0.0.1:80"),
        ("ollama", ":8080", "http://127.0.0.1:8080"),
        ("ollama", "gpu.lan", "http://gpu.lan:11434"),
        ("ollama", "gpu.lan:1", "http://gpu.lan:1"),
        ("ollama", "[::1]", "http://[::1]:11434"),
        ("ollama", "[::1]:1", "http://[::1]:1"),
        ("ollama", "https://gpu.lan", "https://gpu.lan"),
        ("ollama", "http://gpu.lan:1/v1/", "http://gpu.lan:1"),
        ("ollama", "http://gpu.lan:1/proxy/v1", "http://gpu.lan:1/proxy"),
        ("azure", "https://r.openai.azure.com/openai/v1/", "https://r.openai.azure.com"),
        ("anthropic", "https://api.anthropic.com/v1", "https://api.anthropic.com"),
        ("vllm", "http://gpu.lan:8000/v1", "http://gpu.lan:8000/v1"),
    ],
)
def test_addresses_in_their_usual_short_forms(name: str, given: str, expected: str) -> None:
    assert address(ROWS[name], given) == expected


@pytest.mark.parametrize(
    ("name", "config", "row"),
    [
        ("groq", {}, "groq"),
        ("fast", {"row": "groq"}, "groq"),
        ("groq", {"row": "vllm"}, "vllm"),
        ("mine", {}, "openai-compatible"),
        ("mine", {"dialect": "openai"}, "openai-compatible"),
        ("mine", {"dialect": "anthropic"}, "anthropic"),
        ("openai", {"dialect": "anthropic"}, "anthropic"),
        ("openai", {"dialect": "openai"}, "openai"),
    ],
)
def test_configuration_means_a_row(name: str, config: dict[str, Any], row: str) -> None:
    assert row_of(name, ProviderConfig(**config)).name == row


def test_dated_api_is_used_only_for_a_date_and_only_where_there_is_one() -> None:
    azure, openai = ROWS["azure"], ROWS["openai"]
    assert quirks(azure, None) == quirks(azure, "v1") == azure.quirks
    assert quirks(azure, "2024-10-21").query == "?api-version=2024-10-21"
    assert quirks(openai, "2024-10-21") == openai.quirks


def test_disabled_providers_are_not_built_and_unknown_ones_need_a_url() -> None:
    assert build({"openai": ProviderConfig(enabled=False)}, lambda _name, _model, facts: facts) == {}
    with pytest.raises(ValueError, match=r"providers\.mine\.base_url: required"):
        build({"mine": ProviderConfig()}, lambda _name, _model, facts: facts)


def test_facts_are_the_configurations_over_the_catalogs_over_the_rows() -> None:
    config = ProviderConfig(
        base_url="http://x",
        facts={"*": FactsConfig(tools=False), "big-*": FactsConfig(tools=True, max_output_tokens=9)},
    )
    asked: list[tuple[str, str]] = []

    def catalog(name: str, model: str, facts: Facts) -> Facts:
        asked.append((name, model))
        return structs.replace(facts, images=False)

    provider = build({"mine": config}, catalog)["mine"]
    assert provider.facts("small") == structs.replace(
        ROWS["openai-compatible"].facts, images=False, tools=False, known=frozenset({"tools"})
    )
    assert provider.facts("big-1").max_output_tokens == 9
    assert provider.facts("big-1").tools
    assert asked == [("mine", "small"), ("mine", "big-1")]
    assert overlaid("x", Facts(), ProviderConfig()) == Facts()


def test_facts_can_all_be_configured() -> None:
    ours = {"owner", "created", "known", "forced_tools", "schema_rules"}
    ours |= {name for name in Facts.__struct_fields__ if name.startswith("grammar")}
    assert set(FactsConfig.model_fields) == set(Facts.__struct_fields__) - ours


def test_secrets_are_read_and_never_shown() -> None:
    config = ProviderConfig(api_key=KEY, headers={"x-extra": KEY}, pool=PoolConfig())  # type: ignore[arg-type,dict-item]  # as a file has them
    assert config.api_key == Secret(KEY)
    for shown in (repr(config), str(config), config.model_dump_json(), repr(config.model_dump(mode="json"))):
        assert KEY not in shown
    assert ProviderConfig.model_validate(config.model_dump()) == config
    properties = ProviderConfig.model_json_schema()["properties"]
    assert properties["api_key"]["anyOf"][0] == {"type": "string", "format": "password", "writeOnly": True}


@pytest.mark.parametrize(
    "wrong",
    [
        {"api_key": [KEY]},
        {"base_url": f"ftp://{KEY}"},
        {"base_url": f"http://u:{KEY}@x"},
        {"base_url": f"http://x?key={KEY}"},
        {"base_url": "http://"},
        {"headers": {"bad name": KEY}},
        {"api_version": f"2024?key={KEY}"},
        {"row": "no-such"},
        {"dialect": "no-such"},
        {"api_kee": KEY},
    ],
)
def test_wrong_configuration_is_refused_without_repeating_it(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError) as caught:
        ProviderConfig.model_validate(wrong)
    assert KEY not in str(caught.value)
