"""Which routes there are: the hot ones as data, each documented with its true models."""

from typing import Any, NamedTuple

from fastapi import FastAPI
from fastapi.routing import APIRoute
from pydantic import BaseModel

from llm_server.api.endpoint import Door, Endpoint
from llm_server.api.schemas import anthropic, openai
from llm_server.api.schemas.errors import AnthropicError, OpenAIError
from llm_server.contract import ErrorKind
from llm_server.wire import (
    ANTHROPIC_COUNT,
    ANTHROPIC_MESSAGES,
    OPENAI_CHAT,
    OPENAI_COMPLETIONS,
    OPENAI_EMBEDDINGS,
)
from llm_server.wire.codec import Codec


class Hot(NamedTuple):
    """A hot route: its path below ``/v1``, who decodes it, and what documents it."""

    path: str
    codec: Codec
    summary: str
    request: type[BaseModel]
    response: type[BaseModel]
    error: type[BaseModel]


HOT = (
    Hot(
        "/chat/completions",
        OPENAI_CHAT,
        "Continue a conversation (OpenAI dialect)",
        openai.ChatCompletionRequest,
        openai.ChatCompletion,
        OpenAIError,
    ),
    Hot(
        "/completions",
        OPENAI_COMPLETIONS,
        "Complete prompts (OpenAI's legacy form)",
        openai.CompletionRequest,
        openai.TextCompletion,
        OpenAIError,
    ),
    Hot(
        "/embeddings",
        OPENAI_EMBEDDINGS,
        "Embed texts (OpenAI dialect)",
        openai.EmbeddingRequest,
        openai.EmbeddingList,
        OpenAIError,
    ),
    Hot(
        "/messages",
        ANTHROPIC_MESSAGES,
        "Continue a conversation (Anthropic dialect)",
        anthropic.MessageRequest,
        anthropic.Message,
        AnthropicError,
    ),
    Hot(
        "/messages/count_tokens",
        ANTHROPIC_COUNT,
        "Count the input tokens of a conversation (Anthropic dialect)",
        anthropic.CountTokensRequest,
        anthropic.TokenCount,
        AnthropicError,
    ),
)


def endpoints(door: Door) -> dict[str, Endpoint]:
    """Return every hot path and its endpoint: with and without ``/v1``, and under the dialect's own mount."""
    found: dict[str, Endpoint] = {}
    for hot in HOT:
        endpoint = Endpoint(f"/v1{hot.path}", hot.codec, door)
        for prefix in ("/v1", "", f"/{hot.codec.dialect}/v1", f"/{hot.codec.dialect}"):
            found[prefix + hot.path] = endpoint
    return found


def document(app: FastAPI, hot: dict[str, Endpoint]) -> None:
    """Put the hot routes into FastAPI's router as well: for ``/docs``, 405 answers and other servers."""
    shown = {f"/v1{row.path}": row for row in HOT}
    for path, endpoint in hot.items():
        route = _documented(path, shown[path]) if path in shown else _hidden(path)
        route.app = endpoint
        app.router.routes.append(route)


def _hidden(path: str) -> APIRoute:
    async def never() -> None:
        """Give the route a signature; what runs is the endpoint."""

    return APIRoute(path, never, methods=["POST"], include_in_schema=False)


def _documented(path: str, row: Hot) -> APIRoute:
    async def never(body: BaseModel) -> None:
        """Give FastAPI the request's model; what runs is the endpoint."""

    never.__annotations__["body"] = row.request
    return APIRoute(
        path,
        never,
        methods=["POST"],
        summary=row.summary,
        description=row.request.__doc__ or "",
        tags=[row.codec.dialect],
        response_model=row.response,
        responses=_errors(row.error),
    )


def _errors(model: type[BaseModel]) -> dict[int | str, dict[str, Any]]:
    kinds: dict[int | str, list[str]] = {}
    for kind in ErrorKind:
        kinds.setdefault(kind.status, []).append(kind.value)
    return {status: {"model": model, "description": ", ".join(names)} for status, names in kinds.items()}
