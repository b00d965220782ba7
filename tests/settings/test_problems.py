from collections.abc import Callable

import pytest

from tests.settings.conftest import Load

Complaints = Callable[..., list[str]]
KEY = "sk-test-1234567890"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("server:\n  prot: 1", "2: server.prot is unknown; did you mean 'port'?"),
        ("severs: {}", "1: severs is unknown; did you mean 'server'?"),
        (
            "discover: true\nxyz: 1",
            "2: xyz is unknown; known here: server, api, discover, providers, models, "
            "retry, default_model, engine, pool, batching, structured, batches, storage, telemetry",
        ),
        (
            "models:\n  a:\n    targets: [local/x]\n    retires: {}",
            "4: models.a.retires is unknown; did you mean 'retry'?",
        ),
        (
            "retry:\n  where: {upstream_timeout: sometimes}",
            "2: retry.where.upstream_timeout should be 'never', 'elsewhere' or 'anywhere', got 'sometimes'",
        ),
        (
            "providers:\n  a:\n    base_ulr: http://x",
            "3: providers.a.base_ulr is unknown; did you mean 'base_url'?",
        ),
        (
            "providers: {a: {pool: {max_conections: 1}}}",
            "1: providers.a.pool.max_conections is unknown; did you mean 'max_connections'?",
        ),
        (
            "providers: {a: {facts: {x: {tool: true}}}}",
            "1: providers.a.facts.x.tool is unknown; did you mean 'tools'?",
        ),
        (
            "engine:\n  models:\n    - name: a\n      context_size: 1",
            "4: engine.models[0].context_size is unknown; did you mean 'context'?",
        ),
        ("server: {port: abc}", "1: server.port should be a valid integer, got 'abc'"),
        ("server: {port: [1]}", "1: server.port should be a valid integer, got a list"),
        ("server: {host: 1}", "1: server.host should be a valid string, got 1"),
        ("server: {host: true}", "1: server.host should be a valid string, got true"),
        ("server: {port: null}", "1: server.port should be a valid integer, got nothing"),
        ("server: {port: 70000}", "1: server.port should be less than or equal to 65535, got 70000"),
        ("discover: maybe", "1: discover should be a valid boolean, got 'maybe'"),
        (
            "telemetry:\n  log_level: loud",
            "2: telemetry.log_level should be 'debug', 'info', 'warning' or 'error', got 'loud'",
        ),
        ("engine:\n  models:\n    - path: /x", "3: engine.models[0].name is required"),
        ("models:\n  fast: [local/a, 3]", "2: models.fast[1] should be a valid string, got 3"),
    ],
)  # fmt: skip
def test_a_mistake_is_told_with_its_place_and_its_remedy(
    complaints: Complaints, text: str, line: str
) -> None:
    assert complaints(text) == [f"llm-server.yaml:{line}"]


@pytest.mark.parametrize(
    ("text", "start"),
    [
        ("server: 5", "1: server should be a"),
        ("server: [port]", "1: server should be a"),
        ("providers: [openai]", "1: providers should be a valid dict"),
        ("models: {a: []}", "1: models.a should have at least 1 item"),
        ("models: {a: 5}", "1: models.a should be a valid tuple"),
        ("models: {a: {retry: {attempts: 1}}}", "1: models.a.targets is required"),
        ("telemetry: {latency_buckets_s: [2, 1]}", "1: telemetry is not valid: latency_buckets_s"),
        ("providers: {a: {base_url: ftp://x}}", "1: providers.a.base_url is not valid: must be"),
        ("providers: {a: {headers: {'x y': b}}}", "1: providers.a.headers"),
        ("providers: {a: {api_key: {b: c}}}", "1: providers.a.api_key should be a valid string"),
    ],
)  # fmt: skip
def test_a_wrong_form_is_one_problem(complaints: Complaints, text: str, start: str) -> None:
    (line,) = complaints(text)
    assert line.startswith(f"llm-server.yaml:{start}")


def test_all_problems_are_told_together_in_the_order_of_the_file(complaints: Complaints) -> None:
    text = (
        "server: {port: x}\nprot: 1\nserver: {}\nproviders:\n  a: {api_key: '${NONE}', base_url: http://a}\n"
    )
    env = {"LLM_SERVER__API__KEEPALIVE_S": "0", "LLM_SERVER__POOL__": "1", "LLM_SERVER__APY__X": "1"}
    assert complaints(text, env, telemetry__log_level=("--log-level", "loud")) == [
        "llm-server.yaml:1: server.port should be a valid integer, got 'x'",
        "llm-server.yaml:2: prot is unknown; known here: server, api, discover, providers, models, "
        "retry, default_model, engine, pool, batching, structured, batches, storage, telemetry",
        "llm-server.yaml:3: server is written twice, first in line 1",
        "llm-server.yaml:5: providers.a.api_key needs the environment variable NONE, which is not set",
        "environment LLM_SERVER__POOL__: should be LLM_SERVER__SECTION__KEY",
        "environment LLM_SERVER__API__KEEPALIVE_S: api.keepalive_s should be greater than 0, got '0'",
        "flag --log-level: telemetry.log_level should be 'debug', 'info', 'warning' or 'error', got 'loud'",
        "environment LLM_SERVER__APY__X: apy is unknown; did you mean 'api'?",
    ]


