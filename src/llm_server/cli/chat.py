"""``llm-server chat``."""

import sys
from collections.abc import Iterator
from contextlib import closing, suppress
from typing import Annotated

import typer

from llm_server.cli.client import Client, Message
from llm_server.cli.failure import CommandError

app = typer.Typer(rich_markup_mode=None, add_completion=False)


@app.command()
def chat(
    url: Annotated[str, typer.Option(help="The server.")] = "http://127.0.0.1:8000",
    model: Annotated[str | None, typer.Option(help="The model; by default the first on offer.")] = None,
    system: Annotated[str | None, typer.Option(help="Instructions for the model.")] = None,
    key: Annotated[str | None, typer.Option(envvar="LLM_SERVER_KEY", help="A key of the server.")] = None,
) -> None:
    """Talk to a running server.

    Ctrl-C stops an answer, Ctrl-D leaves. Text that is piped in is one prompt: only the answer is printed.
    """
    client = Client(url, key)
    chosen = model or _first(client)
    talk = Conversation(client, chosen, system)
    if sys.stdin.isatty():
        print(f"{chosen} at {url}. Ctrl-C stops an answer, Ctrl-D leaves.")
        talk.interactive()
    else:
        prompt = sys.stdin.read()
        if not prompt.strip():
            raise CommandError("There is nothing to ask: standard input is empty.")
        talk.ask(prompt)


class Conversation:
    """Turns so far, and the next one."""

    def __init__(self, client: Client, model: str, system: str | None) -> None:
        self._client = client
        self._model = model
        self._turns: list[Message] = [{"role": "system", "content": system}] if system else []

    def interactive(self) -> None:
        """Ask and answer until the person leaves. A turn that fails is told and forgotten."""
        for prompt in _prompts():
            try:
                self.ask(prompt)
            except CommandError as error:
                print(error, file=sys.stderr)

    def ask(self, prompt: str) -> None:
        """Print the answer to ``prompt`` while it comes, and remember both; a part if it was stopped."""
        asked: Message = {"role": "user", "content": prompt}
        said: list[str] = []
        try:
            with closing(self._client.answer(self._model, [*self._turns, asked])) as texts:
                for text in texts:
                    said.append(text)
                    print(_shown(text), end="", flush=True)
        except KeyboardInterrupt:
            if not sys.stdin.isatty():
                raise
            print(" [stopped]", end="" if said else "\n")
        finally:
            if said:
                print()
        if said:
            self._turns += [asked, {"role": "assistant", "content": "".join(said)}]


def _shown(text: str) -> str:
    """Return ``text`` for a terminal, which must not obey what a model writes."""
    if not sys.stdout.isatty():
        return text
    return "".join(letter for letter in text if letter.isprintable() or letter in "\n\t")


def _prompts() -> Iterator[str]:
    with suppress(ImportError):  # not everywhere
        import readline  # noqa: F401 - imported for what it does: input() gets line editing and a history

    while True:
        try:
            prompt = input("> ").strip()
        except KeyboardInterrupt:
            print("\nCtrl-D leaves.")
            continue
        except EOFError:
            print()
            return
        if prompt:
            yield prompt


def _first(client: Client) -> str:
    models = client.models()
    if not models:
        raise CommandError("The server has no model. Give it a provider's key or install a local model.")
    return str(models[0]["id"])
