"""Answers of the control-plane routes."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class Health(BaseModel):
    """The process answers."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"status": "ok", "version": "0.1.0"}]})

    status: Literal["ok"] = "ok"
    version: str = Field(description="Version of the server.")


class Part(BaseModel):
    """One part of the server."""

    name: str = Field(description="Name of the provider or engine.")
    state: Literal["ready", "starting", "failed"]
    message: str = Field(default="", description="What the operator should know or do.")


class Readiness(BaseModel):
    """Whether to send traffic: ``starting`` answers 503, ``degraded`` serves with what works."""

    status: Literal["ready", "degraded", "starting"]
    version: str
    parts: list[Part]


class OpenAIModel(BaseModel):
    """A model, in OpenAI's shape."""

    id: str = Field(description="The name to ask for: `provider/model`, or an alias.")
    object: Literal["model"] = "model"
    created: int = Field(description="Unix time in seconds, 0 where the provider does not tell.")
    owned_by: str = Field(description="The provider's name.")
    context_window: int | None = Field(default=None, description="Context in tokens, where known.")
    max_output_tokens: int | None = Field(default=None, description="Longest answer in tokens, where known.")
    capabilities: list[str] = Field(default=[], description="What it can do, as far as is known.")


class OpenAIModels(BaseModel):
    """All models, in OpenAI's shape."""

    object: Literal["list"] = "list"
    data: list[OpenAIModel]


class AnthropicModel(BaseModel):
    """A model, in Anthropic's shape."""

    type: Literal["model"] = "model"
    id: str
    display_name: str
    created_at: str = Field(description="RFC 3339 time.")
    max_input_tokens: int | None = None
    max_tokens: int | None = None


class AnthropicModels(BaseModel):
    """A page of models, in Anthropic's shape."""

    data: list[AnthropicModel]
    has_more: bool
    first_id: str | None
    last_id: str | None
