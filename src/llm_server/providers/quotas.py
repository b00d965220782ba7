"""How providers tell of their limits in headers, as data for the pool.

Where resets are told as the time at which an allowance is full again, it refills steadily (a token bucket):
https://platform.openai.com/docs/guides/rate-limits#rate-limits-in-headers,
https://platform.claude.com/docs/en/api/rate-limits#response-headers.
"""

import time
from collections.abc import Iterable
from datetime import datetime

from llm_server.pool import Allowance, QuotaRules
from llm_server.providers.dialects.failures import duration_s, number, retry_after_s


def seconds(text: str) -> float | None:
    """Read a number of seconds, or a duration such as ``6m0s``."""
    plain = number(text)
    return duration_s(text) if plain is None else plain


def rfc3339(text: str) -> float | None:
    """Read a date and time as the seconds until then."""
    try:
        return max(0.0, datetime.fromisoformat(text).timestamp() - time.time())
    except (ValueError, OverflowError):
        return None


def unix_ms(text: str) -> float | None:
    """Read Unix milliseconds as the seconds until then."""
    at_ms = number(text)
    return None if at_ms is None else max(0.0, at_ms / 1000 - time.time())


def _usual(kinds: Iterable[str]) -> tuple[Allowance, ...]:
    """Return the allowances of OpenAI's form, which many have copied."""
    return tuple(
        Allowance(
            name=kind,
            remaining=f"x-ratelimit-remaining-{kind}",
            reset=f"x-ratelimit-reset-{kind}",
            until=seconds,
        )
        for kind in kinds
    )


UNTOLD = QuotaRules(retry_after_s=retry_after_s)
"""Tells nothing but when to come back."""
USUAL = QuotaRules(allowances=_usual(("requests", "tokens")), retry_after_s=retry_after_s)
"""OpenAI's headers: durations until an allowance is full, for each model."""
ANTHROPIC = QuotaRules(
    allowances=tuple(
        Allowance(
            name=kind,
            remaining=f"anthropic-ratelimit-{kind}-remaining",
            reset=f"anthropic-ratelimit-{kind}-reset",
            until=rfc3339,
        )
        for kind in ("requests", "input-tokens", "output-tokens")
    ),
    retry_after_s=retry_after_s,
)
"""RFC 3339 times, for each class of models."""
ONE_WINDOW = QuotaRules(
    allowances=(
        Allowance(
            name="requests",
            remaining="x-ratelimit-remaining",
            reset="x-ratelimit-reset",
            until=unix_ms,
            refills=False,
        ),
    ),
    retry_after_s=retry_after_s,
    by_model=False,
)
"""OpenRouter's: one window for the key, which ends at a Unix time in milliseconds."""
TOGETHER = QuotaRules(
    allowances=tuple(
        Allowance(name=name, remaining=remaining, reset="x-ratelimit-reset", until=seconds, refills=False)
        for name, remaining in (("requests", "x-ratelimit-remaining"), ("tokens", "x-tokenlimit-remaining"))
    ),
    retry_after_s=retry_after_s,
)
"""Windows of seconds, for each model (https://docs.together.ai/docs/rate-limits)."""
