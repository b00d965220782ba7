"""What a model can do, and what a call needs that it cannot."""

from msgspec import Struct

from llm_server.contract.calls import Call, ChatCall, CountCall, EmbedCall, TextCall
from llm_server.contract.messages import Image, ToolResult


class Facts(Struct, frozen=True, kw_only=True):
    """Capabilities of one model at one provider. The defaults suit an unknown modern chat model.

    ``refuses`` names sampling parameters that the model answers with an error: they are left out of the
    request and named in the ``x-llm-server-dropped`` header. Token counts are ``None`` where unknown.
    """

    chat: bool = True
    completions: bool = False
    embeddings: bool = False
    tools: bool = True
    images: bool = True
    json_object: bool = True
    json_schema: bool = True
    logprobs: bool = True
    choices: bool = True
    """Whether more than one choice (``n``) can be asked for."""
    reasoning: bool = True
    token_ids: bool = False
    """Whether inputs may be arrays of token ids."""
    dimensions: bool = True
    count_tokens: bool = False
    refuses: frozenset[str] = frozenset()
    context_tokens: int | None = None
    max_output_tokens: int | None = None
    owner: str = ""
    created: int = 0

    @property
    def capabilities(self) -> tuple[str, ...]:
        """The names of the abilities that a person asks for when choosing a model.

        A model chats or embeds. One that embeds has a chat model's defaults in everything else, and a
        provider that has embedding models says of all unknown ones that they might embed.
        """
        chatting = ("chat", "completions", "tools", "images", "json_schema", "reasoning")
        names = chatting if self.chat else ("completions", "embeddings")
        return tuple(name for name in names if getattr(self, name))


def _images(call: ChatCall) -> bool:
    parts = (part for message in call.messages for part in message.parts)
    return any(
        isinstance(part, Image)
        or (isinstance(part, ToolResult) and any(isinstance(inner, Image) for inner in part.parts))
        for part in parts
    )


def _chat_needs(call: ChatCall) -> dict[str, bool]:
    sampling, output = call.sampling, call.output
    return {
        "chat": True,
        "count_tokens": isinstance(call, CountCall),
        "tools": bool(call.tools),
        "images": _images(call),
        "json_schema": output is not None and output.kind == "json_schema",
        "json_object": output is not None and output.kind == "json_object",
        "logprobs": sampling.logprobs is not None,
        "choices": sampling.n > 1,
    }


def missing(call: Call, facts: Facts) -> str:
    """Name what ``call`` needs and a model with ``facts`` lacks, for the caller to read; empty if nothing."""
    match call:
        case ChatCall():
            needs = _chat_needs(call)
        case EmbedCall():
            ids = any(not isinstance(item, str) for item in call.inputs)
            needs = {"embeddings": True, "token_ids": ids, "dimensions": call.dimensions is not None}
        case TextCall():
            ids = any(not isinstance(item, str) for item in call.prompts)
            needs = {"token_ids": ids} if facts.completions else {"chat": True, **_beyond_chat(call, ids)}
        case _:
            needs = {}
    return ", ".join(WORDS[need] for need, needed in needs.items() if needed and not getattr(facts, need))


def _beyond_chat(call: TextCall, ids: bool) -> dict[str, bool]:
    """A text call to a model that only chats becomes a chat call: what has no place there is missing."""
    return {
        "token_ids": ids,
        "completions": bool(call.suffix) or call.echo or call.sampling.logprobs is not None,
    }


WORDS = {
    "chat": "chat",
    "completions": "text completion with suffix, echo or logprobs",
    "embeddings": "embeddings",
    "count_tokens": "counting tokens",
    "tools": "tools",
    "images": "images",
    "json_schema": "a response format with a JSON Schema",
    "json_object": "a JSON response format",
    "logprobs": "log probabilities",
    "choices": "more than one choice (n)",
    "token_ids": "input as arrays of token ids",
    "dimensions": "a choice of dimensions",
}
"""How each capability is named in an error message."""
