"""The story of one request, written while it happens."""

from msgspec import Struct

from llm_server.contract.errors import ErrorKind


class Attempt(Struct, kw_only=True):
    """One try at one target. Times are ``perf_counter`` seconds; ``None`` until they happen."""

    provider: str
    model: str
    dialect: str = ""
    started_s: float = 0.0
    first_byte_s: float | None = None
    ended_s: float | None = None
    upstream_id: str = ""
    error: ErrorKind | None = None

    @property
    def upstream_s(self) -> float:
        """Seconds spent on this attempt until its first byte if it streams on, else until its end."""
        end = self.ended_s or self.first_byte_s or self.started_s
        return end - self.started_s


class Context(Struct, kw_only=True):
    """What stages note about a request: read by headers, metrics and the log."""

    request_id: str
    route: str = ""
    """Path template of the endpoint, for example ``/v1/chat/completions``."""
    model: str = ""
    """The model as the caller named it."""
    streamed: bool = False
    left: bool = False
    """Whether the caller has gone before its answer was complete."""
    started_s: float = 0.0
    deadline_s: float | None = None
    """``perf_counter`` value after which the caller no longer waits, or ``None``."""
    attempts: list[Attempt] = []
    dropped: list[str] = []
    """Names of request fields that the upstream could not be given."""
    estimated: list[str] = []
    """Names of answer fields that are estimates."""

    @property
    def attempt(self) -> Attempt | None:
        """The latest attempt."""
        return self.attempts[-1] if self.attempts else None
