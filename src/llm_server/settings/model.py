"""The configuration as one frozen value: the rooms' own settings, composed."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, field_validator

from llm_server.api.config import ApiConfig
from llm_server.batching.config import BatchingConfig
from llm_server.batching.offline.config import BatchesConfig
from llm_server.engine.config import EngineConfig
from llm_server.pool.config import PoolConfig
from llm_server.providers.config import ProviderConfig
from llm_server.routing.config import RetryConfig, RouteConfig, RoutingConfig
from llm_server.storage.config import StorageConfig
from llm_server.structured.config import StructuredConfig
from llm_server.telemetry.config import TelemetryConfig

LOCAL = "local"
"""The name of the embedded engine among the providers."""


class ServerConfig(BaseModel):
    """Where the server listens and how it stops."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    host: str = Field(default="127.0.0.1", min_length=1, description="Address to listen on.")
    port: int = Field(default=8000, ge=0, le=65535, description="Port to listen on; 0 takes a free one.")
    workers: int = Field(
        default=1, ge=1, le=256, description="Processes that serve. Each loads the embedded model for itself."
    )
    drain_timeout_s: float = Field(
        default=30.0, ge=0, le=3600, description="Seconds that a stopping server gives to requests in flight."
    )
    keepalive_timeout_s: int = Field(
        default=75, ge=1, description="Seconds after which an idle connection of a client is closed."
    )
    backlog: int = Field(default=2048, ge=1, description="Connections that may wait to be accepted.")


class Settings(BaseModel):
    """Everything that can be configured. Read once, at the start, and frozen."""

    model_config = ConfigDict(frozen=True, extra="forbid", title="LLM Server")

    server: ServerConfig = Field(default=ServerConfig(), description="Where it listens and how it stops.")
    api: ApiConfig = Field(default=ApiConfig(), description="Limits and manners of the HTTP side.")
    discover: bool = Field(
        default=True,
        description="Enable every provider whose usual key variable is set, besides those under `providers`.",
    )
    providers: dict[str, ProviderConfig] = Field(
        default={}, description="Providers by the name that callers put before the model: `name/model`."
    )
    models: dict[str, RouteConfig] = Field(
        default={},
        description="Names of your own for models. A list is tried in order when one fails.",
        examples=[{"fast": ["groq/llama-3.3-70b-versatile", "openai/gpt-5-mini"]}],
    )
    retry: RetryConfig = Field(
        default=RetryConfig(),
        description="When requests that failed before their first content are tried again.",
    )
    default_model: str | None = Field(
        default=None, description=RoutingConfig.model_fields["default_model"].description
    )
    engine: EngineConfig = Field(
        default=EngineConfig(), description="The models that this server runs itself."
    )
    pool: PoolConfig = Field(default=PoolConfig(), description="Connections to providers.")
    batching: BatchingConfig = Field(
        default=BatchingConfig(), description="What is sent to providers together."
    )
    structured: StructuredConfig = Field(
        default=StructuredConfig(), description="How answers are brought into the form that is demanded."
    )
    batches: BatchesConfig = Field(
        default=BatchesConfig(), description="Files, and batches that are run from them in spare time."
    )
    storage: StorageConfig = Field(
        default=StorageConfig(),
        description="The database: registered schemas, files and batches are kept there.",
    )
    telemetry: TelemetryConfig = Field(default=TelemetryConfig(), description="Metrics and logs.")

    @property
    def routing(self) -> RoutingConfig:
        """The names that callers may use, as the routing room takes them."""
        return RoutingConfig(aliases=self.models, default_model=self.default_model, retry=self.retry)

    @property
    def provider_names(self) -> frozenset[str]:
        """The names that may stand before a model's: enabled providers, and the engine's."""
        enabled = {name for name, provider in self.providers.items() if provider.enabled}
        return frozenset(enabled | ({LOCAL} if self.engine.enabled else set()))

    @field_validator(
        "server",
        "api",
        "providers",
        "models",
        "retry",
        "engine",
        "pool",
        "batching",
        "structured",
        "batches",
        "storage",
        "telemetry",
        mode="before",
    )
    @classmethod
    def _empty(cls, value: Any) -> Any:
        """Take a section with nothing under it (all commented out) as an empty one."""
        return {} if value is None else value

    @field_validator("providers", mode="before")
    @classmethod
    def _bare(cls, value: Any) -> Any:
        """Take a provider with nothing under it as one without settings of its own."""
        if not isinstance(value, dict):
            return value
        return {name: {} if each is None else each for name, each in value.items()}
