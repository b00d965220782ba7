"""What a name stands for: targets in order, and how often and when they may be asked."""

from collections.abc import Mapping

from msgspec import Struct

from llm_server.contract.context import Priority
from llm_server.contract.errors import Again, ErrorKind


class Target(Struct, frozen=True):
    """A model at a provider."""

    provider: str
    model: str

    def __str__(self) -> str:
        return f"{self.provider}/{self.model}"


class Plan(Struct, frozen=True, kw_only=True):
    """The order of attempts, and every candidate left out with the reason."""

    attempts: tuple[Target, ...]
    dropped: Mapping[Target, str] = {}


class RetryPolicy(Struct, frozen=True, kw_only=True):
    """How often, when and where a request is tried again.

    The numbers are those of the AWS SDKs' standard mode since 2026 (aws-sdk-go-v2#3400): three attempts,
    waits of up to 20 s, transient failures from 50 ms on, throttling from 1 s on, a server's ``retry-after``
    heeded up to 5 s beyond that. The budget's are Finagle's (``RetryBudget``).
    """

    attempts: int | None = None
    """Calls upstream that one request may make; ``None``: three, or one for each target if these are more."""
    where: Mapping[ErrorKind, Again] = {}
    """Where to try again after kinds of which the error registry says otherwise."""
    transient_base_s: float = 0.05
    throttled_base_s: float = 1.0
    max_delay_s: float = 20.0
    retry_after_slack_s: float = 5.0
    """A ``retry-after`` further than this beyond our own back-off is not waited for."""
    budget_share: float = 0.2
    """Calls beyond each request's first, as a share of the requests."""
    budget_floor_per_s: float = 10.0
    """Calls beyond the first that are allowed in any case, on average over ten seconds."""
    attempt_timeout_s: float | None = None
    """Seconds that an attempt may take to its first content, or to its end if it is not streamed."""


class HedgePolicy(Struct, frozen=True, kw_only=True):
    """When the next target is asked as well, because the first is slow."""

    after_percentile: float = 0.95
    """Of this target's times to the first content, as a share of one."""
    min_s: float = 0.1


class Route(Struct, frozen=True, kw_only=True):
    """What a caller's name for a model stands for.

    ``account`` names those who share a retry budget. ``instead`` holds, for kinds of failure that no ordinary
    target can mend, the targets that can.
    """

    account: str
    targets: tuple[Target, ...]
    retry: RetryPolicy = RetryPolicy()
    hedge: HedgePolicy | None = None
    priority: Priority | None = None
    """Of requests that have none of their own."""
    timeout_s: float | None = None
    """Seconds for the whole request, its attempts and waits together."""
    instead: Mapping[ErrorKind, tuple[Target, ...]] = {}
    spans: bool = False
    """Whether its targets are at several providers."""
