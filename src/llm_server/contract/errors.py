"""The error registry: every failure that a caller can see, on one page.

The HTTP status of an upstream decides the kind, a documented error code may refine it, prose never does.
"""

from collections.abc import Iterable
from enum import StrEnum
from typing import NamedTuple, Self

from msgspec import Struct


class Block(StrEnum):
    """Whose fault a failure is."""

    CALLER = "caller"
    POLICY = "policy"
    UPSTREAM = "upstream"


class Again(StrEnum):
    """Where a request may be tried again after a failure."""

    NEVER = "never"
    """Nowhere: it would fail everywhere, or must not be repeated."""
    ELSEWHERE = "elsewhere"
    """At another target, at once; the same one would say the same."""
    ANYWHERE = "anywhere"
    """At another target, at once; or at the same one, after a back-off."""


class ErrorKind(StrEnum):
    """The closed set of failures, in three blocks. See :data:`RULES` for status and retry of each."""

    # the caller's fault
    INVALID_REQUEST = "invalid_request"
    UNSUPPORTED = "unsupported"
    CONTEXT_OVERFLOW = "context_overflow"
    CONTENT_REJECTED = "content_rejected"
    UNAUTHENTICATED = "unauthenticated"
    FORBIDDEN = "forbidden"
    NOT_FOUND = "not_found"
    MODEL_NOT_FOUND = "model_not_found"
    METHOD_NOT_ALLOWED = "method_not_allowed"
    CONFLICT = "conflict"
    TOO_LARGE = "too_large"
    CLIENT_CLOSED = "client_closed"
    # our policy
    RATE_LIMITED = "rate_limited"
    BUDGET_EXCEEDED = "budget_exceeded"
    OVERLOADED = "overloaded"
    UNAVAILABLE = "unavailable"
    DEADLINE = "deadline"
    INTERNAL = "internal"
    # the upstream's fault
    OUTPUT_INVALID = "output_invalid"
    UPSTREAM_AUTH = "upstream_auth"
    UPSTREAM_QUOTA = "upstream_quota"
    UPSTREAM_RATE_LIMITED = "upstream_rate_limited"
    UPSTREAM_OVERLOADED = "upstream_overloaded"
    UPSTREAM_ERROR = "upstream_error"
    UPSTREAM_UNREACHABLE = "upstream_unreachable"
    UPSTREAM_TIMEOUT = "upstream_timeout"
    UPSTREAM_TRUNCATED = "upstream_truncated"
    UPSTREAM_INVALID = "upstream_invalid"

    @property
    def status(self) -> int:
        """The HTTP status that the caller sees."""
        return RULES[self].status

    @property
    def again(self) -> "Again":
        """Where another attempt makes sense."""
        return RULES[self].again

    @property
    def retryable(self) -> bool:
        """Whether another attempt, here or at another target, may succeed."""
        return RULES[self].again is not Again.NEVER

    @property
    def block(self) -> Block:
        """Whose fault it is."""
        return RULES[self].block


class Rule(NamedTuple):
    """What follows from an error kind."""

    status: int
    again: Again
    block: Block


