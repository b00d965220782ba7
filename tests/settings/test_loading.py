import pickle
from collections.abc import Callable
from itertools import chain, combinations
from pathlib import Path

import pytest
from pydantic import ValidationError

from llm_server.contract import Secret
from llm_server.settings import Loaded, ServerConfig, Settings, SettingsError, load
from tests.settings.conftest import Load

Complaints = Callable[..., list[str]]
KEY = "sk-test-1234567890"
SOURCES = ("file", "environment", "flag")
SUBSETS = list(chain.from_iterable(combinations(SOURCES, size) for size in range(4)))
ORIGINS = {
    "file": "file llm-server.yaml:2",
    "environment": "environment LLM_SERVER__SERVER__PORT",
    "flag": "flag --port",
}


def origins(loaded: Loaded) -> dict[str, str]:
    return {".".join(map(str, path)): str(origin) for path, _, origin in loaded.effective()}


def test_without_anything_there_are_the_defaults(here: Path) -> None:
    loaded = load(env={})
    assert loaded.settings == Settings()
    assert loaded.file is None
    assert set(origins(loaded).values()) == {"default"}


@pytest.mark.parametrize("given", SUBSETS)
def test_flags_go_over_the_environment_over_the_file_over_defaults(
    loaded: Load, given: tuple[str, ...]
) -> None:
    port = {"file": 1, "environment": 2, "flag": 3}
    found = loaded(
        "server:\n  port: 1\n" if "file" in given else "",
        {"LLM_SERVER__SERVER__PORT": "2"} if "environment" in given else {},
        **({"server__port": ("--port", 3)} if "flag" in given else {}),
    )
    assert found.settings.server.port == (port[given[-1]] if given else 8000)
    assert origins(found)["server.port"] == (ORIGINS[given[-1]] if given else "default")
    assert origins(found)["server.host"] == "default"


def test_a_discovered_provider_lies_under_every_other_source(loaded: Load) -> None:
    env = {"OPENAI_API_KEY": KEY, "GROQ_API_KEY": "gsk-1", "LLM_SERVER__PROVIDERS__GROQ__API_KEY": "gsk-2"}
    found = loaded("providers: {openai: {models: [a]}}", env)
    assert found.settings.providers["openai"].api_key == Secret(KEY)
    assert found.settings.providers["openai"].models == ("a",)
    assert found.settings.providers["groq"].api_key == Secret("gsk-2")
    assert origins(found)["providers.openai.api_key"] == "discovered OPENAI_API_KEY"
    assert origins(found)["providers.openai.models"] == "file llm-server.yaml:1"
    assert origins(found)["providers.groq.api_key"] == "environment LLM_SERVER__PROVIDERS__GROQ__API_KEY"


def test_every_variable_of_a_discovered_provider_is_named(loaded: Load) -> None:
    env = {"OPENAI_API_KEY": KEY, "OPENAI_BASE_URL": "http://proxy/v1", "OPENAI_ORG_ID": "org-1"}
    found = origins(loaded("", env))
    assert {name: origin for name, origin in found.items() if name.startswith("providers.")} == {
        "providers.openai.api_key": "discovered OPENAI_API_KEY",
        "providers.openai.base_url": "discovered OPENAI_BASE_URL",
        "providers.openai.headers.openai-organization": "discovered OPENAI_ORG_ID",
    }


@pytest.mark.parametrize("setting", ["base_url: http://elsewhere/v1", "row: deepseek", "dialect: gemini"])
def test_a_discovered_key_goes_to_no_other_address(loaded: Load, setting: str) -> None:
    found = loaded(f"providers: {{groq: {{{setting}, headers: {{x-key: mine}}}}}}", {"GROQ_API_KEY": KEY})
    assert found.settings.providers["groq"].api_key is None
    assert KEY not in str(found.values)


@pytest.mark.parametrize("url", ["foo", "foo/v1", " foo ", "localhost"])
def test_a_bare_word_in_a_variable_for_a_url_is_a_problem(
    loaded: Load, complaints: Complaints, url: str
) -> None:
    env = {"OPENAI_COMPATIBLE_BASE_URL": url}
    assert complaints("", env) == [
        "discovered OPENAI_COMPATIBLE_BASE_URL: providers.openai-compatible.base_url "
        "is no URL: write it with http:// or https://"
    ]
    assert loaded("discover: false", env).settings.providers == {}
    elsewhere = "providers: {openai-compatible: {base_url: http://elsewhere/v1}}"
    assert loaded(elsewhere, env).settings.providers["openai-compatible"].base_url == "http://elsewhere/v1"


