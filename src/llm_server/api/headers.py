"""What the answer's headers say about how it came about."""

import math
import time
from collections.abc import Sequence
from functools import lru_cache

from llm_server.api.sink import Headers
from llm_server.contract import Attempt, Context, ErrorKind, ServerError, StructuredNote

MAX_VALUE = 4096
"""Characters of a header's value: half of what proxies commonly take for all headers together."""

MAX_ATTEMPTED = 16
"""Attempts that a header lists; a request that made more has a log."""
MAX_NAME = 128
"""Characters of a model's name there."""

_NAMES = str.maketrans(dict.fromkeys(",; ", "_"))
"""What separates attempts and their notes must not stand in a name."""

_POINTLESS = frozenset(
    {ErrorKind.CONFLICT, ErrorKind.UPSTREAM_AUTH, ErrorKind.UPSTREAM_QUOTA, ErrorKind.DEADLINE}
)
"""Kinds whose status the vendors' SDKs retry although another try cannot help."""


_WHOLE = b"".join(
    [
        b"content-type: %b\r\nx-request-id: %b\r\nrequest-id: %b\r\n",
        b"%bx-llm-server-attempts: 1\r\nx-llm-server-upstream-ms: %.2f\r\nx-llm-server-overhead-ms: %.3f\r\n",
    ]
)


def written(headers: Headers) -> bytes:
    """Return ``headers`` as lines."""
    pieces: list[bytes] = []
    for name, value in headers:
        pieces += (name, b": ", value, b"\r\n")
    return b"".join(pieces)


def plain_story(ctx: Context, content_type: bytes) -> bytes:
    """Return what :func:`story` says, as lines, if it is what almost every answer says; else nothing."""
    if len(ctx.attempts) != 1 or ctx.dropped or ctx.estimated or ctx.structured is not None:
        return b""
    attempt = ctx.attempts[0]
    upstream_s = attempt.upstream_s
    overhead_s = time.perf_counter() - ctx.started_s - upstream_s
    request_id = ctx.request_id.encode()
    return _WHOLE % (
        content_type,
        request_id,
        request_id,
        _answered_lines(attempt.provider, attempt.model),
        upstream_s * 1000,
        overhead_s * 1000 if overhead_s > 0 else 0.0,
    )


def story(ctx: Context, content_type: bytes) -> Headers:
    """Return the headers of every answer: ids, and :func:`course`."""
    request_id = ctx.request_id.encode()
    return [
        (b"content-type", content_type),
        (b"x-request-id", request_id),
        (b"request-id", request_id),
        *course(ctx),
    ]


def course(ctx: Context) -> Headers:
    """Return the headers about how an answer came about: who gave it, how many attempts, where time went.

    ``x-llm-server-upstream-ms`` is the time that all attempts spent waiting for upstreams up to now: to the
    first byte of a stream, to the end of a whole answer. ``x-llm-server-overhead-ms`` is the rest.
    """
    headers = _attempts(ctx) if ctx.attempt is not None else []
    if ctx.dropped:
        headers.append((b"x-llm-server-dropped", _listed(ctx.dropped)))
    if ctx.estimated:
        headers.append((b"x-llm-server-estimated", _listed(ctx.estimated)))
    if ctx.structured is not None:
        headers.append((b"x-llm-server-structured", _plain(_structured(ctx.structured))))
    return headers


def _listed(names: list[str]) -> bytes:
    return _plain(", ".join(dict.fromkeys(names)))


def _structured(note: StructuredNote) -> str:
    """Say how a structured answer came about: ``native; guarantee=exact; attempts=1; outcome=valid``."""
    told = {"guarantee": note.guarantee, "attempts": note.attempts, "outcome": note.outcome}
    words = [note.method, *(f"{name}={value}" for name, value in told.items())]
    return "; ".join([*words, f"dropped={','.join(note.dropped)}"] if note.dropped else words)


def _attempts(ctx: Context) -> Headers:
    latest = ctx.attempts[-1]
    upstream_s = sum([attempt.upstream_s for attempt in ctx.attempts])
    overhead_s = max(0.0, time.perf_counter() - ctx.started_s - upstream_s)
    headers = [
        *_answered_by(latest.provider, latest.model),
        (b"x-llm-server-attempts", b"%d" % sum([not attempt.refused for attempt in ctx.attempts])),
        (b"x-llm-server-upstream-ms", b"%.2f" % (upstream_s * 1000)),
        (b"x-llm-server-overhead-ms", b"%.3f" % (overhead_s * 1000)),
    ]
    if len(ctx.attempts) > 1 or latest.refused:
        headers.append((b"x-llm-server-attempted", _plain(_attempted(ctx.attempts))))
    return headers


def _attempted(attempts: Sequence[Attempt]) -> str:
    """Say how each ended: ``a/x;refused=unavailable;ms=0.0, b/y;error=upstream_error;ms=9.1, c/z;ok;ms=8.0``.

    Those that were refused here are in the list, and not in the number of attempts: nothing was sent.
    """
    told = []
    for attempt in attempts[:MAX_ATTEMPTED]:
        name = f"{attempt.provider}/{attempt.model}"[:MAX_NAME].translate(_NAMES)
        told.append(f"{name};{_end(attempt)};ms={attempt.upstream_s * 1000:.1f}")
    return ", ".join(told if len(attempts) <= MAX_ATTEMPTED else [*told, "..."])


def _end(attempt: Attempt) -> str:
    if attempt.outrun:
        return "outrun"
    if attempt.error is None:
        return "ok"
    return f"{'refused' if attempt.refused else 'error'}={attempt.error}"


@lru_cache(maxsize=1024)
def _answered_lines(provider: str, model: str) -> bytes:
    return written(_answered_by(provider, model))


@lru_cache(maxsize=1024)
def _answered_by(provider: str, model: str) -> Headers:
    return [(b"x-llm-server-provider", _plain(provider)), (b"x-llm-server-model", _plain(model))]


def retry(error: ServerError) -> Headers:
    """Return when to try again (RFC 9110, 10.2.3, and the SDKs' millisecond form), or not to."""
    headers: Headers = []
    if error.retry_after_s is not None:
        headers.append((b"retry-after", b"%d" % math.ceil(error.retry_after_s)))
        headers.append((b"retry-after-ms", b"%d" % math.ceil(error.retry_after_s * 1000)))
    if error.kind in _POINTLESS:
        headers.append((b"x-should-retry", b"false"))
    return headers


def _plain(text: str) -> bytes:
    """Header-safe: printable ASCII only, bounded; anything else a caller smuggled in becomes ``?``."""
    if len(text) <= MAX_VALUE and text.isascii() and text.isprintable():
        return text.encode()
    text = text.replace("…", "...")[:MAX_VALUE]
    return "".join(c if " " <= c <= "~" else "?" for c in text).encode()
