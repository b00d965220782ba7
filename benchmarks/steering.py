"""What Outlines holds a model of the Transformers library to, by each of its engines, over HTTP.

Needs the extra ``outlines`` and a model: ``--model`` is a folder as on Hugging Face, or a GGUF file. Without
them nothing is measured: PyTorch is too large to be installed for it. The server runs as its operator would
run it; two requests at a time ask for each kind of form in turns, so that different forms are held at the
same time; every other one is streamed. Each answer is checked here. CPU time is the server's, with prompts.
"""

import argparse
import importlib.util
import json
import os
import re
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import jsonschema_rs

BACKENDS = ("llguidance", "outlines_core", "xgrammar")
PROMPT = "Invent a person. Answer in JSON."
PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 20},
        "age": {"type": "integer", "minimum": 0, "maximum": 120},
        "kind": {"enum": ["friend", "colleague"]},
    },
    "required": ["name", "age", "kind"],
    "additionalProperties": False,
}
TURNS = ["red (dark)", "blue", "a.b"]


class Form(NamedTuple):
    """How it is asked for, and whether an answer has it."""

    body: dict[str, Any]
    right: Callable[[str], bool]


def json_schema(text: str) -> bool:
    try:
        return jsonschema_rs.is_valid(PERSON, json.loads(text))
    except ValueError:
        return False


SCHEMA = {"type": "json_schema", "json_schema": {"name": "person", "strict": True, "schema": PERSON}}
FORMS = {
    "json_schema": Form({"response_format": SCHEMA}, json_schema),
    "regex": Form(
        {"guided_regex": "[0-9]{3}-[a-z]{4}"}, lambda text: bool(re.fullmatch("[0-9]{3}-[a-z]{4}", text))
    ),
    "choice": Form({"guided_choice": TURNS}, TURNS.__contains__),
    "grammar (EBNF)": Form(
        {"guided_grammar": 'root ::= "yes" | "no" [a-z] [a-z]'},
        lambda text: bool(re.fullmatch("yes|no[a-z]{2}", text)),
    ),
    "grammar (Lark)": Form(
        {"guided_grammar": 'start: "yes" | "no" /[a-z]{2}/'},
        lambda text: bool(re.fullmatch("yes|no[a-z]{2}", text)),
    ),
}


class Answer(NamedTuple):
    """``outcome``: valid, invalid, cut or the code of an error."""

    outcome: str
    how: str
    tokens: int
    took_s: float


@contextmanager
def server(model: Path, backend: str) -> Iterator[tuple[str, int]]:
    """Run a server; yield its address and process id."""
    with tempfile.TemporaryDirectory() as folder:
        engine = {
            "runtime": "transformers",
            "outlines_backend": backend,
            "data_dir": folder,
            "models": [{"name": "model", "path": str(model), "context": 512}],
        }
        settings = Path(folder) / "config.yaml"
        settings.write_text(json.dumps({"discover": False, "engine": engine, "server": {"port": 0}}))
        command = [sys.executable, "-m", "llm_server", "serve", "--config", str(settings)]
        with (Path(folder) / "log").open("w+") as log:
            process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
            try:
                yield ready(process, Path(folder) / "log"), process.pid
            finally:
                process.terminate()
                process.wait(60)


def ready(process: subprocess.Popen[bytes], log: Path) -> str:
    """Wait until the model answers; return the address that the log names."""
    address = ""
    while process.poll() is None:
        found = re.search(r"http://[\d.]+:\d+", log.read_text())
        address = found[0] if found else ""
        try:
            if address and json.load(urllib.request.urlopen(f"{address}/v1/models"))["data"]:
                return address
        except OSError:
            pass
        time.sleep(0.5)
    raise SystemExit(log.read_text())


def asked(address: str, form: Form, seed: int) -> Answer:
    body = {
        "model": "local/model",
        "messages": [{"role": "user", "content": PROMPT}],
        "seed": seed,
        "temperature": 1.0,
        "max_tokens": 80,
        "stream": bool(seed % 2),
        "stream_options": {"include_usage": True} if seed % 2 else None,
        **form.body,
    }
    request = urllib.request.Request(
        f"{address}/v1/chat/completions", json.dumps(body).encode(), {"content-type": "application/json"}
    )
    began = time.perf_counter()
    try:
        with urllib.request.urlopen(request) as response:
            said, how = response.read().decode(), response.headers.get("x-llm-server-structured", "streamed")
    except urllib.error.HTTPError as error:
        return Answer(str(json.load(error)["error"]["code"]), "", 0, 0.0)
    text, finish, tokens = streamed(said) if seed % 2 else whole(said)
    outcome = "cut" if finish == "length" else "valid" if form.right(text) else "invalid"
    return Answer(outcome, how.partition("; attempts")[0], tokens, time.perf_counter() - began)


def whole(said: str) -> tuple[str, str, int]:
    answer = json.loads(said)
    (choice,) = answer["choices"]
    return choice["message"]["content"], choice["finish_reason"], answer["usage"]["completion_tokens"]


def streamed(said: str) -> tuple[str, str, int]:
    text, finish, tokens = "", "error", 0
    for line in said.splitlines():
        if not line.startswith("data: {"):
            continue
        chunk = json.loads(line[6:])
        for choice in chunk.get("choices", ()):
            text += choice["delta"].get("content") or ""
            finish = choice["finish_reason"] or finish
        tokens = (chunk.get("usage") or {}).get("completion_tokens", tokens)
    return text, finish, tokens


def measure(model: Path, backend: str, requests: int) -> None:
    with server(model, backend) as (address, pid), ThreadPoolExecutor(2) as pool:
        for form in FORMS.values():  # what is compiled once does not count
            asked(address, form, 0)
        began_s = cpu_s(pid)
        jobs = [(name, seed) for seed in range(requests) for name in FORMS]
        answers = list(pool.map(lambda job: asked(address, FORMS[job[0]], job[1]), jobs))
        used_s = cpu_s(pid) - began_s
    for name in FORMS:
        own = [answer for (kind, _), answer in zip(jobs, answers, strict=True) if kind == name]
        counted = Counter(answer.outcome for answer in own)
        tokens, took_s = sum(answer.tokens for answer in own), sum(answer.took_s for answer in own)
        how = next((answer.how for answer in own if answer.how not in {"", "streamed"}), "")
        told = ", ".join(f"{times} {outcome}" for outcome, times in counted.items() if outcome != "valid")
        speed = f"{1000 * took_s / tokens:7.0f}" if tokens else "      -"
        valid = f"{counted['valid']} of {len(own)}"
        print(f"{backend:14} {name:15} {valid:>9} {speed}  {how} {told}", flush=True)
    all_tokens = sum(answer.tokens for answer in answers)
    print(f"{backend:14} {1000 * used_s / all_tokens:.0f} CPU ms a token", flush=True)


def cpu_s(pid: int) -> float:
    user, system = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, help="a model folder, or a GGUF file")
    parser.add_argument("--backend", choices=BACKENDS, action="append", help="default: all")
    parser.add_argument("--requests", type=int, default=20, help="for each kind of form")
    wanted = parser.parse_args()
    if wanted.model is None or importlib.util.find_spec("torch") is None:
        print("Not measured: it needs --model and `pip install 'llm-server[outlines]'`.")
        return
    print("engine         form               valid   ms/token  method", flush=True)
    for backend in wanted.backend or BACKENDS:
        measure(wanted.model, backend, wanted.requests)


if __name__ == "__main__":
    main()
