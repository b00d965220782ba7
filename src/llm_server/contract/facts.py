"""What a model can do, and what a call needs that it cannot."""

from collections.abc import Mapping

from msgspec import Struct

from llm_server.contract.calls import Call, ChatCall, CountCall, EmbedCall, TextCall
from llm_server.contract.errors import ErrorKind, ServerError
from llm_server.contract.messages import Image, Text, ToolResult


class SchemaRules(Struct, frozen=True, kw_only=True):
    """Which JSON Schemas a model's own schema mode takes; a schema is rewritten to these before it is sent.

    What cannot be kept is moved into descriptions where the rules allow one, and checked afterwards in any
    case. ``None`` for a set or a number means no limit.
    """

    enforced: bool = False
    """Whether the provider promises that answers follow the schema, instead of trying."""
    root_object: bool = False
    """The root must be an object: any other root is wrapped."""
    all_required: bool = False
    """Every property must be required: an optional one becomes nullable, and nulls are taken out again."""
    closed: bool = False
    """Every object must have ``additionalProperties: false``."""
    typed: bool = False
    """Every schema must say its type: what may be anything cannot be expressed."""
    some_required: bool = False
    """Every object must have a required property."""
    keywords: frozenset[str] | None = None
    """Keywords that are taken; others are dropped."""
    formats: frozenset[str] | None = None
    refs: bool = True
    """Whether local ``$ref`` is taken; otherwise references are inlined."""
    recursion: bool = True
    string_enums: bool = False
    """Whether only strings may stand in ``enum``."""
    nullable: bool = False
    """Whether null is said by ``nullable: true`` (OpenAPI 3.0) instead of a type."""
    max_depth: int | None = None
    max_properties: int | None = None
    max_optional: int | None = None
    max_unions: int | None = None


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
    schema_rules: SchemaRules = SchemaRules()
    """What the native schema mode takes; only meaningful with ``json_schema``."""
    forced_tools: bool = False
    """Whether a call that forces one tool can be answered even without ``tools``."""
    grammar: bool = False
    """Whether decoding itself can be constrained: by regular expressions, choices, grammars and schemas."""
    grammar_exact: bool = True
    """Whether it is held to the grammar as it is given; otherwise an engine makes its own of the form, which
    may let more through, or refuses."""
    grammar_without: frozenset[str] = frozenset()
    """Kinds of form that decoding cannot be held to all the same: names of ``OutputFormat.kind``."""
    guided: bool = False
    """Whether regular expressions, choices and grammars can be asked for in the provider's own words."""
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
    known: frozenset[str] = frozenset()
    """Names of the capabilities that are known of this model; the others are guessed from its provider."""

    @property
    def capabilities(self) -> tuple[str, ...]:
        """The names of the known abilities that a person asks for when choosing a model; no guesses.

        A model chats or embeds. One that embeds has a chat model's defaults in everything else, and a
        provider that has embedding models says of all its chat models that they might embed.
        """
        names = CHATTING if self.chat else ("completions", "embeddings")
        return tuple(name for name in names if name in self.known and getattr(self, name))


CHATTING = ("chat", "completions", "tools", "images", "json_schema", "reasoning")
CAPABILITIES = frozenset({*CHATTING, "embeddings"})
"""What is told of a model that is known as a whole."""


def _versatile(facts: Facts) -> bool:
    """Whether a model can do everything that a chat call without an output format may need."""
    return facts.chat and facts.tools and facts.images and facts.logprobs and facts.choices


def _images(call: ChatCall) -> bool:
    parts = (part for message in call.messages for part in message.parts)
    return any(
        isinstance(part, Image)
        or (isinstance(part, ToolResult) and any(isinstance(inner, Image) for inner in part.parts))
        for part in parts
    )


def _is_plain(call: ChatCall) -> bool:
    """Whether ``call`` is a conversation in words alone, which every chat model takes: most are."""
    sampling = call.sampling
    if call.tools or call.output is not None or sampling.logprobs is not None or sampling.n > 1:
        return False
    for message in call.messages:
        for part in message.parts:
            if type(part) is not Text:
                return False
    return True


def _chat_needs(call: ChatCall, facts: Facts) -> dict[str, bool]:
    sampling, output = call.sampling, call.output
    return {
        "chat": True,
        "count_tokens": isinstance(call, CountCall),
        "tools": bool(call.tools) and not (facts.forced_tools and call.forced_tool),
        "images": _images(call),
        "json_schema": output is not None and output.kind == "json_schema",
        "json_object": output is not None and output.kind == "json_object",
        "grammar": output is not None and output.kind == "grammar" and not facts.guided,
        "logprobs": sampling.logprobs is not None,
        "choices": sampling.n > 1,
    }


