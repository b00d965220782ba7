"""One call for several requests: what it is told of them, and what each of them is told of it."""

import logging
from collections.abc import Iterable

import msgspec

from llm_server.contract import Context, ErrorKind, ServerError, Usage

_log = logging.getLogger(__name__)


def common(contexts: Iterable[Context]) -> Context:
    """Return the context of a call made for all ``contexts``, with an attempt of its own.

    It is as urgent as the most urgent of them, and of use until the latest no longer waits.
    """
    first, *others = contexts
    made = msgspec.structs.replace(
        first,
        attempts=[msgspec.structs.replace(first.attempt, started_s=0.0)] if first.attempt else [],
        dropped=[],
        estimated=[],
        wasted=Usage(),
        left=False,
    )
    for other in others:
        made.priority = min(made.priority, other.priority)
        if made.deadline_s is not None:
            made.deadline_s = None if other.deadline_s is None else max(made.deadline_s, other.deadline_s)
    return made


def tell(ctx: Context, source: Context) -> None:
    """Write into ``ctx`` what ``source`` notes about the call. May be repeated as more becomes known.

    Nothing happened before the request's own attempt began, also where the call is older.
    """
    mine, its = ctx.attempt, source.attempt
    if mine is not None and its is not None:
        mine.started_s = max(mine.started_s, its.started_s)
        mine.dialect, mine.upstream_id = its.dialect, its.upstream_id
        mine.queued_s = its.queued_s
        if its.first_byte_s is not None:
            mine.first_byte_s = max(mine.started_s, its.first_byte_s)
        if its.ended_s is not None:
            mine.ended_s = max(mine.started_s, its.ended_s)
    for names, found in ((ctx.dropped, source.dropped), (ctx.estimated, source.estimated)):
        names += [name for name in found if name not in names]


def own(error: ServerError) -> ServerError:
    """Return a copy of ``error``: stages write into the one that they get."""
    copy = ServerError.__new__(ServerError, *error.args)
    copy.__dict__.update(error.__dict__)
    return copy


def as_told(failure: BaseException) -> ServerError:
    """Return what the requests are told of a call that ended with ``failure``; a bug is logged, once."""
    if isinstance(failure, ServerError):
        return failure
    if isinstance(failure, Exception):
        _log.error("a call made for several requests failed", exc_info=failure)
        return ServerError(ErrorKind.INTERNAL, "Internal error.", detail=repr(failure))
    return ServerError(ErrorKind.UNAVAILABLE, "The server is shutting down.")
