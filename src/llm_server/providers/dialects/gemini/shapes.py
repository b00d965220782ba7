"""The messages of Gemini's API that are read, as far as they are used.

Source: https://ai.google.dev/api/generate-content (v1beta) and ``google.genai.types`` 3.4. Unknown fields are
ignored; a missing one has its proto3 default.
"""

from typing import Any

from msgspec import Struct


class Wire(Struct, frozen=True, rename="camel"):
    """A message of the API: camel case names, unknown fields ignored."""


class FunctionCall(Wire, frozen=True):
    """A tool call; ``args`` is always a whole object (streamed arguments are asked for elsewhere)."""

    name: str = ""
    args: dict[str, Any] | None = None
    id: str | None = None


class Part(Wire, frozen=True):
    """A piece of content; exactly one of text and function call, the rest are ignored kinds."""

    text: str | None = None
    thought: bool | None = None
    thought_signature: str | None = None
    function_call: FunctionCall | None = None


class Content(Wire, frozen=True):
    """What a candidate says."""

    parts: list[Part] | None = None


class Token(Wire, frozen=True):
    """A token with its log probability."""

    token: str = ""
    log_probability: float = 0.0


class TopTokens(Wire, frozen=True):
    """The likeliest tokens at one step, best first."""

    candidates: list[Token] = []


class Logprobs(Wire, frozen=True):
    """The log probabilities of a candidate's tokens, step by step."""

    chosen_candidates: list[Token] = []
    top_candidates: list[TopTokens] = []


class Candidate(Wire, frozen=True):
    """One alternative answer."""

    content: Content | None = None
    index: int = 0
    finish_reason: str | None = None
    finish_message: str | None = None
    logprobs_result: Logprobs | None = None


class Feedback(Wire, frozen=True):
    """Why a prompt was refused."""

    block_reason: str | None = None


class Counts(Wire, frozen=True):
    """``UsageMetadata``: tokens, running totals in a stream."""

    prompt_token_count: int = 0
    candidates_token_count: int = 0
    thoughts_token_count: int = 0
    tool_use_prompt_token_count: int = 0
    cached_content_token_count: int = 0


class Answer(Wire, frozen=True):
    """A ``GenerateContentResponse``: a whole answer, or one step of a streamed one."""

    candidates: list[Candidate] | None = None
    prompt_feedback: Feedback | None = None
    usage_metadata: Counts | None = None
    model_version: str = ""
    response_id: str = ""


class Vector(Wire, frozen=True):
    """One embedding."""

    values: tuple[float, ...] = ()


class Embedded(Wire, frozen=True):
    """``BatchEmbedContentsResponse``."""

    embeddings: list[Vector] = []
    usage_metadata: Counts | None = None


class Counted(Wire, frozen=True):
    """``CountTokensResponse``."""

    total_tokens: int


class Model(Wire, frozen=True):
    """A model as listed."""

    name: str
    display_name: str = ""
    input_token_limit: int | None = None
    output_token_limit: int | None = None
    supported_generation_methods: list[str] | None = None


class Models(Wire, frozen=True):
    """``ListModelsResponse``; one page holds them all."""

    models: list[Model] = []
