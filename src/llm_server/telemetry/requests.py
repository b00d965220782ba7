"""The request log: one line for each request, numbers and names, never content."""

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import BinaryIO

import msgspec
from msgspec import Struct

from llm_server.contract import Attempt, Context, ServerError, Usage
from llm_server.telemetry.config import TelemetryConfig

MAX_NAME = 200
"""Characters kept of a name that a caller or an upstream chose."""
MAX_DETAIL = 2_000
"""Characters kept of what an error tells the operator."""


class AttemptLine(Struct, omit_defaults=True):
    """An attempt in the request log. ``upstream_id`` is what the provider's support asks for.

    ``refused``: nothing was sent. Its tokens are those of answers that nobody was given.
    """

    provider: str
    model: str
    latency_ms: float
    upstream_id: str = ""
    error: str = ""
    refused: bool = False
    input_tokens: int = 0
    output_tokens: int = 0


class RequestLine(Struct, omit_defaults=True, tag_field="event", tag="request"):
    """A line of the request log. What was not known, or is zero, is left out."""

    time: datetime
    request_id: str
    route: str
    model: str
    status: int
    latency_ms: float
    streamed: bool = False
    ttft_ms: float | None = None
    provider: str = ""
    upstream_model: str = ""
    error: str = ""
    param: str = ""
    detail: str = ""
    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0
    shared: bool = False
    attempts: list[AttemptLine] = []
    dropped: list[str] = []
    estimated: list[str] = []


lines_of_json: Callable[[list[RequestLine]], bytes] = msgspec.json.Encoder().encode_lines


class RequestLog:
    """An observer that collects lines and writes them in batches, in a thread. Implements ``Observer``.

    Args:
        config: the interval and the bound of the buffer.
        write: takes the bytes of whole lines; may block, may raise ``OSError``.
        redact: takes the secrets out of a text, JSON or not.
        on_drop: told the number of lines that were lost, because the buffer was full or ``write`` failed.
        encode: makes bytes of lines; JSON, or :func:`readable`.
    """

    def __init__(
        self,
        config: TelemetryConfig,
        write: Callable[[bytes], object],
        *,
        redact: Callable[[str], str],
        on_drop: Callable[[int], object],
        encode: Callable[[list[RequestLine]], bytes] = lines_of_json,
    ) -> None:
        self._config = config
        self._write = write
        self._redact = redact
        self._on_drop = on_drop
        self._encode = encode
        self._lines: list[RequestLine] = []
        self._first_s: dict[int, float] = {}
        self._flushing = asyncio.Lock()

    def started(self, ctx: Context) -> None:
        """Nothing is written before the end."""

    def first_content(self, ctx: Context) -> None:
        """Remember when a streamed answer began; forgotten again when the request is finished."""
        if ctx.streamed:
            self._first_s[id(ctx)] = time.perf_counter()

    def finished(self, ctx: Context, usage: Usage, error: ServerError | None) -> None:
        """Add the request's line to the buffer, or count it as lost when the buffer is full."""
        first_s = self._first_s.pop(id(ctx), None)
        if len(self._lines) >= self._config.log_buffer_lines:
            self._on_drop(1)
            return
        line = self._line(ctx, usage)
        line.ttft_ms = None if first_s is None else _ms(first_s - ctx.started_s)
        if error is not None:
            line.status = error.kind.status
            line.error = error.kind.value
            line.param = self._short(error.param or "")
            line.detail = self._short(error.detail, MAX_DETAIL)
        self._lines.append(line)

    def _line(self, ctx: Context, usage: Usage) -> RequestLine:
        attempt = ctx.attempt
        return RequestLine(
            time=datetime.now(UTC),
            request_id=self._short(ctx.request_id),
            route=ctx.route,
            model=self._short(ctx.model),
            status=200,
            latency_ms=_ms(time.perf_counter() - ctx.started_s),
            streamed=ctx.streamed,
            provider=attempt.provider if attempt else "",
            upstream_model=self._short(attempt.model) if attempt else "",
            input_tokens=usage.input_tokens,
            output_tokens=usage.output_tokens,
            cached_tokens=usage.cached_tokens,
            cache_write_tokens=usage.cache_write_tokens,
            reasoning_tokens=usage.reasoning_tokens,
            shared=ctx.shared,
            attempts=[self._attempt(each) for each in ctx.attempts],
            dropped=[self._short(name) for name in ctx.dropped],
            estimated=list(ctx.estimated),
        )

    async def run(self) -> None:
        """Write what was collected, at each interval, until cancelled; ``flush`` then writes the rest."""
        while True:
            await asyncio.sleep(self._config.log_flush_s)
            await self.flush()

    async def flush(self) -> None:
        """Write what was collected until now."""
        async with self._flushing:
            lines, self._lines = self._lines, []
            if not lines:
                return
            try:
                await asyncio.to_thread(self._write_lines, lines)
            except OSError:
                # The disk is full or the reader is gone; requests go on.
                self._on_drop(len(lines))

    def _write_lines(self, lines: list[RequestLine]) -> None:
        self._write(self._redact(self._encode(lines).decode()).encode())

    def _attempt(self, attempt: Attempt) -> AttemptLine:
        return AttemptLine(
            provider=attempt.provider,
            model=self._short(attempt.model),
            latency_ms=_ms(attempt.upstream_s),
            upstream_id=self._short(attempt.upstream_id),
            error=attempt.error.value if attempt.error else "",
            refused=attempt.refused,
            input_tokens=attempt.wasted.input_tokens,
            output_tokens=attempt.wasted.output_tokens,
        )

    def _short(self, text: str, limit: int = MAX_NAME) -> str:
        """Bound a foreign string, and replace halves of surrogate pairs, which cannot be encoded."""
        if len(text) > limit:
            # A secret cut in two would not be recognised later.
            text = self._redact(text)[:limit] + "…"
        return text if text.isascii() else text.encode("utf-8", "replace").decode()


def readable(lines: list[RequestLine]) -> bytes:
    """Return lines for a person: time, status, route, who answered, how long, tokens, what went wrong."""
    return "".join(map(_readable, lines)).encode()


def _readable(line: RequestLine) -> str:
    target = f"{line.provider}/{line.upstream_model}" if line.provider else line.model
    first = "" if line.ttft_ms is None else f", first after {line.ttft_ms:.0f} ms"
    error = f"  {line.error} {line.detail}".rstrip() if line.error else ""
    tokens = f"{line.input_tokens}+{line.output_tokens} tokens"
    took = f"{line.latency_ms:.0f} ms{first}"
    return (
        f"{line.time.astimezone():%H:%M:%S} {line.status} {line.route}  {target}  {took}  {tokens}{error}\n"
    )


def to_stream(stream: BinaryIO) -> Callable[[bytes], None]:
    """Return a function that writes bytes to ``stream`` at once."""

    def write(data: bytes) -> None:
        stream.write(data)
        stream.flush()

    return write


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 3)