RULES: dict[ErrorKind, Rule] = {
    ErrorKind.INVALID_REQUEST: Rule(400, Again.NEVER, Block.CALLER),
    ErrorKind.UNSUPPORTED: Rule(400, Again.NEVER, Block.CALLER),
    ErrorKind.CONTEXT_OVERFLOW: Rule(400, Again.NEVER, Block.CALLER),
    ErrorKind.CONTENT_REJECTED: Rule(400, Again.NEVER, Block.CALLER),
    ErrorKind.UNAUTHENTICATED: Rule(401, Again.NEVER, Block.CALLER),
    ErrorKind.FORBIDDEN: Rule(403, Again.NEVER, Block.CALLER),
    ErrorKind.NOT_FOUND: Rule(404, Again.NEVER, Block.CALLER),
    # A route's next target may have the model that this one lacks.
    ErrorKind.MODEL_NOT_FOUND: Rule(404, Again.ELSEWHERE, Block.CALLER),
    ErrorKind.METHOD_NOT_ALLOWED: Rule(405, Again.NEVER, Block.CALLER),
    ErrorKind.CONFLICT: Rule(409, Again.NEVER, Block.CALLER),
    ErrorKind.TOO_LARGE: Rule(413, Again.NEVER, Block.CALLER),
    ErrorKind.CLIENT_CLOSED: Rule(499, Again.NEVER, Block.CALLER),
    ErrorKind.RATE_LIMITED: Rule(429, Again.NEVER, Block.POLICY),
    # 402 because no SDK retries it; each retries a 429 twice.
    ErrorKind.BUDGET_EXCEEDED: Rule(402, Again.NEVER, Block.POLICY),
    # Our own queue is full (the engine's, the pool's): another target may have room. Waiting was the queue's
    # own business: whom it refused must not wait again outside of it, and pass those who stand in it.
    ErrorKind.OVERLOADED: Rule(429, Again.ELSEWHERE, Block.POLICY),
    # A breaker is open, a model is not loaded: whoever says so knows better than a guess when that will end.
    ErrorKind.UNAVAILABLE: Rule(503, Again.ELSEWHERE, Block.POLICY),
    ErrorKind.DEADLINE: Rule(504, Again.NEVER, Block.POLICY),
    ErrorKind.INTERNAL: Rule(500, Again.NEVER, Block.POLICY),
    # The model's answer is not what the caller demanded, although it was asked again; another may
    # manage. 422 is retried by no SDK.
    ErrorKind.OUTPUT_INVALID: Rule(422, Again.ELSEWHERE, Block.UPSTREAM),
    # The caller's key is fine, ours is not: a 401 would send the caller looking in the wrong place.
    ErrorKind.UPSTREAM_AUTH: Rule(502, Again.ELSEWHERE, Block.UPSTREAM),
    ErrorKind.UPSTREAM_QUOTA: Rule(503, Again.ELSEWHERE, Block.UPSTREAM),
    ErrorKind.UPSTREAM_RATE_LIMITED: Rule(429, Again.ANYWHERE, Block.UPSTREAM),
    ErrorKind.UPSTREAM_OVERLOADED: Rule(503, Again.ANYWHERE, Block.UPSTREAM),
    ErrorKind.UPSTREAM_ERROR: Rule(502, Again.ANYWHERE, Block.UPSTREAM),
    ErrorKind.UPSTREAM_UNREACHABLE: Rule(502, Again.ANYWHERE, Block.UPSTREAM),
    # It has had all its time, and may be at work (and billing) still: the same again would only add to that.
    ErrorKind.UPSTREAM_TIMEOUT: Rule(504, Again.ELSEWHERE, Block.UPSTREAM),
    ErrorKind.UPSTREAM_TRUNCATED: Rule(502, Again.ANYWHERE, Block.UPSTREAM),
    ErrorKind.UPSTREAM_INVALID: Rule(502, Again.ANYWHERE, Block.UPSTREAM),
}


class Problem(Struct, frozen=True):
    """One reason why a value is not what was demanded of it.

    ``pointer`` says where (RFC 6901, empty for the whole), ``keyword`` which rule: a keyword of JSON Schema
    or the name of a rule of ours. ``expected`` and ``found`` are short texts for people and models.
    """

    pointer: str
    keyword: str
    expected: str
    found: str

    def __str__(self) -> str:
        place = self.pointer or "the answer"
        return f"{place}: expected {self.expected}, found {self.found} ({self.keyword})"


class ServerError(Exception):
    """The one exception that crosses rooms.

    ``message`` is for the caller and ``detail`` for the operator's log; neither ever holds a secret.

    Attributes:
        kind: what happened; decides status and retry.
        message: one or two sentences for the caller: what is wrong and what to do.
        param: path of the field at fault (``messages[0].content``), or ``None``.
        retry_after_s: seconds after which another try makes sense, or ``None``.
        detail: what the operator needs beyond the message.
        provider: name of the provider that failed, empty for our own failures.
        status: HTTP status that the upstream answered, or ``None``.
        problems: every reason, where a value was checked; the error answer lists them.
        raw_text: what the model said, where that could not be used; the error answer shows it.
    """

    def __init__(
        self,
        kind: ErrorKind,
        message: str,
        *,
        param: str | None = None,
        retry_after_s: float | None = None,
        detail: str = "",
    ) -> None:
        super().__init__(f"{kind}: {message}")
        self.kind = kind
        self.message = message
        self.param = param
        self.retry_after_s = retry_after_s
        self.detail = detail
        self.provider = ""
        self.status: int | None = None
        self.problems: tuple[Problem, ...] = ()
        self.raw_text: str | None = None

    def because(self, problems: Iterable[Problem], raw_text: str | None = None) -> Self:
        """Note every reason, and the model's words that they are about."""
        self.problems, self.raw_text = tuple(problems), raw_text
        return self

    def at(self, provider: str, status: int | None = None) -> Self:
        """Note where the failure happened: provider name and, if it answered, its HTTP status."""
        self.provider = provider
        self.status = status if status is not None else self.status
        return self
