"""Settings of the routing room."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    WithJsonSchema,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from llm_server.contract import Again, ErrorKind

Seconds = Annotated[float, Field(gt=0)]

_TARGET = {"type": "string", "examples": ["openai/gpt-5-mini"]}
_SHORT = [_TARGET, {"type": "array", "items": _TARGET, "minItems": 1}]

Targets = Annotated[
    tuple[str, ...],
    BeforeValidator(lambda value: (value,) if isinstance(value, str) else value),
    Field(min_length=1),
    WithJsonSchema({"anyOf": _SHORT}),
]
"""One ``provider/model``, or several in the order in which they are tried."""


class RetryConfig(BaseModel):
    """When a request that failed before its first content is tried again: at the next target, or here."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    attempts: int | None = Field(
        default=None,
        ge=1,
        le=100,
        description="Calls upstream that one request may make, the first included. By default 3, or one for "
        "each target if these are more.",
    )
    where: dict[ErrorKind, Again] = Field(
        default={},
        description="Where to try again after a kind of error, if not where it usually makes sense: `never`, "
        "`elsewhere` (at another target) or `anywhere` (or at the same one, after a back-off).",
        examples=[{"upstream_timeout": "anywhere"}],
    )
    transient_base_s: Seconds = Field(
        default=0.05, description="Most seconds of the first wait before the same target is asked again."
    )
    throttled_base_s: Seconds = Field(
        default=1.0, description="The same after an answer that says there are too many requests."
    )
    max_delay_s: Seconds = Field(default=20.0, description="Most seconds of any wait; each may double.")
    retry_after_slack_s: float = Field(
        default=5.0,
        ge=0,
        description="Seconds beyond its own wait that a provider's `retry-after` is waited for. If it wants "
        "more, the caller gets the error, with that `retry-after`.",
    )
    budget_share: float = Field(
        default=0.2,
        ge=0,
        le=1,
        description="Calls beyond each request's first, as a share of the requests of the last 10 seconds.",
    )
    budget_floor_per_s: float = Field(
        default=10.0, ge=0, description="Such calls a second that are allowed however few requests there are."
    )
    attempt_timeout_s: Seconds | None = Field(
        default=None,
        description="Seconds until a stream's first content, or a whole answer, after which the next target "
        "is tried. By default the pool's timeouts alone decide.",
    )


class HedgeConfig(BaseModel):
    """When the next target is asked as well because the first one is slow; the first content wins."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    after_percentile: float = Field(
        default=0.95,
        gt=0,
        lt=1,
        description="Ask when an answer takes longer than this share of the target's recent ones.",
    )
    min_s: Seconds = Field(default=0.1, description="Never sooner than after so many seconds.")


class RouteConfig(BaseModel):
    """A name of your own: the targets that it stands for, and how they are used."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    targets: Targets = Field(description="`provider/model`, in the order in which they are tried.")
    retry: RetryConfig = Field(
        default=RetryConfig(), description="What is different here from the general `retry`."
    )
    hedge: HedgeConfig | None = Field(
        default=None, description="Ask the next target too when the first is slow; by default never."
    )
    priority: Literal["interactive", "default", "batch"] | None = Field(
        default=None, description="Of requests that name none of their own."
    )
    timeout_s: Seconds | None = Field(
        default=None, description="Seconds for the whole request, all its attempts and waits together."
    )
    on_context_overflow: Targets | None = Field(
        default=None, description="Targets for requests that are too long for the others."
    )
    on_content_rejected: Targets | None = Field(
        default=None, description="Targets for requests that a provider's content policy rejects."
    )

    @model_validator(mode="before")
    @classmethod
    def _short(cls, value: Any) -> Any:
        """Take one target, or a list of them, as a route without settings of its own."""
        return value if isinstance(value, dict | cls) else {"targets": value}

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        """Tell of the short forms too."""
        whole = handler.resolve_ref_schema(handler(core_schema))
        return {"anyOf": [*_SHORT, whole], "description": whole.pop("description", "")}


class RoutingConfig(BaseModel):
    """Names that callers may use for models, besides ``provider/model``, which always works."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    aliases: Mapping[str, RouteConfig] = Field(
        default={},
        description="A name and the `provider/model` it stands for; a list is tried in order.",
        examples=[{"fast": ["groq/llama-3.3-70b-versatile", "openai/gpt-4o-mini"]}],
    )
    default_model: str | None = Field(
        default=None,
        description="The model for requests that name an unknown one, which is otherwise an error.",
    )
    retry: RetryConfig = Field(default=RetryConfig(), description="When failed requests are tried again.")
