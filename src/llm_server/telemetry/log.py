"""The server's own log: standard ``logging``, as JSON lines or text, without secrets.

The standard library's formatter is enough here: structlog costs 0.3 s of start-up where everything has 1.0 s.
"""

import logging
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import TextIO

import msgspec

from llm_server.contract import Secret
from llm_server.telemetry.config import TelemetryConfig

MIN_SECRET = 8
"""Shorter values are no keys but words like ``none``, which would be cut out of every message."""
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "color_message"}
_UVICORN = ("uvicorn", "uvicorn.error", "uvicorn.access", "uvicorn.asgi")


class Redactor:
    """Replaces every occurrence of the known secrets in a text by ``***``: plain, as ``repr`` or as JSON."""

    def __init__(self, secrets: Iterable[Secret] = ()) -> None:
        plain = {secret.reveal() for secret in secrets if len(secret.reveal()) >= MIN_SECRET}
        plain |= {repr(value)[1:-1] for value in plain}
        escaped = {msgspec.json.encode(value).decode()[1:-1] for value in plain}
        # The longest first: a secret may be part of another.
        self._secrets = tuple(map(Secret, sorted(plain | escaped, key=len, reverse=True)))

    def __call__(self, text: str) -> str:
        """Return ``text`` without secrets."""
        for secret in self._secrets:
            text = secret.redact(text)
        return text


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, logger, event, the fields given as ``extra``, the exception."""

    def __init__(self, redact: Redactor) -> None:
        super().__init__()
        self._redact = redact

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as JSON. Values that are no JSON are written as their ``repr``."""
        extra = {name: value for name, value in vars(record).items() if name not in _STANDARD}
        fields = {
            "time": datetime.fromtimestamp(record.created, UTC),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
            **extra,
        }
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        if record.stack_info:
            fields["stack"] = record.stack_info
        safe = {name: _plain(value) for name, value in fields.items()}
        return self._redact(msgspec.json.encode(safe).decode())


def _plain(value: object) -> object:
    if value is None or isinstance(value, bool | int | float | datetime):
        return value
    text = value if isinstance(value, str) else repr(value)
    return text.encode("utf-8", "replace").decode()


class TextFormatter(logging.Formatter):
    """A line to read: time, level, logger, message; then the exception."""

    def __init__(self, redact: Redactor) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(name)s: %(message)s")
        self._redact = redact

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as text."""
        return self._redact(super().format(record))


def set_up_logging(config: TelemetryConfig, redact: Redactor, stream: TextIO | None = None) -> None:
    """Send everything that is logged in this process, uvicorn's messages and warnings too, to ``stream``.

    The default is standard error. uvicorn's access log is turned off: the request log says more. Call it
    once, at start, and give uvicorn ``log_config=None``.
    """
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter(redact) if config.as_json(handler.stream) else TextFormatter(redact))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(config.log_level.upper())
    for name in _UVICORN:
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = name != "uvicorn.access"
        # Its starting and stopping are told in our own words.
        logger.setLevel(logging.WARNING if config.log_level == "info" else logging.NOTSET)
    logging.captureWarnings(True)