def test_a_missing_variable_is_told_once_and_not_as_a_wrong_type(complaints: Complaints) -> None:
    assert complaints("server:\n  port: ${NONE}") == [
        "llm-server.yaml:2: server.port needs the environment variable NONE, which is not set"
    ]


@pytest.mark.parametrize(
    "text",
    [
        f"providers: {{openai: {{api_key: [{KEY}]}}}}",
        f"providers: {{openai: {{headers: {{a: [{KEY}]}}}}}}",
        f"providers: {{openai: {{headers: [{KEY}]}}}}",
        f"providers: {{openai: {{apikey: {KEY}}}}}",
        f"providers: {{openai: {KEY}}}",
        "server: {port: '${KEY}'}",
        "providers: {openai: {base_url: '${KEY}'}}",
        "providers: {openai: {api_version: '${KEY} '}}",
        "telemetry: {log_level: '${KEY}'}",
    ],
)
def test_no_problem_shows_a_secret(complaints: Complaints, text: str) -> None:
    assert [line for line in complaints(text, {"KEY": KEY}) if KEY in line] == []


def test_a_long_value_is_cut_short(complaints: Complaints) -> None:
    (line,) = complaints(f"server: {{port: {'x' * 1000}}}")
    assert line.endswith("...")
    assert len(line) < 150


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("models: {a: b}", "models.a[0] should be provider/model, got 'b'"),
        ("models: {a: {targets: [b]}}", "models.a.targets[0] should be provider/model, got 'b'"),
        (
            "models: {a: {targets: local/x, on_context_overflow: [c/z]}}",
            "models.a.on_context_overflow[0] names 'c/z', but there is no provider 'c'; there are: local",
        ),
        ("models: {a: [local/x, b/]}", "models.a[1] should be provider/model, got 'b/'"),
        (
            "models: {a: groq/x}",
            "models.a[0] names 'groq/x', but providers.groq is not configured "
            "(the environment variable GROQ_API_KEY sets it)",
        ),
        (
            "models: {a: grok/x}",
            "models.a[0] names 'grok/x', but there is no provider 'grok'; did you mean 'groq'?",
        ),
        (
            "models: {a: qqqq/x}",
            "models.a[0] names 'qqqq/x', but there is no provider 'qqqq'; there are: local",
        ),
        ("default_model: x/y", "default_model names 'x/y', but there is no provider 'x'; there are: local"),
        ("default_model: fast", "default_model should be provider/model, got 'fast'"),
        (
            "{models: {a: local/x}, engine: {enabled: false}}",
            "models.a[0] names 'local/x', but the engine is not enabled (engine.enabled)",
        ),
        (
            "{models: {a: b/x}, providers: {b: {enabled: false}}}",
            "models.a[0] names 'b/x', but providers.b is not enabled",
        ),
        (
            "providers: {b: {}}",
            "providers.b.base_url is required: it is no known provider with an address of its own",
        ),
        (
            "providers: {openai: {}}",
            "providers.openai.api_key is required (the environment variable OPENAI_API_KEY sets it)",
        ),
        (
            "providers: {mine: {row: openai}}",
            "providers.mine.api_key is required (the environment variable OPENAI_API_KEY sets it)",
        ),
        (
            "providers: {a/b: {base_url: http://x}}",
            "providers.a/b is no name for a provider: it stands before a slash, so it must have none",
        ),
        (
            "providers: {local: {base_url: http://x}}",
            "providers.local has the name of the engine; choose another, or set engine.enabled: false",
        ),
    ],
)
def test_names_must_lead_somewhere(complaints: Complaints, text: str, line: str) -> None:
    assert complaints(text) == [f"llm-server.yaml:1: {line}"]


def test_a_provider_that_is_turned_off_needs_nothing(loaded: Load) -> None:
    assert loaded("providers: {openai: {enabled: false}, x: {enabled: false}}").settings.provider_names == {
        "local"
    }


def test_a_default_model_may_be_a_name_of_ones_own_or_a_bare_one(loaded: Load) -> None:
    text = "models: {fast: x/a}\nproviders: {x: {base_url: http://x, models: [a]}}\ndefault_model: "
    for name in ("fast", "a", "x/b"):
        assert loaded(text + name).settings.default_model == name
