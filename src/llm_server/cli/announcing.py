"""Tell the person at the terminal what the server does: where it is, what it loads, how to call it."""

import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from importlib.metadata import version
from threading import Thread

from llm_server.cli.client import Client
from llm_server.cli.failure import CommandError
from llm_server.settings import LOCAL, Settings


def announce(url: str, settings: Settings) -> None:
    """Watch the server that will answer at ``url`` from a thread of its own, and print what it is at."""
    Thread(target=_watch, args=(url, settings), name="announce", daemon=True).start()


def curl(url: str, model: str) -> str:
    """Return a command for a shell that asks ``model`` at ``url``."""
    body = json.dumps({"model": model, "messages": [{"role": "user", "content": "Say hello."}]})
    quoted = body.replace("'", r"'\''")
    return f"curl {url}/v1/chat/completions -H 'content-type: application/json' \\\n  -d '{quoted}'"


def progress(words: str) -> AbstractContextManager[object]:
    """Return a line that moves while something takes time; where no person looks on, one that does not."""
    if not sys.stdout.isatty():
        print(words, flush=True)
        return nullcontext()
    from rich.console import Console

    return Console().status(words)


def _watch(url: str, settings: Settings) -> None:
    try:
        for line in _story(url, settings):
            print(line, flush=True)
    except CommandError:
        return  # it stops before it has started: its own messages say why


def _story(url: str, settings: Settings) -> Iterator[str]:
    """Yield what to print, in time. The first question is answered when the server accepts connections."""
    client = Client(url)
    parts = client.parts()
    yield f"LLM Server {version('llm-server')} at {url}  (API: {url}/docs, stop: Ctrl-C)"
    starting = [name for name, part in parts.items() if part["state"] == "starting"]
    if starting:
        with progress(f"Loading {', '.join(starting)} ..."):
            parts = client.started()
    yield from _failures(parts)
    model = _model(client, parts, settings)
    if model:
        yield f"Try:\n{curl(url, model)}"
    else:
        yield (
            "It has no model yet. Set the key variable of a provider and start again,\n"
            "or run: llm-server models install smollm2-135m"
        )


def _failures(parts: Mapping[str, Mapping[str, str]]) -> Iterator[str]:
    for name, part in parts.items():
        if part["state"] == "failed":
            yield f"{name} does not work: {part['message']}"


def _model(client: Client, parts: Mapping[str, Mapping[str, str]], settings: Settings) -> str:
    """Return a model that answers: a local one, else the first that is listed; empty if there is none."""
    if parts.get(LOCAL, {}).get("state") == "ready":
        return f"{LOCAL}/{settings.engine.models[0].name}"
    return next((str(model["id"]) for model in client.models()), "")
