"""The commands that print: version, help, check, models."""

import json
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from llm_server.cli import COMMANDS
from llm_server.cli.table import show
from tests.cli.programs import Upstream, listening, run

KEY = "sk-test-1234567890"


@pytest.fixture
async def home(tmp_path: Path) -> Path:
    providers = {"mine": {"base_url": "http://127.0.0.1:9/v1", "api_key": "${MY_KEY}", "models": ["a"]}}
    config = {"engine": {"enabled": False}, "providers": providers, "models": {"fast": "mine/a"}}
    (tmp_path / "llm-server.yaml").write_text(json.dumps(config, indent=1))
    return tmp_path


def cells_of(line: str) -> list[str]:
    """Return the columns of a line that was piped."""
    return re.split(r" {2,}", line)


async def test_version_is_that_of_the_package(tmp_path: Path) -> None:
    for asked in ("version", "--version"):
        assert await run(tmp_path, asked) == (0, f"{version('llm-server')}\n", "")


async def test_help_names_every_command_precedence_and_exit_status(tmp_path: Path) -> None:
    ended = await run(tmp_path, "--help")
    assert ended.status == 0
    assert [name for name in COMMANDS if f"\n  {name} " not in ended.out] == []
    assert [
        word for word in ("LLM_SERVER__SECTION__KEY", "Exit status", "130") if word not in ended.out
    ] == []


@pytest.mark.parametrize("name", COMMANDS)
async def test_every_command_has_help(tmp_path: Path, name: str) -> None:
    ended = await run(tmp_path, name, "--help")
    assert (ended.status, ended.err) == (0, "")
    assert f" {name} [OPTIONS]" in ended.out


async def test_an_unknown_command_or_flag_is_wrong_usage(tmp_path: Path) -> None:
    for arguments in (("serv",), ("serve", "--prot", "1"), ("check", "extra")):
        ended = await run(tmp_path, *arguments)
        assert (ended.status, ended.out) == (2, "")
        assert "Traceback" not in ended.err


def test_help_imports_no_heavy_package() -> None:
    script = "import sys, llm_server.cli as c; sys.argv = ['llm-server', '--help']\n"
    script += "try: c.main()\nexcept SystemExit: print(*sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    loaded = set(done.stderr.split())
    assert "llm_server.cli" in loaded
    assert (
        loaded & {"pydantic", "fastapi", "aiohttp", "rich", "yaml", "uvicorn", "llm_server.settings"} == set()
    )


async def test_check_prints_every_value_with_its_origin_and_no_secret(home: Path) -> None:
    ended = await run(
        home, "check", env={"MY_KEY": KEY, "GROQ_API_KEY": KEY, "LLM_SERVER__SERVER__PORT": "81"}
    )
    assert (ended.status, ended.err) == (0, "")
    title, *lines = ended.out.splitlines()
    assert title == "valid: llm-server.yaml; providers: groq, mine"
    rows = {cells[0]: cells[1:] for cells in map(cells_of, lines)}
    assert rows["server.port"] == ["81", "environment LLM_SERVER__SERVER__PORT"]
    assert rows["server.host"] == ["127.0.0.1", "default"]
    assert rows["models.fast"] == ['["mine/a"]', "file llm-server.yaml:15"]
    assert rows["providers.mine.api_key"] == ["***", "file llm-server.yaml:8 (${MY_KEY})"]
    assert rows["providers.groq.api_key"] == ["***", "discovered GROQ_API_KEY"]
    assert KEY not in ended.out


@pytest.mark.parametrize("columns", ["20", "80"])
async def test_what_is_piped_has_no_width(home: Path, columns: str) -> None:
    env = {"MY_KEY": KEY, "COLUMNS": columns}
    narrow, wide = [(await run(home, "check", env=env | more)).out for more in ({}, {"COLUMNS": "500"})]
    assert narrow == wide
    assert "server.keepalive_timeout_s  " in narrow
    assert (narrow.count("…"), narrow.count("│"), narrow.count("\x1b")) == (0, 0, 0)


async def test_a_narrow_terminal_wraps_and_cuts_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "24")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    show(("setting", "value"), [("a" * 40, "b" * 40), ("c", "")])
    out = capsys.readouterr().out
    assert (out.count("a"), out.count("b"), "…" in out) == (40 + "setting value".count("a"), 40, False)


async def test_check_prints_json_for_machines(home: Path) -> None:
    ended = await run(home, "check", "--json", env={"MY_KEY": KEY})
    report = json.loads(ended.out)
    assert report["file"] == "llm-server.yaml"
    by_path = {row["path"]: (row["value"], row["origin"]) for row in report["settings"]}
    assert by_path["engine.enabled"] == (False, "file llm-server.yaml:3")
    assert by_path["models.fast"] == (["mine/a"], "file llm-server.yaml:15")
    assert by_path["providers.mine.api_key"] == ("***", "file llm-server.yaml:8 (${MY_KEY})")
    assert by_path["telemetry.latency_buckets_s"][0][:2] == [0.01, 0.025]
    assert KEY not in ended.out


