"""A small client of a running server, on the standard library: a terminal needs no event loop."""

import http.client
import json
import time
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from llm_server.cli.failure import CommandError

Message = dict[str, str]

TIMEOUT_S = 300.0
"""How long the server may be silent, keep-alives included."""
_GOOD = frozenset({http.client.OK, http.client.CREATED})
_STARTING = 503
_POLL_S = 0.1
_KINDS = {"http": http.client.HTTPConnection, "https": http.client.HTTPSConnection}


class RefusedError(CommandError):
    """The server answered with an error of this HTTP status."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class Client:
    """Calls the server at ``url``, one request and one connection at a time.

    Every failure is a :class:`CommandError` of one line.
    """

    def __init__(self, url: str, key: str | None = None) -> None:
        parts = urlsplit(url if "//" in url else f"http://{url}")
        try:
            self._connection = _KINDS[parts.scheme](parts.hostname or "", parts.port, timeout=TIMEOUT_S)
        except (KeyError, ValueError, http.client.InvalidURL) as error:
            raise CommandError(f"{url} is not an http:// or https:// URL.") from error
        self._url = url
        self._path = parts.path.rstrip("/").removesuffix("/v1")
        self._headers = {"content-type": "application/json"}
        if key:
            self._headers["authorization"] = f"Bearer {key}"

    def models(self) -> Sequence[Mapping[str, Any]]:
        """Return the models that the server offers, in OpenAI's shape."""
        models: Sequence[Mapping[str, Any]] = self.call("GET", "/v1/models")["data"]
        return models

    def parts(self) -> Mapping[str, Mapping[str, str]]:
        """Return the server's providers and engines by name, each with its ``state`` and ``message``."""
        return {part["name"]: part for part in self.call("GET", "/health/ready")["parts"]}

    def started(self) -> Mapping[str, Mapping[str, str]]:
        """Wait until no part of the server is starting, and return them all."""
        parts = self.parts()
        while any(part["state"] == "starting" for part in parts.values()):
            time.sleep(_POLL_S)
            parts = self.parts()
        return parts

    def answer(self, model: str, messages: Sequence[Message]) -> Generator[str]:
        """Yield the text of the next turn as it comes. Closing it early ends the answer at the server too."""
        body = {"model": model, "messages": messages, "stream": True}
        try:
            yield from _texts(self._answered("POST", "/v1/chat/completions", body))
        except (OSError, http.client.HTTPException) as error:
            raise CommandError(f"The answer of {self._url} broke off: {_reason(error)}.") from error
        finally:
            self._connection.close()

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """Return the JSON that the server answers; raises :class:`RefusedError` for an error."""
        return _json(self.text(method, path, body))

    def text(self, method: str, path: str, body: Any = None) -> str:
        """Return what the server answers, as text; raises :class:`RefusedError` for an error."""
        try:
            return self._answered(method, path, body).read().decode()
        except (OSError, http.client.HTTPException) as error:
            raise CommandError(f"The answer of {self._url} broke off: {_reason(error)}.") from error
        finally:
            self._connection.close()

    def _answered(self, method: str, path: str, body: Any = None) -> http.client.HTTPResponse:
        data = None if body is None else json.dumps(body).encode()
        try:
            self._connection.request(method, self._path + path, data, self._headers)
            answer: http.client.HTTPResponse = self._connection.getresponse()
        except (OSError, http.client.HTTPException) as error:
            why = _reason(error)
            raise CommandError(
                f"{self._url} does not answer: {why}. Is `llm-server serve` running?"
            ) from error
        if answer.status in _GOOD or (answer.status == _STARTING and method == "GET"):
            return answer
        told = _message(answer.read()) or f"{self._url} answered {answer.status} {answer.reason}."
        raise RefusedError(told, answer.status)


def _texts(lines: Iterable[bytes]) -> Iterator[str]:
    """Yield the text of server-sent events, each with one line of data, as this server writes them."""
    for line in lines:
        field, _, data = line.decode("utf-8", "replace").strip().partition(":")
        if field != "data":
            continue
        if data.strip() == "[DONE]":
            return
        chunk = _json(data)
        if "error" in chunk:
            raise CommandError(_message(data) or "The answer broke off.")
        for choice in chunk.get("choices", ()):
            if text := (choice.get("delta") or {}).get("content"):
                yield text
    raise CommandError("The answer ended before it was complete.")


def _json(data: str | bytes) -> Any:
    try:
        return json.loads(data)
    except ValueError as error:
        raise CommandError("The server's answer is no JSON. Is it an LLM Server?") from error


def _message(body: str | bytes) -> str:
    """Return the message of an error body in one line, or nothing if it has none."""
    try:
        return " ".join(str(json.loads(body)["error"]["message"]).split())
    except (ValueError, KeyError, TypeError):
        return ""


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
