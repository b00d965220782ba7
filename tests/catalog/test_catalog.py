"""Facts: the shipped rules are sound, and the operator has the last word."""

import re
from fnmatch import translate
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_server.catalog import Catalog
from llm_server.catalog.catalog import CACHED, MAX_NAME, Rule, changes, shipped
from llm_server.contract import Facts, Sampling
from llm_server.providers.rows import ROWS

RULES = shipped()
CASES = [pytest.param(at, rule, id=f"{rule.at[0]}:{rule.match[0]}") for at, rule in enumerate(RULES)]
DEFAULT = Facts()
SAMPLING = {"temperature", "top_p", "presence_penalty", "frequency_penalty", "logit_bias"}


def matches(glob: str, name: str) -> bool:
    return re.match(translate(glob), name, re.IGNORECASE) is not None


def rows(rule: Rule) -> list[str]:
    return list(ROWS) if "*" in rule.at else list(rule.at)


@pytest.mark.parametrize(("at", "rule"), CASES)
def test_every_glob_has_a_documented_name_and_every_name_a_glob(at: int, rule: Rule) -> None:
    for glob in rule.match:
        assert any(matches(glob, name) for name in rule.names), f"{glob} matches no documented name"
    for name in rule.names:
        assert any(matches(glob, name) for glob in rule.match), f"{name} is matched by no glob"


@pytest.mark.parametrize(("at", "rule"), CASES)
def test_every_rule_cites_its_sources(at: int, rule: Rule) -> None:
    assert rule.sources
    assert all(source.startswith("https://") for source in rule.sources)


@pytest.mark.parametrize(("at", "rule"), CASES)
def test_every_rule_is_for_a_provider_that_exists(at: int, rule: Rule) -> None:
    assert set(rule.at) <= set(ROWS) | {"*"}


@pytest.mark.parametrize(("at", "rule"), CASES)
def test_no_rule_is_dead(at: int, rule: Rule) -> None:
    """Taking the rule away changes what is known of one of its names."""
    whole, without = Catalog(), Catalog(rules=RULES[:at] + RULES[at + 1 :])
    assert any(
        whole.lookup(row, name, ROWS[row].facts) != without.lookup(row, name, ROWS[row].facts)
        for row in rows(rule)
        for name in rule.names
    )


@pytest.mark.parametrize(("at", "rule"), CASES)
def test_refused_parameters_are_sampling_parameters(at: int, rule: Rule) -> None:
    assert set(rule.facts.get("refuses", ())) <= set(Sampling.__struct_fields__)


