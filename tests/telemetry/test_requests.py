"""The request log: what a line says, batches, bounds, and no secrets."""

import asyncio
import io
import time
from collections.abc import Callable
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from llm_server.contract import Attempt, Context, ErrorKind, Secret, ServerError, Usage
from llm_server.telemetry.config import TelemetryConfig
from llm_server.telemetry.log import Redactor
from llm_server.telemetry.requests import MAX_DETAIL, MAX_NAME, RequestLog, readable, to_stream

CANARY = 'sk-canary-"\\0123456789'
NOTHING = Usage()


class Written:
    """Collects what a log writes; ``lost`` counts the lines reported as lost."""

    def __init__(self, encode: Any = None, **config: Any) -> None:
        self.batches: list[bytes] = []
        self.lost = 0
        self.log = RequestLog(
            TelemetryConfig.model_validate(config),
            self.write,
            redact=Redactor([Secret(CANARY)]),
            on_drop=self.lose,
            **({"encode": encode} if encode else {}),
        )
        self.writer: Callable[[bytes], object] = self.batches.append

    def write(self, data: bytes) -> object:
        return self.writer(data)

    def lose(self, lines: int) -> None:
        self.lost += lines

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [msgspec.json.decode(line) for line in b"".join(self.batches).splitlines()]


def context(**fields: Any) -> Context:
    now_s = time.perf_counter()
    attempt = Attempt(
        provider="p", model="m", started_s=now_s - 0.5, ended_s=now_s, upstream_id="req_1", dialect="d"
    )
    defaults: dict[str, Any] = {"request_id": "r1", "route": "/v1/x", "model": "fast", "started_s": now_s - 1}
    return Context(**{**defaults, "attempts": [attempt], **fields})


async def one_line(ctx: Context, usage: Usage = NOTHING, error: ServerError | None = None) -> dict[str, Any]:
    written = Written()
    written.log.started(ctx)
    written.log.first_content(ctx)
    written.log.finished(ctx, usage, error)
    await written.log.flush()
    (line,) = written.lines
    return line


async def test_a_line_tells_the_story_of_a_request() -> None:
    usage = Usage(input_tokens=7, output_tokens=5, cached_tokens=3, reasoning_tokens=2)
    line = await one_line(context(streamed=True, dropped=["top_k"]), usage)
    assert line.pop("time").endswith("Z")
    assert line.pop("latency_ms") >= 1000
    assert line.pop("ttft_ms") >= 1000
    (attempt,) = line.pop("attempts")
    assert attempt.pop("latency_ms") > 499
    assert attempt == {"provider": "p", "model": "m", "upstream_id": "req_1"}
    assert line == {
        "event": "request",
        "request_id": "r1",
        "route": "/v1/x",
        "model": "fast",
        "status": 200,
        "streamed": True,
        "provider": "p",
        "upstream_model": "m",
        "input_tokens": 7,
        "output_tokens": 5,
        "cached_tokens": 3,
        "reasoning_tokens": 2,
        "dropped": ["top_k"],
    }


async def test_a_line_tells_whose_tokens_another_request_pays() -> None:
    line = await one_line(context(shared=True), Usage(input_tokens=7))
    assert (line["shared"], line["input_tokens"]) == (True, 7)


async def test_an_attempt_tells_what_it_spent_for_nothing() -> None:
    wasted = Usage(input_tokens=30, output_tokens=15)
    line = await one_line(context(attempts=[Attempt(provider="p", model="m", wasted=wasted)]))
    (attempt,) = line["attempts"]
    assert (attempt["input_tokens"], attempt["output_tokens"]) == (30, 15)


async def test_a_failure_tells_the_operator_why() -> None:
    ctx = context()
    ctx.attempts[0].error = ErrorKind.UPSTREAM_ERROR
    error = ServerError(
        ErrorKind.UPSTREAM_ERROR, "for the caller", param="messages[0]", detail="502 from edge-3"
    )
    line = await one_line(ctx, error=error)
    assert (line["status"], line["error"]) == (502, "upstream_error")
    assert (line["param"], line["detail"]) == ("messages[0]", "502 from edge-3")
    assert line["attempts"][0]["error"] == "upstream_error"
    assert "refused" not in line["attempts"][0]
    ctx.attempts[0].refused = True
    assert (await one_line(ctx))["attempts"][0]["refused"] is True
    assert "ttft_ms" not in line
    assert "for the caller" not in str(line)


async def test_a_request_that_reached_nobody_has_no_provider() -> None:
    line = await one_line(context(attempts=[]), error=ServerError(ErrorKind.MODEL_NOT_FOUND, "?"))
    assert line["status"] == 404
    assert not {"provider", "upstream_model", "attempts"} & line.keys()


async def test_long_names_are_cut() -> None:
    error = ServerError(ErrorKind.INTERNAL, "", detail="d" * 10_000)
    line = await one_line(context(model="m" * 1_000_000), error=error)
    assert line["model"] == "m" * MAX_NAME + "…"
    assert line["detail"] == "d" * MAX_DETAIL + "…"