@pytest.mark.parametrize(
    ("variable", "url", "expected"),
    [
        ("VLLM_BASE_URL", "http://gpu/v1", "http://gpu/v1"),
        ("VLLM_BASE_URL", "gpu:8000/v1", "http://gpu:8000/v1"),
        ("VLLM_BASE_URL", "gpu.lan/v1", "http://gpu.lan/v1"),
        ("OLLAMA_HOST", "gpu", "http://gpu:11434"),
    ],
)
def test_short_forms_that_can_be_meant_are_none(loaded: Load, variable: str, url: str, expected: str) -> None:
    (provider,) = loaded("", {variable: url}).settings.providers.values()
    assert provider.base_url == expected


def test_discovery_can_be_turned_off_by_any_source(loaded: Load) -> None:
    env = {"OPENAI_API_KEY": KEY}
    assert loaded("", env).settings.providers.keys() == {"openai"}
    assert loaded("discover: false", env).settings.providers == {}
    assert loaded("", env | {"LLM_SERVER__DISCOVER": "False"}).settings.providers == {}
    assert loaded("discover: false", env | {"LLM_SERVER__DISCOVER": "1"}).settings.providers.keys() == {
        "openai"
    }
    assert loaded("", env, discover=("--discover", False)).settings.providers == {}


def test_the_data_directory_follows_the_desktop_standard(loaded: Load) -> None:
    found = loaded("", {"XDG_DATA_HOME": "/data"})
    assert found.settings.engine.data_dir == Path("/data/llm-server")
    assert origins(found)["engine.data_dir"] == "discovered XDG_DATA_HOME"
    chosen = loaded("engine: {data_dir: /models}", {"XDG_DATA_HOME": "/data"})
    assert chosen.settings.engine.data_dir == Path("/models")


@pytest.mark.parametrize(
    ("variable", "value", "path", "expected"),
    [
        ("SERVER__WORKERS", "4", "server.workers", 4),
        ("API__KEEPALIVE_S", "2.5", "api.keepalive_s", 2.5),
        ("POOL__PROXY_FROM_ENV", "true", "pool.proxy_from_env", True),
        ("TELEMETRY__LATENCY_BUCKETS_S", "[1, 2]", "telemetry.latency_buckets_s", (1, 2)),
        ("PROVIDERS__MY_VLLM__MODELS", '["a"]', "providers.my-vllm.models", ("a",)),
        ("PROVIDERS__MY_VLLM__POOL__MAX_WAITING", "0", "providers.my-vllm.pool.max_waiting", 0),
        ("DEFAULT_MODEL", "my-vllm/a", "default_model", "my-vllm/a"),
        ("MODELS__FAST", "my-vllm/a", "models.fast", ("my-vllm/a",)),
        ("MODELS", '{"Fast": ["my-vllm/a"]}', "models.Fast", ("my-vllm/a",)),
    ],
)
def test_the_environment_reaches_every_setting(
    loaded: Load, variable: str, value: str, path: str, expected: object
) -> None:
    found = loaded("providers: {my-vllm: {base_url: http://x/v1}}", {f"LLM_SERVER__{variable}": value})
    effective = {".".join(map(str, place)): setting for place, setting, _ in found.effective()}
    assert effective[path] == expected
    assert origins(found)[path] == f"environment LLM_SERVER__{variable}"


def test_a_key_in_the_environment_stays_text_whatever_it_looks_like(loaded: Load) -> None:
    for key in ("12345678", "true", "null", "[no json", "{"):
        env = {"LLM_SERVER__PROVIDERS__OPENAI__API_KEY": key}
        assert loaded("", env).settings.providers["openai"].api_key == Secret(key)


def test_the_file_is_named_by_flag_then_by_variable_then_by_habit(here: Path) -> None:
    for name, port in (("flag.yaml", 1), ("variable.yaml", 2), ("llm-server.yaml", 3)):
        (here / name).write_text(f"server: {{port: {port}}}")
    env = {"LLM_SERVER_CONFIG": "variable.yaml"}
    assert load(config=Path("flag.yaml"), env=env).settings.server.port == 1
    assert load(env=env).settings.server.port == 2
    assert load(env={}).settings.server.port == 3
    assert load(env={}).file == Path("llm-server.yaml")


