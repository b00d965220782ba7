"""A caller's completions or embeddings request: both take text or token ids, one or many."""

from collections.abc import Mapping, Sequence

from llm_server.contract import EmbedCall, ServerError, TextCall
from llm_server.wire.openai import types as wire
from llm_server.wire.openai.request import shared_sampling, wants_usage
from llm_server.wire.reading import Reader, invalid

MAX_INPUTS = 2048
"""Inputs of one request, as OpenAI documents for embeddings."""

TEXT_READER = Reader(wire.TextRequest)
EMBEDDINGS_READER = Reader(wire.EmbeddingsRequest)

Inputs = tuple[str | tuple[int, ...], ...]


def text_call(body: bytes, headers: Mapping[str, str]) -> TextCall:
    """Return the completions call that ``body`` asks for; raises ``INVALID_REQUEST``."""
    del headers
    request = TEXT_READER.read(body)
    return TextCall(
        model=request.model,
        dialect="openai",
        raw=body,
        stream=request.stream or False,
        prompts=inputs(request.prompt, "prompt"),
        sampling=shared_sampling(request, request.max_tokens, request.logprobs),
        suffix=request.suffix or "",
        echo=request.echo or False,
        user=request.user or "",
        include_usage=wants_usage(request.stream_options),
    )


def embed_call(body: bytes, headers: Mapping[str, str]) -> EmbedCall:
    """Return the embeddings call that ``body`` asks for; raises ``INVALID_REQUEST``."""
    del headers
    request = EMBEDDINGS_READER.read(body)
    return EmbedCall(
        model=request.model,
        dialect="openai",
        raw=body,
        inputs=inputs(request.input, "input"),
        dimensions=request.dimensions,
        base64=request.encoding_format == "base64",
        user=request.user or "",
    )


def inputs(given: str | Sequence[str | int | list[int]], field: str) -> Inputs:
    """Return the inputs of any of the four forms: a text, texts, token ids, lists of token ids.

    Raises:
        ServerError: ``INVALID_REQUEST`` for a mixture, too many, none, or an empty list of ids.
    """
    if isinstance(given, str):
        return (given,)
    texts = tuple(item for item in given if isinstance(item, str))
    ids = tuple(item for item in given if isinstance(item, int))
    lists = tuple(tuple(item) for item in given if isinstance(item, list))
    if not given or max(len(texts), len(ids), len(lists)) < len(given):
        raise _mixed(field)
    if ids:
        lists = (ids,)
    if len(texts) + len(lists) > MAX_INPUTS:
        raise invalid(field, f"expected at most {MAX_INPUTS} inputs, got {len(given)}.")
    if not all(lists):
        raise _mixed(field)
    return texts or lists


def _mixed(field: str) -> ServerError:
    return invalid(
        field,
        "expected a string, or a non-empty array of only strings, only token ids, or only arrays of them.",
    )
