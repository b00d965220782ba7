"""The hot routes in the OpenAPI document, with the true models of what they take and give.

Building these models is the costliest part of a start, so it waits until somebody asks for the document.
"""

from typing import Any, NamedTuple

from fastapi import FastAPI
from fastapi.routing import APIRoute
from pydantic import BaseModel

from llm_server.api.schemas import anthropic, openai
from llm_server.api.schemas.errors import AnthropicError, OpenAIError
from llm_server.contract import ErrorKind


class Document(NamedTuple):
    """What a hot route takes and gives."""

    tag: str
    summary: str
    request: type[BaseModel]
    response: type[BaseModel]
    error: type[BaseModel]


NO_422: dict[int | str, dict[str, Any]] = {"4XX": {"description": "The request's fault."}}
"""Keeps FastAPI from documenting its own 422, which is never answered: an invalid request is a 400."""

DOCUMENTS = {
    "/v1/chat/completions": Document(
        "openai",
        "Continue a conversation (OpenAI dialect)",
        openai.ChatCompletionRequest,
        openai.ChatCompletion,
        OpenAIError,
    ),
    "/v1/completions": Document(
        "openai",
        "Complete prompts (OpenAI's legacy form)",
        openai.CompletionRequest,
        openai.TextCompletion,
        OpenAIError,
    ),
    "/v1/embeddings": Document(
        "openai",
        "Embed texts (OpenAI dialect)",
        openai.EmbeddingRequest,
        openai.EmbeddingList,
        OpenAIError,
    ),
    "/v1/messages": Document(
        "anthropic",
        "Continue a conversation (Anthropic dialect)",
        anthropic.MessageRequest,
        anthropic.Message,
        AnthropicError,
    ),
    "/v1/messages/count_tokens": Document(
        "anthropic",
        "Count the input tokens of a conversation (Anthropic dialect)",
        anthropic.CountTokensRequest,
        anthropic.TokenCount,
        AnthropicError,
    ),
}


def document(app: FastAPI) -> None:
    """Add the hot routes to what ``app`` describes; requests never reach these, the endpoints come first."""
    for path, described in DOCUMENTS.items():
        app.router.routes.append(_route(path, described))


def _route(path: str, described: Document) -> APIRoute:
    async def unreached(body: BaseModel) -> None:
        """Give FastAPI the request's model."""

    unreached.__annotations__["body"] = described.request
    return APIRoute(
        path,
        unreached,
        methods=["POST"],
        name=path.rpartition("/")[2],
        summary=described.summary,
        description=described.request.__doc__ or "",
        tags=[described.tag],
        response_model=described.response,
        responses=_streamed(described.request) | _errors(described.error),
    )


def _streamed(request: type[BaseModel]) -> dict[int | str, dict[str, Any]]:
    """Return the other form of the answer, of a route that streams."""
    if "stream" not in request.model_fields:
        return {}
    told = "The whole answer; with `stream`, the dialect's server-sent events."
    return {200: {"description": told, "content": {"text/event-stream": {}}}}


def _errors(model: type[BaseModel]) -> dict[int | str, dict[str, Any]]:
    kinds: dict[int | str, list[str]] = {}
    for kind in ErrorKind:
        kinds.setdefault(kind.status, []).append(kind.value)
    told = {status: {"model": model, "description": ", ".join(names)} for status, names in kinds.items()}
    return {**told, **NO_422}