@pytest.mark.parametrize(
    ("provider", "model", "expected"),
    [
        (
            "openai",
            "gpt-4o",
            {"refuses": set(), "images": True, "reasoning": False, "context_tokens": 128_000},
        ),
        ("openai", "gpt-4", {"images": False, "json_schema": False, "context_tokens": 8_192}),
        ("openai", "o3", {"refuses": SAMPLING, "logprobs": False, "context_tokens": 200_000}),
        ("openai", "o3-pro", {"chat": False}),
        ("openai", "gpt-5-mini", {"refuses": SAMPLING, "reasoning": True, "context_tokens": 400_000}),
        ("openai", "gpt-5.2", {"refuses": set(), "logprobs": True, "context_tokens": 400_000}),
        ("openai", "gpt-5.2-pro", {"chat": False}),
        ("openai", "gpt-5.4", {"refuses": set(), "context_tokens": 1_050_000}),
        ("openai", "gpt-5.4-nano", {"refuses": set(), "context_tokens": 400_000}),
        ("openai", "gpt-5-chat-latest", {"refuses": set(), "context_tokens": 128_000}),
        ("openai", "gpt-6-sol", {"refuses": SAMPLING, "tools": True, "context_tokens": 1_050_000}),
        ("openai", "gpt-6-astra", {"tools": False}),
        ("openai", "gpt-7", {"chat": True, "refuses": set(), "context_tokens": None}),
        ("openai", "text-embedding-3-small", {"embeddings": True, "token_ids": True, "chat": False}),
        ("openai", "text-embedding-ada-002", {"embeddings": True, "dimensions": False}),
        ("openai", "gpt-3.5-turbo-instruct", {"completions": True, "chat": False, "context_tokens": 4_096}),
        ("openai", "ft:gpt-4o-mini:acme::1", {"chat": True, "embeddings": True}),
        ("azure", "gpt-35-turbo", {"images": False}),
        ("anthropic", "claude-3-haiku-20240307", {"reasoning": False, "max_output_tokens": 4_096}),
        ("anthropic", "claude-opus-4-1", {"json_schema": True, "max_output_tokens": 32_000}),
        ("anthropic", "claude-haiku-4-5-20251001", {"refuses": set(), "context_tokens": 200_000}),
        ("anthropic", "claude-sonnet-4-6", {"refuses": set(), "context_tokens": 1_000_000}),
        ("anthropic", "claude-opus-5-5", {"refuses": {"temperature", "top_p", "top_k"}}),
        ("gemini", "gemini-2.5-flash", {"choices": True, "refuses": set(), "max_output_tokens": 65_536}),
        ("gemini", "gemini-3.7-flash", {"choices": False, "refuses": {"temperature", "top_p", "top_k"}}),
        ("gemini", "gemini-embedding-001", {"embeddings": True, "chat": False, "context_tokens": 2_048}),
        ("mistral", "mistral-embed", {"embeddings": True, "dimensions": False}),
        ("mistral", "codestral-embed-2505", {"embeddings": True, "dimensions": True, "chat": False}),
        ("mistral", "mistral-large-2411", {"images": False, "reasoning": False}),
        ("groq", "openai/gpt-oss-20b", {"json_schema": True, "reasoning": True, "images": False}),
        ("groq", "llama-3.3-70b-versatile", {"json_schema": False, "max_output_tokens": 32_768}),
        ("cohere", "embed-v4.0", {"embeddings": True, "dimensions": True, "context_tokens": 128_000}),
        ("cohere", "command-a-03-2025", {"images": False, "tools": True, "context_tokens": 256_000}),
        ("deepseek", "deepseek-chat", {"images": False, "context_tokens": 1_000_000}),
        ("xai", "grok-4", {"refuses": {"presence_penalty", "frequency_penalty", "stop"}, "reasoning": False}),
        ("xai", "grok-4-fast-non-reasoning", {"refuses": set(), "context_tokens": 2_000_000}),
        ("meta", "Llama-3.3-70B-Instruct", {"images": False, "context_tokens": 128_000}),
        ("ollama", "nomic-embed-text", {"embeddings": True, "chat": False}),
        ("ollama", "llama3.2", {"chat": True, "tools": True}),
    ],
)
def test_well_known_models(provider: str, model: str, expected: dict[str, Any]) -> None:
    facts = Catalog().lookup(provider, model, ROWS[provider].facts)
    assert {name: getattr(facts, name) for name in expected} == expected


def test_an_unknown_model_has_the_defaults_of_its_provider() -> None:
    assert Catalog().lookup("somewhere", "something", DEFAULT) is DEFAULT


@pytest.mark.parametrize(
    ("provider", "model", "expected"),
    [
        ("openai", "gpt-4o", ("chat", "tools", "images", "json_schema")),
        ("openai", "gpt-7", ()),
        ("openrouter", "meta-llama/llama-9", ()),
        ("ollama", "llama3.2", ()),
        ("ollama", "nomic-embed-text", ("embeddings",)),
    ],
)
def test_capabilities_are_only_those_that_are_known(
    provider: str, model: str, expected: tuple[str, ...]
) -> None:
    assert Catalog().lookup(provider, model, ROWS[provider].facts).capabilities == expected


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"tool": True}, "unknown facts: tool"),
        ({"tools": "yes"}, "tools"),
        ({"context_tokens": 1.5}, "context"),
    ],
)
def test_a_wrong_fact_is_an_error(fields: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        changes(fields)


def test_the_second_look_up_is_the_same_object_until_the_default_changes() -> None:
    catalog = Catalog()
    first = catalog.lookup("openai", "o3", DEFAULT)
    assert catalog.lookup("openai", "o3", DEFAULT) is first
    assert catalog.lookup("openai", "o3", Facts(owner="me")).owner == "me"


def test_what_is_remembered_is_bounded() -> None:
    catalog = Catalog(rules=())
    for number in range(CACHED + 10):
        catalog.lookup("p", f"m{number}", DEFAULT)
    assert len(catalog._known) == CACHED
    assert ("p", "m0") not in catalog._known
    catalog.lookup("p", "m" * (MAX_NAME + 1), DEFAULT)
    assert len(catalog._known) == CACHED
    assert ("p", "m11") in catalog._known


@given(provider=st.sampled_from([*ROWS, "other"]), model=st.text(max_size=MAX_NAME + 10))
def test_any_name_has_facts(provider: str, model: str) -> None:
    assert isinstance(Catalog(rules=RULES).lookup(provider, model, DEFAULT), Facts)
