"""Settings of the pool room."""

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Seconds = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(gt=0, le=1)]


class AdaptiveConfig(BaseModel):
    """How the number of requests at one upstream follows what it can take."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    enabled: bool = Field(default=True, description="Off: `max_connections` alone is the limit.")
    initial: int = Field(default=64, ge=1, description="Requests at once before anything is known.")
    floor: int = Field(default=4, ge=1, description="The limit never falls below.")


class BreakerConfig(BaseModel):
    """When an upstream that fails is left alone for a while."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    enabled: bool = Field(default=True, description="Off: every request is tried, however many failed.")
    consecutive_failures: int = Field(default=5, ge=1, description="Failures in a row that open it.")
    failure_share: Share = Field(
        default=0.85, description="Share of failures among the requests of the last `window_s` that opens it."
    )
    min_requests: int = Field(
        default=20, ge=1, description="Requests in the window below which the share says nothing."
    )
    window_s: Seconds = Field(default=30.0, description="Seconds that are looked back.")
    open_s: Seconds = Field(
        default=5.0,
        description="Seconds that it stays open at first; doubled each time it fails again.",
    )
    max_open_s: Seconds = Field(default=300.0, description="Seconds that it stays open at most.")
    probe_path: str | None = Field(
        default=None,
        description="A path below the base URL that is asked (GET) while it is open; any answer below 500 "
        "closes it. Without one the next request is the probe.",
    )


def _transport(chosen: dict[str, Any]) -> Literal["direct", "aiohttp"]:
    """Return the transport that what else was chosen needs."""
    return "aiohttp" if chosen.get("proxy_from_env") else "direct"


class PoolConfig(BaseModel):
    """Limits and timeouts of the connections to one upstream."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    proxy_from_env: bool = Field(
        default=False,
        description="Obey `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY` of the environment; `transport` is "
        "`aiohttp` then.",
    )
    transport: Literal["direct", "aiohttp"] = Field(
        default_factory=_transport,
        description="`direct` is the fast one, and used if nothing else is said. `aiohttp` goes through HTTP "
        "proxies and takes odd servers.",
    )
    max_connections: int = Field(
        default=256,
        ge=1,
        description="Requests on their way to this upstream at once; each has a connection.",
    )
    min_connections: int = Field(
        default=0, ge=0, description="Connections that are opened ahead and stay open (direct only)."
    )
    max_waiting: int = Field(
        default=1024,
        ge=0,
        description="Requests that may wait for a connection; those beyond are refused with 429, the least "
        "urgent first.",
    )
    acquire_timeout_s: Seconds = Field(
        default=10.0,
        description="Seconds that a request waits for a connection before it is refused with 429. Who will "
        "probably not have one in time, or would only wait in an overload, is refused at once.",
    )
    connect_timeout_s: Seconds = Field(
        default=10.0, description="Seconds for name resolution, TCP connection and TLS handshake together."
    )
    write_timeout_s: Seconds = Field(
        default=60.0, description="Seconds in which nothing of a request's body could be sent."
    )
    first_byte_timeout_s: Seconds = Field(
        default=300.0,
        description="Seconds until the answer's headers; a whole answer is generated in this time.",
    )
    idle_timeout_s: Seconds = Field(
        default=120.0, description="Seconds of silence allowed between two pieces of an answer."
    )
    total_timeout_s: Seconds = Field(
        default=900.0, description="Seconds for the whole exchange, streams included."
    )
    keepalive_s: Seconds = Field(
        default=30.0,
        description="Seconds that an idle connection is kept for the next request, up to a tenth less.",
    )
    max_age_s: Seconds = Field(
        default=600.0,
        description="Seconds after which a connection takes no further request, up to a tenth less.",
    )
    max_header_bytes: int = Field(
        default=64 * 1024, ge=1024, description="Largest block of headers that is read of an answer."
    )
    max_response_bytes: int = Field(
        default=64 * 1024 * 1024,
        ge=1024,
        description="Largest whole answer that is read, after decompression.",
    )
    ca_file: Path | None = Field(
        default=None, description="Certificates to trust instead of the system's (PEM)."
    )
    client_cert_file: Path | None = Field(
        default=None, description="Certificate to show to the upstream (mTLS, PEM)."
    )
    client_key_file: Path | None = Field(
        default=None, description="Its private key, where the certificate's file has none."
    )
    obey_quotas: bool = Field(
        default=True,
        description="Ask nothing of a model while the upstream says that a quota is used up or when to come "
        "back. Requests wait for it within `acquire_timeout_s` where no other target is left, or are refused "
        "with 429.",
    )
    adaptive: AdaptiveConfig = Field(
        default=AdaptiveConfig(), description="How the limit follows what the upstream can take."
    )
    breaker: BreakerConfig = Field(
        default=BreakerConfig(), description="When an upstream that fails is left alone for a while."
    )

    @model_validator(mode="after")
    def _agreeing(self) -> Self:
        """Refuse what would be ignored."""
        if self.proxy_from_env and self.transport == "direct":
            raise ValueError("proxy_from_env: the direct transport knows no proxies; leave transport out")
        if self.client_key_file and not self.client_cert_file:
            raise ValueError("client_key_file: needs client_cert_file")
        return self
