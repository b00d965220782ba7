"""The server's own log: formats, foreign loggers, and no secrets."""

import io
import json
import logging
import warnings
from collections.abc import Iterator

import pytest

from llm_server.contract import Secret
from llm_server.telemetry.config import TelemetryConfig
from llm_server.telemetry.log import Redactor, set_up_logging

CANARY = 'sk-canary-"\\0123456789'
FORMATS = ("json", "text")


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    logging.captureWarnings(False)
    root.handlers[:] = handlers
    root.setLevel(level)


def set_up(log_format: str = "json", level: str = "info") -> io.StringIO:
    stream = io.StringIO()
    config = TelemetryConfig.model_validate({"log_format": log_format, "log_level": level})
    set_up_logging(config, Redactor([Secret(CANARY), Secret("")]), stream)
    return stream


def test_json_has_the_fields_of_the_record() -> None:
    stream = set_up()
    logging.getLogger("room").info("loaded %d models", 3, extra={"provider": "p", "took_s": 0.5, "odd": {1}})
    line = json.loads(stream.getvalue())
    assert line.pop("time").endswith("Z")
    assert line == {
        "level": "info", "logger": "room", "event": "loaded 3 models",
        "provider": "p", "took_s": 0.5, "odd": "{1}",
    }  # fmt: skip


def test_text_is_a_line_to_read() -> None:
    stream = set_up("text")
    logging.getLogger("room").warning("slow")
    assert stream.getvalue().endswith("WARNING room: slow\n")


@pytest.mark.parametrize("log_format", FORMATS)
def test_exceptions_are_written_with_their_traceback(log_format: str) -> None:
    stream = set_up(log_format)
    try:
        raise LookupError("what happened")
    except LookupError:
        logging.getLogger("room").exception("failed", stack_info=True)
    assert "Traceback" in stream.getvalue()
    assert "what happened" in stream.getvalue()
    assert "Stack (most recent call last)" in stream.getvalue()


def test_json_stays_on_one_line_whatever_is_said() -> None:
    stream = set_up()
    logging.getLogger("room").info("two\nlines \udcff \x00")
    assert stream.getvalue().count("\n") == 1
    assert json.loads(stream.getvalue())["event"] == "two\nlines ? \x00"


@pytest.mark.parametrize("log_format", FORMATS)
def test_no_secret_is_written(log_format: str) -> None:
    stream = set_up(log_format)
    log = logging.getLogger("room")
    try:
        raise ValueError(f"bad key {CANARY}")
    except ValueError as error:
        log.exception("message %s and %r", CANARY, error, extra={"key": CANARY, "keys": [CANARY]})
    logging.getLogger("uvicorn.error").error("header: %s", CANARY)
    assert stream.getvalue().count("***") >= 4
    assert "sk-canary" not in stream.getvalue()


def test_the_longest_secret_goes_first_and_short_words_stay() -> None:
    redact = Redactor([Secret("abcdefgh"), Secret("abcdefgh-ijkl"), Secret("none")])
    assert redact("none: abcdefgh-ijkl abcdefgh") == "none: *** ***"


def test_uvicorn_speaks_through_us_but_not_of_every_request() -> None:
    stray = logging.StreamHandler(io.StringIO())
    logging.getLogger("uvicorn").addHandler(stray)
    stream = set_up()
    logging.getLogger("uvicorn.error").info("Started server process")
    logging.getLogger("uvicorn.error").warning("odd")
    logging.getLogger("uvicorn.access").info("GET /")
    assert [json.loads(line)["event"] for line in stream.getvalue().splitlines()] == ["odd"]
    assert stray.stream.getvalue() == ""


def test_warnings_go_to_the_log() -> None:
    stream = set_up()
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(True)
        warnings.warn("old way", DeprecationWarning, stacklevel=1)
    assert "old way" in json.loads(stream.getvalue())["event"]


def test_the_level_decides() -> None:
    stream = set_up(level="warning")
    logging.getLogger("room").info("quiet")
    logging.getLogger("room").warning("loud")
    assert [json.loads(line)["event"] for line in stream.getvalue().splitlines()] == ["loud"]


class Terminal(io.StringIO):
    """A stream that a person reads."""

    def isatty(self) -> bool:
        return True


def test_auto_is_text_on_a_terminal_and_json_elsewhere() -> None:
    config = TelemetryConfig()
    assert config.as_json(io.StringIO())
    assert not config.as_json(Terminal())
    assert TelemetryConfig(log_format="json").as_json(Terminal())
    assert not TelemetryConfig(log_format="text").as_json(io.StringIO())
