"""The README is true: its examples run against a real server and model, and its tables are current."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from llm_server.api import headers
from llm_server.settings import load
from tests.repository.tree import ROOT
from tools import readme

pytestmark = pytest.mark.timeout(300)

README = (ROOT / "README.md").read_text(encoding="utf-8")
ADDRESS = "http://127.0.0.1:8000"
"""What the README's examples call; the test's server listens elsewhere."""
PROGRAM = [str(Path(sys.executable).with_name("llm-server"))]
PATIENCE_S = 240


def blocks(language: str) -> list[str]:
    """Return the README's code blocks in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server as the README starts it, on a free port: the model installed, then served."""
    folder = tmp_path_factory.mktemp("readme")
    subprocess.run(
        [*PROGRAM, "models", "install", "smollm2-135m"], check=True, cwd=folder, timeout=PATIENCE_S
    )
    server = subprocess.Popen(
        [*PROGRAM, "serve", "--port", "0"], cwd=folder, stdout=subprocess.PIPE, text=True, bufsize=1
    )
    try:
        yield _listening(server)
    finally:
        server.send_signal(signal.SIGTERM)
        server.communicate(timeout=PATIENCE_S)
    assert server.returncode == 0


def _listening(server: subprocess.Popen[str]) -> str:
    """Return where the server says that it is, once it has printed a line to try."""
    assert server.stdout is not None
    url = ""
    for line in server.stdout:
        if found := re.match(r"LLM Server \S+ at (http://\S+)", line):
            url = found[1]
        if line.startswith("Try:"):
            return url
    raise AssertionError("the server stopped before it was ready")


def run(command: list[str], cwd: Path) -> str:
    """Run an example as a person would; return what it prints."""
    done = subprocess.run(
        command,
        cwd=cwd,
        check=False,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        env=dict(os.environ),
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_curl_line_is_answered(url: str, tmp_path: Path) -> None:
    (line,) = [block for block in blocks("sh") if block.startswith("curl ")]
    assert ADDRESS in line
    told = run(["bash", "-c", line.replace(ADDRESS, url)], tmp_path)
    assert re.search(r'"content":"[^"]+', told)
    assert re.search(r'"finish_reason":"(stop|length)"', told)


SNIPPETS = blocks("python")


@pytest.mark.parametrize("snippet", SNIPPETS, ids=lambda snippet: snippet.partition("\n")[0])
def test_the_python_examples_run(url: str, tmp_path: Path, snippet: str) -> None:
    assert ADDRESS in snippet
    told = run([sys.executable, "-c", snippet.replace(ADDRESS, url)], tmp_path)
    if "models.list()" in snippet:
        listed, told = told.split("\n", 1)
        assert listed == "local/smollm2-135m"
    assert len(told.split()) > 3, "the model says something; what, is its own affair"


def test_there_are_examples_in_both_dialects() -> None:
    assert [re.findall(r"^from (\w+) import", snippet, re.MULTILINE) for snippet in SNIPPETS] == [
        ["openai"],
        ["anthropic"],
    ]


def test_the_configuration_loads(tmp_path: Path) -> None:
    (example,) = blocks("yaml")
    path = tmp_path / "llm-server.yaml"
    path.write_text(example, encoding="utf-8")
    settings = load(config=path, env={"GROQ_API_KEY": "k", "ANTHROPIC_API_KEY": "k"}).settings
    assert settings.providers.keys() == {"groq", "anthropic", "my-vllm"}
    assert settings.models["fast"].targets == ("groq/llama-3.3-70b-versatile", "my-vllm/llama-3.3-70b")


def test_the_table_of_providers_is_current() -> None:
    assert readme.written(README) == README, "run: python tools/readme.py"


def test_the_table_of_headers_is_whole() -> None:
    emitted = set(re.findall(rb"x-llm-server-[a-z-]+", Path(headers.__file__).read_bytes()))
    named = set(re.findall(rb"`(x-llm-server-[a-z-]+)`", README.encode()))
    assert named == emitted


def test_the_commands_exist() -> None:
    for command in re.findall(r"^\| `llm-server (\w+)` \|", README, re.MULTILINE):
        assert f"llm-server {command}" in run([*PROGRAM, command, "--help"], ROOT)


def test_the_documents_that_it_names_are_there() -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (ROOT / target).is_file(), target
