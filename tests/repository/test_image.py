"""The image definition keeps its rules; what needs a container engine to be seen is not claimed here."""

import fnmatch
import json
import os
import re
import shlex
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import pytest

from llm_server.settings import load
from llm_server.settings.loading import FILE
from tests.repository.tree import ROOT

TEXT = (ROOT / "Dockerfile").read_text()


def instructions() -> list[tuple[str, str]]:
    joined = re.sub(r"^#.*\n", "", TEXT, flags=re.MULTILINE).replace("\\\n", " ")
    pairs = (line.split(None, 1) for line in joined.splitlines() if line.strip())
    return [(word.upper(), rest.strip()) for word, rest in pairs]


def stages() -> list[list[tuple[str, str]]]:
    found: list[list[tuple[str, str]]] = []
    for word, rest in instructions():
        if word == "FROM":
            found.append([])
        if found:
            found[-1].append((word, rest))
    return found


def arguments(stage: list[tuple[str, str]], word: str) -> list[str]:
    return [rest for each, rest in stage if each == word]


def test_what_builds_is_left_behind() -> None:
    build, final = stages()
    assert build[0] == ("FROM", "python:${PYTHON}-slim AS build")
    assert final[0] == ("FROM", "python:${PYTHON}-slim")
    assert ("ARG", "PYTHON=3.13") in instructions()
    assert not [rest for rest in arguments(final, "RUN") if "pip" in rest]
    assert all(rest.startswith("--from=build") for rest in arguments(final, "COPY"))


def test_the_server_runs_as_nobody_special() -> None:
    (user,) = arguments(stages()[-1], "USER")
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", user)
    words = [word for word, _ in stages()[-1]]
    assert words.index("USER") > max(place for place, word in enumerate(words) if word in ("RUN", "COPY"))


def health_command() -> list[str]:
    (check,) = arguments(stages()[-1], "HEALTHCHECK")
    command: list[str] = json.loads(check.split("CMD", 1)[1])
    return command


def variables() -> dict[str, str]:
    """Return what the image sets for the server that runs in it."""
    words = [word for rest in arguments(stages()[-1], "ENV") for word in shlex.split(rest)]
    return dict(word.split("=", 1) for word in words)


def test_the_image_serves_where_it_is_reached_unless_it_is_told_otherwise() -> None:
    env = variables()
    assert arguments(stages()[-1], "EXPOSE") == [env["LLM_SERVER__SERVER__PORT"]]
    server = load(env=env).settings.server
    assert (server.host, server.port) == ("0.0.0.0", 8000)
    assert json.loads(arguments(stages()[-1], "ENTRYPOINT")[0]) == ["llm-server"]
    # Flags would stand over the variables, and the health check would not hear of it.
    assert json.loads(arguments(stages()[-1], "CMD")[0]) == ["serve"]


@pytest.mark.parametrize(("status", "ends"), [(200, 0), (503, 1)])
def test_health_is_asked_at_the_port_that_is_configured(status: int, ends: int) -> None:
    asked: list[str] = []

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with HTTPServer(("127.0.0.1", 0), Answer) as server:
        answering = Thread(target=server.handle_request)
        answering.start()
        env = os.environ | {"LLM_SERVER__SERVER__PORT": str(server.server_port)}
        program, *rest = health_command()
        done = subprocess.run([sys.executable, *rest], env=env, capture_output=True, check=False)
        answering.join()
    assert (program, done.returncode, asked) == ("python", ends, ["/health/live"])


def test_the_commands_in_the_readme_use_places_that_the_image_has() -> None:
    (start,) = re.findall(r"^docker run(?:.*\\\n)*.*", (ROOT / "README.md").read_text(), re.MULTILINE)
    (home,) = arguments(stages()[-1], "WORKDIR")
    mounts = re.findall(r"-v (\S+)", start)
    assert [mount.split(":")[1:] for mount in mounts] == [[home], [f"{home}/{FILE}", "ro"]]
    assert variables()["XDG_DATA_HOME"] == home
    port = variables()["LLM_SERVER__SERVER__PORT"]
    assert re.findall(r"-p (\S+)", start) == [f"127.0.0.1:{port}:{port}"]


def test_every_package_comes_from_a_lock_with_its_hashes() -> None:
    installs = [part for rest in arguments(stages()[0], "RUN") for part in rest.split("&&") if "pip " in part]
    assert len(installs) == 4
    for install in installs:
        assert "--no-deps" in install
        locked = "--require-hashes" in install and re.search(r"-r locks/(build|\$\{PACKAGES\})\.txt", install)
        own = install.strip().endswith((" .", "dist/*.whl"))
        assert locked or own


def test_each_choice_of_packages_has_its_lock() -> None:
    offered = set(re.findall(r"PACKAGES=(\w+)", TEXT))
    assert offered == {"local", "base"}
    assert all((ROOT / "locks" / f"{name}.txt").is_file() for name in offered)


def test_what_is_copied_exists_and_reaches_the_builder() -> None:
    rules = [line for line in (ROOT / ".dockerignore").read_text().split() if not line.startswith("#")]
    assert "*" in rules
    for rest in arguments(stages()[0], "COPY"):
        for source in shlex.split(rest)[:-1]:
            assert (ROOT / source).exists()
            assert f"!{source.rstrip('/')}" in rules


def test_no_secret_can_be_baked_in() -> None:
    given = [rest for word, rest in instructions() if word in ("ARG", "ENV")]
    assert not re.search(r"key|token|secret|password", " ".join(given), re.IGNORECASE)
    assert not fnmatch.filter((ROOT / ".dockerignore").read_text().split(), "!*.env*")
    assert not [rest for word, rest in instructions() if word == "ADD"]
