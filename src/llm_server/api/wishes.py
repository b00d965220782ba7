"""What a caller may ask of the server itself, by headers: how long it waits, and how urgent it is."""

import re
from collections.abc import Mapping

from llm_server.api.config import PriorityHeader
from llm_server.contract import Context, ErrorKind, Priority, ServerError

TIMEOUT = "x-llm-server-timeout"
"""Seconds (``30``, ``2.5``, ``30s``) or milliseconds (``500ms``) after which the caller no longer waits."""
PRIORITY = "x-llm-server-priority"
"""``interactive``, ``default`` or ``batch``."""

MIN_TIMEOUT_S = 0.001
MAX_TIMEOUT_S = 86_400.0

_TIMEOUT = re.compile(r"(?P<number>[0-9]{1,9}(?:\.[0-9]{1,9})?)(?P<unit>ms|s|)")
_PRIORITIES = {priority.name.lower(): priority for priority in Priority}


def note_wishes(headers: Mapping[str, str], ctx: Context, allowed: PriorityHeader) -> None:
    """Note in ``ctx`` what ``headers`` ask for: an earlier deadline, another priority.

    A timeout above the server's own has no effect, nor has a priority above what ``allowed`` lets it be.

    Raises:
        ServerError: ``INVALID_REQUEST`` for a value that is not one.
    """
    if (timeout := headers.get(TIMEOUT)) is not None:
        deadline_s = ctx.started_s + _seconds(timeout)
        ctx.deadline_s = deadline_s if ctx.deadline_s is None else min(ctx.deadline_s, deadline_s)
    if allowed != "ignore" and (wish := headers.get(PRIORITY)) is not None:
        priority = _PRIORITIES.get(wish.strip().lower())
        if priority is None:
            raise _invalid(PRIORITY, f"expected one of {', '.join(_PRIORITIES)}, got '{wish[:32]}'.")
        ctx.priority = priority if allowed == "any" else max(priority, ctx.priority)


def _seconds(text: str) -> float:
    found = _TIMEOUT.fullmatch(text.strip())
    if found is None:
        raise _invalid(TIMEOUT, f"expected seconds, or milliseconds as in '500ms', got '{text[:32]}'.")
    seconds = float(found["number"]) / (1000 if found["unit"] == "ms" else 1)
    if not MIN_TIMEOUT_S <= seconds <= MAX_TIMEOUT_S:
        raise _invalid(TIMEOUT, f"expected 1ms to {MAX_TIMEOUT_S:g} seconds, got '{text[:32]}'.")
    return seconds


def _invalid(name: str, words: str) -> ServerError:
    return ServerError(ErrorKind.INVALID_REQUEST, f"{name}: {words}", param=name)
