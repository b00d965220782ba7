import logging

import pytest

from llm_server.contract import Context, ErrorKind, Observer, ServerError, Usage
from llm_server.telemetry.observers import Observers


class Recorder:
    def __init__(self) -> None:
        self.heard: list[str] = []

    def started(self, ctx: Context) -> None:
        self.heard.append(f"started {ctx.request_id}")

    def first_content(self, ctx: Context) -> None:
        self.heard.append(f"first {ctx.request_id}")

    def finished(self, ctx: Context, usage: Usage, error: ServerError | None) -> None:
        self.heard.append(f"finished {ctx.request_id} {usage.input_tokens} {error.kind if error else 'ok'}")


class Broken:
    def started(self, ctx: Context) -> None:
        raise RuntimeError("broken")

    def first_content(self, ctx: Context) -> None:
        raise KeyError("broken")

    def finished(self, ctx: Context, usage: Usage, error: ServerError | None) -> None:
        raise ZeroDivisionError


def tell(observer: Observer, error: ServerError | None = None) -> None:
    ctx = Context(request_id="r")
    observer.started(ctx)
    observer.first_content(ctx)
    observer.finished(ctx, Usage(input_tokens=3), error)


def test_everybody_hears_everything() -> None:
    recorders = Recorder(), Recorder()
    tell(Observers(recorders, pytest.fail))
    tell(Observers(recorders, pytest.fail), ServerError(ErrorKind.DEADLINE, "late"))
    for recorder in recorders:
        assert recorder.heard == [
            "started r", "first r", "finished r 3 ok", "started r", "first r", "finished r 3 deadline"
        ]  # fmt: skip


def test_a_broken_observer_is_counted_logged_once_and_hurts_nobody(caplog: pytest.LogCaptureFixture) -> None:
    recorder, failures = Recorder(), list[str]()
    observers = Observers((Broken(), recorder), failures.append)
    with caplog.at_level(logging.ERROR):
        tell(observers)
        tell(observers)
    assert len(recorder.heard) == 6
    assert failures == ["Broken"] * 6
    (record,) = caplog.records
    assert record.exc_info is not None
