"""The story of one request, written while it happens."""

from enum import IntEnum
from typing import Literal

from msgspec import Struct

from llm_server.contract.answers import Usage
from llm_server.contract.errors import ErrorKind, Problem
from llm_server.contract.schemas import SchemaVersion


class Priority(IntEnum):
    """Who goes first where requests wait, and who is shed last: lower numbers."""

    INTERACTIVE = 0
    DEFAULT = 1
    BATCH = 2


class Attempt(Struct, kw_only=True):
    """One try at one target. Times are ``perf_counter`` seconds; ``None`` until they happen."""

    provider: str
    model: str
    dialect: str = ""
    started_s: float = 0.0
    first_byte_s: float | None = None
    ended_s: float | None = None
    queued_s: float = 0.0
    """Seconds that it waited for a place at the upstream."""
    upstream_id: str = ""
    error: ErrorKind | None = None
    wasted: Usage = Usage()
    """Tokens of this try's answers that nobody was given."""
    outrun: bool = False
    """Whether it was given up because another, started beside it, was the first with content."""
    refused: bool = False
    """Whether nothing was sent: the upstream is left alone for a while, or there is no room for more."""

    @property
    def upstream_s(self) -> float:
        """Seconds spent on this attempt until its first byte if it streams on, else until its end."""
        end = self.ended_s or self.first_byte_s or self.started_s
        return end - self.started_s


class StructuredNote(Struct, kw_only=True):
    """How a structured answer came about, written by the stage that made it.

    ``problems`` are those of the last answer that was not yet valid: empty when the first one was.
    """

    method: Literal["native", "tool", "prompt", "grammar"]
    guarantee: Literal["exact", "relaxed", "validated"]
    """``exact``: nothing else can be decoded; ``relaxed``: hardly, then checked; ``validated``: checked."""
    attempts: int = 1
    """Answers asked of the model, repairs included."""
    outcome: Literal["pending", "valid", "repaired", "refused", "filtered", "truncated", "invalid"] = (
        "pending"
    )
    """``repaired``: valid after its text was read leniently (a fence, a missing comma). A stream's is
    ``pending`` until its end. All but ``valid`` and ``repaired`` say that the answer lacks the form."""
    dropped: tuple[str, ...] = ()
    """Keywords that the method could not enforce; they were checked afterwards."""
    problems: tuple[Problem, ...] = ()
    raw_text: str = ""
    """The model's own words, before wrappings were taken off and repairs made."""


class Context(Struct, kw_only=True):
    """What stages note about a request: read by headers, metrics and the log."""

    request_id: str
    route: str = ""
    """Path template of the endpoint, for example ``/v1/chat/completions``."""
    model: str = ""
    """The model as the caller named it."""
    tenant: str = ""
    """Whose request it is: what belongs to one is never shared with another. Empty where there is but one."""
    streamed: bool = False
    left: bool = False
    """Whether the caller has gone before its answer was complete."""
    started_s: float = 0.0
    deadline_s: float | None = None
    """``perf_counter`` value after which the caller no longer waits, or ``None``."""
    priority: Priority = Priority.DEFAULT
    desperate: bool = False
    """Whether every target is ejected: an upstream that is left alone because it failed is to be tried."""
    elsewhere: bool = False
    """Whether another target is left to ask: who must not be asked for a while is not waited for."""
    marked: bool = False
    """Whether the next turn may go to another provider: an answer's signatures must say whose they are."""
    max_attempts: int | None = None
    """Answers that may be asked of one model until one has the form demanded; ``None`` by default."""
    attempts: list[Attempt] = []
    dropped: list[str] = []
    """Names of request fields that the upstream could not be given."""
    estimated: list[str] = []
    """Names of answer fields that are estimates."""
    wasted: Usage = Usage()
    """Tokens of answers that nobody was given, because they were not what had been asked for."""
    shared: bool = False
    """Whether the answer is another request's as well, which pays for it: the usage told was billed once,
    there. Settled when the answer ends."""
    schema: SchemaVersion | None = None
    """The registered schema that was used; ``None`` where the call named none."""
    structured: StructuredNote | None = None
    """How the structured answer was made; ``None`` where none was asked for."""

    @property
    def attempt(self) -> Attempt | None:
        """The latest attempt."""
        return self.attempts[-1] if self.attempts else None

    def waste(self, usage: Usage) -> None:
        """Note tokens of an answer of the latest attempt that nobody is given."""
        self.wasted += usage
        if self.attempts:
            self.attempts[-1].wasted += usage
