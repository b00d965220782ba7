"""The list of models, in the shape of the SDK that asks."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Protocol

from fastapi import APIRouter, Request

from llm_server.api.schemas.control import AnthropicModel, AnthropicModels, OpenAIModel, OpenAIModels
from llm_server.api.schemas.errors import AnthropicError, OpenAIError
from llm_server.contract import ErrorKind, ModelInfo, ServerError


class Listing(Protocol):
    """Where the api learns which models there are. Implemented in catalog/."""

    @property
    def failures(self) -> Mapping[str, str]:
        """What went wrong with each provider whose models could not be listed the last time."""
        ...

    async def models(self) -> Sequence[ModelInfo]:
        """Return all models that can be asked for now, aliases included, in a stable order."""
        ...


def _openai(model: ModelInfo) -> OpenAIModel:
    return OpenAIModel(
        id=model.id,
        created=model.created,
        owned_by=model.provider,
        context_window=model.context_tokens,
        max_output_tokens=model.max_output_tokens,
        capabilities=list(model.capabilities),
    )


def _anthropic(model: ModelInfo) -> AnthropicModel:
    return AnthropicModel(
        id=model.id,
        display_name=model.display_name or model.id,
        created_at=datetime.fromtimestamp(model.created, UTC).isoformat().replace("+00:00", "Z"),
        max_input_tokens=model.context_tokens,
        max_tokens=model.max_output_tokens,
    )


def _page(models: Sequence[ModelInfo], limit: int, after: str | None, before: str | None) -> AnthropicModels:
    ids = [model.id for model in models]
    for param, place in (("after_id", after), ("before_id", before)):
        if place and place not in ids:
            message = f"{param}: there is no model '{place[:128]}'. GET /v1/models lists all."
            raise ServerError(ErrorKind.NOT_FOUND, message, param=param)
    first = ids.index(after) + 1 if after in ids else 0
    last = ids.index(before) if before in ids else len(ids)
    chosen = models[max(first, last - limit) : last] if before in ids else models[first : first + limit]
    has_more = len(chosen) < last - first
    data = [_anthropic(model) for model in chosen]
    ends = (data[0].id, data[-1].id) if data else (None, None)
    return AnthropicModels(data=data, has_more=has_more, first_id=ends[0], last_id=ends[1])


ERRORS: dict[int | str, dict[str, Any]] = {
    "4XX": {
        "model": OpenAIError | AnthropicError,
        "description": "invalid_request, model_not_found: in the shape of the SDK that asks.",
    }
}


def router(listing: Listing) -> APIRouter:
    """Return the routes ``GET /v1/models`` and ``GET /v1/models/{id}``.

    The header ``anthropic-version`` asks for Anthropic's shape, with its paging.
    """
    routes = APIRouter(tags=["models"], responses=ERRORS)

    async def models(
        request: Request, limit: int = 1000, after_id: str | None = None, before_id: str | None = None
    ) -> OpenAIModels | AnthropicModels:
        """List the models that can be asked for."""
        known = await listing.models()
        if "anthropic-version" in request.headers:
            return _page(known, max(1, min(limit, 1000)), after_id, before_id)
        return OpenAIModels(data=[_openai(model) for model in known])

    async def model(request: Request, model_id: str) -> OpenAIModel | AnthropicModel:
        """Describe one model."""
        found = next((info for info in await listing.models() if info.id == model_id), None)
        if found is None:
            message = f"Unknown model '{model_id[:128]}'. GET /v1/models lists all."
            raise ServerError(ErrorKind.MODEL_NOT_FOUND, message, param="model")
        return _anthropic(found) if "anthropic-version" in request.headers else _openai(found)

    routes.add_api_route("/v1/models", models)
    routes.add_api_route("/v1/models/{model_id:path}", model)
    return routes
