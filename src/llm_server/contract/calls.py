"""What is asked: one frozen value per kind of request."""

from typing import Any, Literal, Self

import msgspec
from msgspec import Raw, Struct

from llm_server.contract.messages import Message


class Sampling(Struct, frozen=True, kw_only=True):
    """How the next token is chosen. ``None`` means the model's own default."""

    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    n: int = 1
    logprobs: int | None = None
    """Number of alternatives per token; 0 asks for the chosen token's only; ``None`` for none."""
    logit_bias: dict[str, float] | None = None


class Tool(Struct, frozen=True, kw_only=True):
    """A tool that the model may call.

    ``parameters`` is the JSON Schema's bytes, empty for a tool without parameters. ``type`` other than
    ``function`` is a tool of the caller's dialect alone: translations leave it out and say so.
    """

    name: str
    description: str = ""
    parameters: Raw = Raw(b"")
    strict: bool | None = None
    type: str = "function"


class ToolChoice(Struct, frozen=True):
    """Whether tools may, must or must not be called; ``name`` only with mode ``tool``."""

    mode: Literal["auto", "none", "required", "tool"]
    name: str = ""


class OutputFormat(Struct, frozen=True, kw_only=True):
    """The form that the answer must have: one constraint, whichever way it is enforced.

    ``schema`` (JSON Schema bytes) only with ``json_schema``, ``pattern`` only with ``regex``, ``choices``
    only with ``choice``, ``grammar`` (Lark, or EBNF as vLLM takes it) only with ``grammar``. ``schema_id``
    names a registered schema instead, in its latest version or in ``schema_version``; an early stage fills
    in its bytes. ``made_of``: the form that a stage of ours compiled to this grammar, for an engine that
    compiles by itself.
    """

    kind: Literal["json_object", "json_schema", "regex", "choice", "grammar"]
    schema: Raw = Raw(b"")
    schema_id: str = ""
    schema_version: int | None = None
    pattern: str = ""
    choices: tuple[str, ...] = ()
    grammar: str = ""
    name: str = ""
    description: str = ""
    strict: bool | None = None
    made_of: "OutputFormat | None" = None


class Reasoning(Struct, frozen=True, kw_only=True):
    """How much the model should think: OpenAI's effort word, or Anthropic's budget in tokens, or both."""

    effort: str = ""
    budget_tokens: int | None = None
    enabled: bool = True


class Call(Struct, frozen=True, kw_only=True):
    """What every request has.

    ``raw`` is the caller's body as received, in dialect ``dialect``: a provider that speaks the same dialect
    sends these bytes on (with the model's name replaced), so that unknown fields survive. A stage that
    changes the meaning calls :meth:`altered`, which drops them, or :meth:`amend`, which names the fields that
    changed and keeps the rest. ``headers`` are the dialect's own request headers that may go upstream
    (lower-case names), for example ``anthropic-beta``.
    """

    model: str
    dialect: str = ""
    raw: bytes = b""
    stream: bool = False
    headers: tuple[tuple[str, str], ...] = ()
    amended: frozenset[str] = frozenset()
    """Fields of this call that ``raw`` no longer tells: whoever sends ``raw`` writes these over it."""

    def altered(self, **changes: Any) -> Self:
        """Return this call with ``changes``; the caller's bytes no longer describe it and are dropped."""
        return msgspec.structs.replace(self, raw=b"", **changes)

    def amend(self, **changes: Any) -> Self:
        """Return this call with ``changes``; the caller's bytes still hold for everything else."""
        return msgspec.structs.replace(self, amended=self.amended | changes.keys(), **changes)

    def addressed(self, model: str) -> Self:
        """Return this call for the upstream model name ``model``; the caller's bytes stay."""
        return msgspec.structs.replace(self, model=model)


class ChatCall(Call, frozen=True, kw_only=True):
    """A conversation to continue. System turns stand in ``messages``, in place."""

    messages: tuple[Message, ...]
    tools: tuple[Tool, ...] = ()
    tool_choice: ToolChoice | None = None
    parallel_tools: bool | None = None
    sampling: Sampling = Sampling()
    output: OutputFormat | None = None
    reasoning: Reasoning | None = None
    user: str = ""
    include_usage: bool = False
    """Whether a streamed answer should end with usage as an event of its own (OpenAI's stream option)."""
    stream_structured: Literal["partial", "validated"] | None = None
    """How to stream an answer that must have a form: as it grows, or once it is valid; ``None``: either."""

    @property
    def forced_tool(self) -> Tool | None:
        """The one function that the answer must call, if there is one: its arguments are the answer then."""
        choice = self.tool_choice
        if choice is None or choice.mode not in {"tool", "required"}:
            return None
        fitting = [t for t in self.tools if choice.mode == "required" or t.name == choice.name]
        return fitting[0] if len(fitting) == 1 and fitting[0].type == "function" else None


class CountCall(ChatCall, frozen=True, kw_only=True):
    """How many input tokens would this conversation be?"""


class TextCall(Call, frozen=True, kw_only=True):
    """Legacy completion of one or many prompts, each text or token ids; choices are numbered in order."""

    prompts: tuple[str | tuple[int, ...], ...]
    sampling: Sampling = Sampling()
    suffix: str = ""
    echo: bool = False
    user: str = ""
    include_usage: bool = False


class EmbedCall(Call, frozen=True, kw_only=True):
    """Texts (or arrays of token ids) to embed, answered in order."""

    inputs: tuple[str | tuple[int, ...], ...]
    dimensions: int | None = None
    base64: bool = False
    """Whether the caller wants vectors as base64 of little-endian float32 instead of numbers."""
    user: str = ""