async def test_check_lists_every_problem_and_exits_1(home: Path) -> None:
    ended = await run(home, "check", "--config", "llm-server.yaml", env={"LLM_SERVER__MODELS__X": "nobody/x"})
    assert (ended.status, ended.out) == (1, "")
    assert ended.err.splitlines() == [
        "The configuration has 2 problem(s):",
        "  llm-server.yaml:8: providers.mine.api_key needs the environment variable MY_KEY, which is not set",
        "  environment LLM_SERVER__MODELS__X: models.x[0] names 'nobody/x', "
        "but there is no provider 'nobody'; there are: mine",
    ]


async def test_check_warns_of_what_may_not_be_meant(tmp_path: Path) -> None:
    engine = {"models": [{"name": "smollm2-135m"}, {"name": "own", "path": "none.gguf"}]}
    config = {"server": {"host": "0.0.0.0", "workers": 2}, "engine": engine}
    (tmp_path / "llm-server.yaml").write_text(json.dumps(config))
    ended = await run(tmp_path, "check", "--json")
    assert ended.status == 0
    assert json.loads(ended.out)["file"] == "llm-server.yaml"
    assert ended.err.splitlines() == [
        "warning: server.host is 0.0.0.0: whoever reaches it can use every provider's key",
        "warning: each of the 2 workers loads the local models for itself",
        "warning: engine model smollm2-135m is not there: llm-server models install smollm2-135m",
        "warning: engine model own: there is no file none.gguf",
    ]


async def test_check_of_a_file_that_is_missing_exits_1(tmp_path: Path) -> None:
    ended = await run(tmp_path, "check", "-c", "none.yaml")
    assert ended.status == 1
    assert "none.yaml: cannot be read: No such file or directory" in ended.err


async def test_models_of_a_configuration(home: Path) -> None:
    ended = await run(home, "models", env={"MY_KEY": KEY})
    assert (ended.status, ended.err) == (0, "")
    assert [cells_of(line)[:2] for line in ended.out.splitlines()] == [["fast", "mine"], ["mine/a", "mine"]]


async def test_models_names_a_provider_that_does_not_answer(home: Path) -> None:
    ended = await run(home, "models", env={"MY_KEY": KEY, "OLLAMA_HOST": "127.0.0.1:1"})
    assert (ended.status, "ollama" in ended.out, "mine/a" in ended.out) == (0, False, True)
    (line,) = ended.err.splitlines()
    assert line.startswith("ollama: ")


@pytest.mark.parametrize(
    ("part", "line"),
    [
        ({"state": "ready", "message": ""}, "x: lists no model\n"),
        ({"state": "failed", "message": "No such file."}, "x: failed No such file.\n"),
    ],
)
async def test_models_of_a_part_that_lists_none(tmp_path: Path, part: dict[str, str], line: str) -> None:
    async with listening(Upstream([], models=[], parts=[{"name": "x", **part}])) as url:
        ended = await run(tmp_path, "models", "--url", url)
    assert (ended.status, ended.err) == (0, line)


async def test_models_of_a_running_server(tmp_path: Path) -> None:
    one = {"id": "a/b", "owned_by": "a", "context_window": 131072, "capabilities": ["chat", "tools"]}
    async with listening(Upstream([], models=[one, {"id": "c", "owned_by": "d"}])) as url:
        ended = await run(tmp_path, "models", "--url", url)
    assert (ended.status, ended.err) == (0, "")
    assert [cells_of(line) for line in ended.out.splitlines()] == [
        ["a/b", "a", "131,072", "chat, tools"],
        ["c", "d", "-", "-"],
    ]


async def test_without_a_model_it_says_how_to_get_one(tmp_path: Path) -> None:
    ended = await run(tmp_path, "models", env={"LLM_SERVER__ENGINE__ENABLED": "false"})
    assert ended.status == 0
    assert "llm-server models install smollm2-135m" in ended.out


async def test_models_of_a_server_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    ended = await run(tmp_path, "models", "--url", "http://127.0.0.1:1")
    assert (ended.status, ended.out) == (1, "")
    assert len(ended.err.splitlines()) == 1


async def test_an_installed_model_is_not_fetched_again(tmp_path: Path) -> None:
    there = tmp_path / "llm-server" / "models" / "smollm2-135m.gguf"
    there.parent.mkdir(parents=True)
    there.write_bytes(b"GGUF")
    ended = await run(tmp_path, "models", "install", "smollm2-135m", env={"XDG_DATA_HOME": str(tmp_path)})
    assert (ended.status, ended.err) == (0, "")
    assert f"smollm2-135m is installed: {there}" in ended.out


async def test_a_model_that_cannot_be_installed_is_one_line(tmp_path: Path) -> None:
    ended = await run(tmp_path, "models", "install", "gpt-17")
    assert ended.status == 1
    assert ended.err == "No model 'gpt-17' to install. There is: smollm2-135m.\n"


def test_the_package_is_also_a_command() -> None:
    command = Path(sys.executable).with_name("llm-server")
    done = subprocess.run([command, "version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"{version('llm-server')}\n"