def test_a_file_that_is_named_must_be_there(here: Path) -> None:
    with pytest.raises(SettingsError, match=r"none\.yaml: cannot be read: No such file"):
        load(config=Path("none.yaml"), env={})
    with pytest.raises(SettingsError, match=r"none\.yaml: cannot be read: No such file"):
        load(env={"LLM_SERVER_CONFIG": "none.yaml"})


def test_variables_of_the_file_come_from_the_environment(loaded: Load) -> None:
    text = "server: {host: '${HOST}', port: '${PORT:-81}'}\nproviders:\n  openai:\n    api_key: ${KEY}\n"
    found = loaded(text, {"HOST": "::1", "KEY": KEY})
    assert found.settings.server == ServerConfig(host="::1", port=81)
    assert found.settings.providers["openai"].api_key == Secret(KEY)
    assert origins(found)["providers.openai.api_key"] == "file llm-server.yaml:4 (${KEY})"


def test_sections_and_providers_may_stand_empty(loaded: Load) -> None:
    text = "server:\napi:\nmodels:\nengine:\npool:\ntelemetry:\nproviders:\n  ollama:\n  lmstudio:\n"
    found = loaded(text)
    assert found.settings.server == ServerConfig()
    assert found.settings.providers.keys() == {"ollama", "lmstudio"}
    assert loaded("providers:").settings.providers == {}


def test_names_of_models_become_the_aliases_of_routing(loaded: Load) -> None:
    text = "models: {fast: local/a, both: [local/a, local/b]}\ndefault_model: fast\n"
    routing = loaded(text).settings.routing
    targets = {name: route.targets for name, route in routing.aliases.items()}
    assert targets == {"fast": ("local/a",), "both": ("local/a", "local/b")}
    assert routing.default_model == "fast"


def test_of_a_route_what_is_set_is_in_force(loaded: Load) -> None:
    found = loaded("models: {fast: {targets: [local/a], retry: {attempts: 2}}, small: local/b}")
    effective = {".".join(map(str, path)): value for path, value, _ in found.effective()}
    assert {name: value for name, value in effective.items() if name.startswith("models")} == {
        "models.fast.targets": ("local/a",),
        "models.fast.retry.attempts": 2,
        "models.small": ("local/b",),
    }


def test_only_enabled_providers_and_the_engine_can_be_named(loaded: Load) -> None:
    text = "providers: {a: {base_url: http://a}, b: {base_url: http://b, enabled: false}}"
    assert loaded(text).settings.provider_names == {"a", "local"}
    assert loaded(text + "\nengine: {enabled: false}").settings.provider_names == {"a"}


def test_settings_are_frozen(loaded: Load) -> None:
    found = loaded().settings
    with pytest.raises(ValidationError):
        found.discover = False
    with pytest.raises(ValidationError):
        found.server.port = 1


def test_no_secret_shows_when_a_configuration_is_printed(loaded: Load) -> None:
    text = f"providers: {{openai: {{api_key: {KEY}, headers: {{x-key: {KEY}}}}}}}"
    found = loaded(text)
    assert KEY not in f"{found!r} {found.settings!r} {found.settings.model_dump_json()}"
    assert KEY not in str([(path, str(value), origin) for path, value, origin in found.effective()])


def test_a_worker_makes_the_same_settings_of_the_values(loaded: Load) -> None:
    text = f"providers: {{openai: {{api_key: {KEY}}}}}\nmodels: {{fast: [openai/a]}}\nserver: {{port: 1}}"
    found = loaded(text, {"GROQ_API_KEY": "gsk-1234567"}, telemetry__log_level=("--log-level", "debug"))
    values = pickle.loads(pickle.dumps(found.values))
    assert Settings.model_validate(values) == found.settings


def test_a_provider_lists_only_what_is_set(loaded: Load) -> None:
    found = loaded("providers: {ollama: {pool: {max_waiting: 1}}}")
    listed = [path for path in origins(found) if path.startswith("providers")]
    assert listed == ["providers.ollama.pool.max_waiting"]
