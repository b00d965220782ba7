"""The files that people and their editors read are true."""

import json
import re
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import yaml
from pydantic import BaseModel

from llm_server.engine import ModelConfig
from llm_server.providers import ProviderConfig
from llm_server.routing.config import HedgeConfig, RouteConfig
from llm_server.settings import Settings, load
from llm_server.settings.schema import schema, text

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "config.example.yaml"
SCHEMA = ROOT / "config.schema.json"
ENV = {"OPENAI_API_KEY": "sk-1", "OPENAI_BATCH_KEY": "sk-2", "AZURE_OPENAI_API_KEY": "sk-3"}
SECTIONS = ("server", "api", "retry", "engine", "pool", "batching", "structured", "batches", "telemetry")


def valid(value: Any) -> bool:
    return jsonschema_rs.validator_for(schema()).is_valid(value)


def example() -> dict[str, Any]:
    read: dict[str, Any] = yaml.safe_load(EXAMPLE.read_text(encoding="utf-8"))
    return read


def test_the_committed_schema_is_current() -> None:
    assert SCHEMA.read_text(encoding="utf-8") == text(), (
        "python -m llm_server.settings.schema > config.schema.json"
    )


def test_the_example_validates_and_names_the_schema() -> None:
    assert valid(example())
    assert EXAMPLE.read_text(encoding="utf-8").startswith(
        "# yaml-language-server: $schema=./config.schema.json\n"
    )


def test_the_example_loads() -> None:
    loaded = load(config=EXAMPLE, env=ENV)
    assert loaded.settings.provider_names == {"openai", "openai-batch", "azure", "my-vllm", "local"}
    assert loaded.settings.models["fast"].targets == ("my-vllm/llama-3.3-70b", "openai/gpt-5-mini")


def test_the_example_shows_every_setting_with_its_default() -> None:
    shown, settings = load(config=EXAMPLE, env=ENV).settings, Settings()
    written = example()
    assert written.keys() == Settings.model_fields.keys()
    for section in SECTIONS:
        assert written[section].keys() == getattr(settings, section).__class__.model_fields.keys()
        assert getattr(shown, section) == getattr(settings, section)
    for section in ("adaptive", "breaker"):
        assert (
            written["pool"][section].keys() == getattr(settings.pool, section).__class__.model_fields.keys()
        )
    assert written["engine"]["models"][0].keys() == ModelConfig.model_fields.keys()
    assert (shown.discover, shown.default_model) == (settings.discover, settings.default_model)


def test_the_example_shows_every_setting_of_a_route() -> None:
    assert example()["models"]["careful"].keys() == RouteConfig.model_fields.keys()
    assert example()["models"]["careful"]["hedge"].keys() == HedgeConfig.model_fields.keys()


def test_the_example_shows_every_setting_of_a_provider() -> None:
    shown = {setting for provider in example()["providers"].values() for setting in provider}
    assert shown == ProviderConfig.model_fields.keys()


def test_every_variable_of_the_example_is_tried_here() -> None:
    needed = set(re.findall(r"\$\{(\w+)\}", re.sub("#.*", "", EXAMPLE.read_text(encoding="utf-8"))))
    assert needed == ENV.keys()


def models(of: type[BaseModel]) -> set[type[BaseModel]]:
    found = {of}
    for field in of.model_fields.values():
        for each in re.findall(r"llm_server[\w.]+", str(field.annotation)):
            module, _, name = each.rpartition(".")
            kind = getattr(__import__(module, fromlist=[name]), name, None)
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                found |= models(kind)
    return found


@pytest.mark.parametrize("model", sorted(models(Settings), key=lambda each: each.__name__))
def test_every_section_is_frozen_and_refuses_what_it_does_not_know(model: type[BaseModel]) -> None:
    assert model.model_config.get("frozen") is True
    assert model.model_config.get("extra") == "forbid"


@pytest.mark.parametrize(
    ("value", "accepted"),
    [
        ({}, True),
        ({"server": {"port": 80}}, True),
        ({"server": {"port": "${PORT}"}}, True),
        ({"server": {"port": "${PORT:-80}"}}, True),
        ({"server": {"port": "eighty"}}, False),
        ({"server": {"port": 70000}}, False),
        ({"server": {"prot": 80}}, False),
        ({"telemetry": {"log_level": "${LEVEL}"}}, True),
        ({"telemetry": {"log_level": "loud"}}, False),
        ({"models": {"fast": "a/b", "slow": ["a/b", "c/d"]}}, True),
        ({"models": {"fast": []}}, False),
        ({"models": {"fast": 1}}, False),
        ({"models": {"fast": {"targets": ["a/b"], "retry": {"attempts": 2}}}}, True),
        ({"models": {"fast": {"retry": {"attempts": 2}}}}, False),
        ({"models": {"fast": {"targets": ["a/b"], "retries": 2}}}, False),
        ({"retry": {"where": {"upstream_timeout": "anywhere"}}}, True),
        ({"retry": {"where": {"upstream_timeout": "sometimes"}}}, False),
        ({"providers": {"x": {"base_url": "http://x", "api_key": "k"}}}, True),
        ({"providers": {"x": {"base": "http://x"}}}, False),
    ],
)
def test_the_schema_accepts_what_the_server_accepts(value: Any, accepted: bool) -> None:
    assert valid(value) is accepted


def test_the_schema_is_itself_valid_and_describes_every_setting() -> None:
    made = schema()
    jsonschema_rs.meta.validate(made)
    assert made == json.loads(text())
    assert [
        name for name, each in made["properties"].items() if not {"description", "$ref"} & each.keys()
    ] == []