def needs_lacking(call: Call, facts: Facts) -> tuple[str, ...]:
    """Return the capabilities, as in ``WORDS``, that ``call`` needs and a model with ``facts`` lacks."""
    if type(call) is ChatCall and call.output is None and _versatile(facts):
        return ()  # the common case, without a look at each of a long conversation's parts
    if type(call) is ChatCall and facts.chat and _is_plain(call):
        return ()
    match call:
        case ChatCall():
            needs = _chat_needs(call, facts)
        case EmbedCall():
            ids = any(not isinstance(item, str) for item in call.inputs)
            needs = {"embeddings": True, "token_ids": ids, "dimensions": call.dimensions is not None}
        case TextCall():
            needs = _native_needs(call) if facts.completions else _as_chat_needs(call)
        case _:
            needs = {}
    return tuple(need for need, needed in needs.items() if needed and not getattr(facts, need))


def missing(call: Call, facts: Facts) -> str:
    """Name what ``call`` needs and a model with ``facts`` lacks, for the caller to read; empty if nothing."""
    return ", ".join(WORDS[need] for need in needs_lacking(call, facts))


def unsupported(call: Call, lacking: Mapping[str, tuple[str, ...]]) -> ServerError:
    """Return the refusal of ``call``: what each of some models, by name, lacks for it, and what to do.

    ``param`` is the field to leave out; ``model`` when no field can help.
    """
    told = "; ".join(
        f"{model} does not support {', '.join(WORDS[need] for need in needs)}"
        for model, needs in lacking.items()
    )
    # No field helps where every model lacks the whole call.
    helped = [needs for needs in lacking.values() if not WHOLE.intersection(needs)]
    if not helped:
        return ServerError(ErrorKind.UNSUPPORTED, f"{told}. Choose another model.", param="model")
    fields = tuple(dict.fromkeys(field for need in helped[0] for field in _fields(need, call)))
    leave = " and ".join(PARTS.get(field, f"`{field}`") for field in fields)
    return ServerError(
        ErrorKind.UNSUPPORTED, f"{told}. Leave out {leave}, or choose another model.", param=fields[0]
    )


def _native_needs(call: TextCall) -> dict[str, bool]:
    sampling = call.sampling
    return {
        "token_ids": _has_ids(call),
        "logprobs": sampling.logprobs is not None,
        "choices": sampling.n > 1,
    }


def _as_chat_needs(call: TextCall) -> dict[str, bool]:
    """A text call to a model that only chats becomes a chat call: what has no place there is missing."""
    return {
        "chat": True,
        "token_ids": _has_ids(call),
        "completions": bool(call.suffix) or call.echo or call.sampling.logprobs is not None,
        "choices": call.sampling.n > 1,
    }


def _has_ids(call: TextCall) -> bool:
    return any(not isinstance(prompt, str) for prompt in call.prompts)


def _fields(need: str, call: Call) -> tuple[str, ...]:
    """Return the fields of the caller's request in which it asks for ``need``."""
    if isinstance(call, TextCall):
        beyond = {
            "suffix": bool(call.suffix),
            "echo": call.echo,
            "logprobs": call.sampling.logprobs is not None,
        }
        own = {"completions": tuple(field for field, given in beyond.items() if given)}
        return {**FIELDS, **own, "token_ids": ("prompt",)}[need]
    return FIELDS[need]


WHOLE = frozenset({"chat", "embeddings", "count_tokens"})
"""Capabilities without which no form of the call can be answered."""

FIELDS: dict[str, tuple[str, ...]] = {
    "tools": ("tools",),
    "images": ("messages",),
    "json_schema": ("response_format",),
    "json_object": ("response_format",),
    "grammar": ("guided_grammar",),
    "logprobs": ("logprobs",),
    "choices": ("n",),
    "token_ids": ("input",),
    "dimensions": ("dimensions",),
}
"""The request's field in which each capability is asked for."""

PARTS = {
    "messages": "the images in `messages`",
    "input": "the token ids in `input`",
    "prompt": "the token ids in `prompt`",
    "response_format": "the response format",
}
"""What to leave out where that is not the field itself, or where dialects name it differently."""

WORDS = {
    "chat": "chat",
    "completions": "text completion with suffix, echo or logprobs",
    "embeddings": "embeddings",
    "count_tokens": "counting tokens",
    "tools": "tools",
    "images": "images",
    "json_schema": "a response format with a JSON Schema",
    "json_object": "a JSON response format",
    "grammar": "output that follows a grammar",
    "logprobs": "log probabilities",
    "choices": "more than one choice (n)",
    "token_ids": "input as arrays of token ids",
    "dimensions": "a choice of dimensions",
}
"""How each capability is named in an error message."""
