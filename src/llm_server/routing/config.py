"""Settings of the routing room."""

from pydantic import BaseModel, ConfigDict, Field


class RoutingConfig(BaseModel):
    """Names that callers may use for models, besides ``provider/model``, which always works."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    aliases: dict[str, tuple[str, ...]] = Field(
        default={},
        description="A name and the `provider/model` it stands for; a list is tried in order.",
        examples=[{"fast": ["groq/llama-3.3-70b-versatile", "openai/gpt-4o-mini"]}],
    )
    default_model: str | None = Field(
        default=None,
        description="The model for requests that name an unknown one, which is otherwise an error.",
    )