@given(text=st.text(st.characters(), max_size=50))
async def test_any_text_stays_on_one_line(text: str) -> None:
    attempt = Attempt(provider="p", model=text, upstream_id=text)
    error = ServerError(ErrorKind.INTERNAL, text, param=text, detail=text)
    line = await one_line(
        context(model=text, request_id=text, dropped=[text], attempts=[attempt]), error=error
    )
    assert line["status"] == 500


async def test_half_a_surrogate_pair_does_not_stop_the_log() -> None:
    line = await one_line(context(attempts=[Attempt(provider="p", model="m", upstream_id="a\udcffb")]))
    assert line["attempts"][0]["upstream_id"] == "a?b"


@given(cut=st.integers(0, 40), before=st.integers(MAX_NAME - 40, MAX_NAME + 5))
async def test_no_secret_is_written_wherever_it_stands(cut: int, before: int) -> None:
    text = "x" * before + CANARY + "y" * cut
    detail = "x" * (before + MAX_DETAIL - MAX_NAME) + CANARY + "y" * cut
    written = Written()
    attempt = Attempt(provider="p", model=text, upstream_id=CANARY)
    ctx = context(model=text, request_id=CANARY, attempts=[attempt], dropped=[text, CANARY])
    written.log.finished(ctx, NOTHING, ServerError(ErrorKind.INTERNAL, CANARY, param=text, detail=detail))
    await written.log.flush()
    assert len(written.lines) == 1
    assert b"sk-canary" not in b"".join(written.batches)


async def test_lines_wait_for_the_flush_and_go_in_one_write() -> None:
    written = Written()
    for number in range(100):
        written.log.finished(context(request_id=str(number)), NOTHING, None)
    assert written.batches == []
    await written.log.flush()
    assert len(written.batches) == 1
    assert [line["request_id"] for line in written.lines] == [str(number) for number in range(100)]
    await written.log.flush()
    assert len(written.batches) == 1


async def test_a_full_buffer_loses_and_counts_the_newest() -> None:
    written = Written(log_buffer_lines=3)
    for number in range(5):
        written.log.finished(context(request_id=str(number)), NOTHING, None)
    await written.log.flush()
    assert [line["request_id"] for line in written.lines] == ["0", "1", "2"]
    assert written.lost == 2
    written.log.finished(context(), NOTHING, None)
    await written.log.flush()
    assert len(written.lines) == 4


async def test_a_failing_write_is_counted_and_the_log_goes_on() -> None:
    def full(data: bytes) -> None:
        raise OSError(28, "No space left on device")

    written = Written()
    works, written.writer = written.writer, full
    written.log.finished(context(), NOTHING, None)
    written.log.finished(context(), NOTHING, None)
    await written.log.flush()
    assert written.lost == 2
    written.writer = works
    written.log.finished(context(), NOTHING, None)
    await written.log.flush()
    assert len(written.lines) == 1


async def test_the_log_writes_by_itself_and_the_rest_when_it_is_flushed_at_the_end() -> None:
    written, arrived, loop = Written(log_flush_s=0.001), asyncio.Event(), asyncio.get_running_loop()

    def note(data: bytes) -> None:
        written.batches.append(data)
        loop.call_soon_threadsafe(arrived.set)

    written.writer = note
    task = asyncio.create_task(written.log.run())
    written.log.finished(context(request_id="first"), NOTHING, None)
    await arrived.wait()
    written.log.finished(context(request_id="last"), NOTHING, None)
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    await written.log.flush()
    assert [line["request_id"] for line in written.lines] == ["first", "last"]


async def test_nothing_is_kept_of_finished_requests() -> None:
    written = Written(log_buffer_lines=1)
    for _ in range(10):
        ctx = context(streamed=True)
        written.log.first_content(ctx)
        written.log.finished(ctx, NOTHING, None)
    assert not written.log._first_s


def test_a_stream_is_flushed_at_once() -> None:
    raw = io.BytesIO()
    buffered = io.BufferedWriter(raw)
    to_stream(buffered)(b"line\n")
    assert raw.getvalue() == b"line\n"


async def test_a_person_gets_a_line_to_read() -> None:
    written = Written(readable)
    ctx = context(streamed=True)
    written.log.first_content(ctx)
    written.log.finished(ctx, Usage(input_tokens=3, output_tokens=2), None)
    refused = context(attempts=[], model="nobody")
    written.log.finished(refused, NOTHING, ServerError(ErrorKind.MODEL_NOT_FOUND, "no", detail="why"))
    await written.log.flush()
    answered, failed = b"".join(written.batches).decode().splitlines()
    assert " 200 /v1/x  p/m  " in answered
    assert "ms, first after " in answered
    assert answered.endswith("3+2 tokens")
    assert " 404 /v1/x  nobody  " in failed
    assert failed.endswith("0+0 tokens  model_not_found why")
