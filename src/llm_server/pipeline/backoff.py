"""How long to wait before the same target is asked again."""

from llm_server.contract import ErrorKind, RetryPolicy

THROTTLING = frozenset(
    {
        ErrorKind.UPSTREAM_RATE_LIMITED,
        ErrorKind.UPSTREAM_OVERLOADED,
        ErrorKind.OVERLOADED,
        ErrorKind.RATE_LIMITED,
    }
)
"""Failures that say there are too many requests: more of them, and soon, is what they ask not to get."""

MAX_DOUBLINGS = 32


def delay_s(
    policy: RetryPolicy, kind: ErrorKind, earlier: int, retry_after_s: float | None, chance: float
) -> float | None:
    """Return the seconds to wait after a failure of ``kind``, or ``None`` if that would be too long.

    ``random(0, min(cap, base * 2 ** earlier))``, with ``earlier`` failures of this target before it and
    ``chance`` in [0, 1): "full jitter", which of all forms of jitter spreads a crowd best (Marc Brooker, AWS
    Architecture Blog, "Exponential Backoff And Jitter"). A ``retry-after`` is waited for where it is longer,
    by up to the policy's slack: whoever asks sooner than told is refused again, and counted for it.
    """
    base_s = policy.throttled_base_s if kind in THROTTLING else policy.transient_base_s
    own_s = chance * min(policy.max_delay_s, base_s * 2.0 ** min(earlier, MAX_DOUBLINGS))
    if retry_after_s is None or retry_after_s <= own_s:
        return own_s
    return retry_after_s if retry_after_s <= own_s + policy.retry_after_slack_s else None
